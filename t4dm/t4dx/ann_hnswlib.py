"""The second back-end: hnswlib over float32 vectors, an extra because it has no wheels.

Only its links are stored; the vectors come from the segment when it is loaded, into memory once more. It
cannot filter in C++, so a search with a filter asks for more and drops what is not allowed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, final

import hnswlib
import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import NOWHERE, Bitmap, Builder, Graph, Links, Places, Scores, Space, padded

LINKS: Final = 16
CONSTRUCTION: Final = 100
_SEED: Final = 100
_SPARE: Final = 1.5  # how many more than its share of the answers a filtered search asks for
_ARRAYS: Final = ("element_levels", "link_lists", "label_lookup_external", "label_lookup_internal")
_LABEL: Final = 8  # bytes


@final
class HnswlibGraph:
    """An index in memory. `ef` belongs to the index and is lost when it is saved: it is set for each search,
    under a lock.
    """

    def __init__(self, index: Any, space: Space) -> None:
        self.rows: int = index.element_count
        self.width = space.width
        self.unreached: Places = NOWHERE
        self.ladder: tuple[float, ...] | None = None
        self._index, self._space, self._lock = index, space, threading.Lock()

    def search(
        self, queries: NDArray[np.float32], k: int, *, ef: int, allowed: Bitmap | None = None
    ) -> tuple[Scores, Places]:
        """See `Graph`. With a filter it may find fewer than there are."""
        points = self._space.queries(queries)
        if allowed is None:
            return self._nearest(points, min(k, self.rows), k, ef)
        mask = np.unpackbits(allowed, bitorder="little", count=self.rows).astype(bool)
        count = int(mask.sum())
        wanted = min(k, count)
        scores, places = np.zeros((len(points), 0), np.float32), np.zeros((len(points), 0), np.int64)
        asked = int(min(self.rows, _SPARE * k * self.rows / max(1, count) + 16)) if count else 0
        for more in (asked, min(self.rows, 4 * asked)) if count else ():
            scores, places = self._nearest(points, more, more, ef)
            kept = (places >= 0) & mask[places]
            scores, places = np.where(kept, scores, -np.inf), np.where(kept, places, -1)
            if (kept.sum(axis=1) >= wanted).all():
                break
        order = np.argsort(places < 0, axis=1, kind="stable")[:, :k]
        return padded(
            np.take_along_axis(scores, order, axis=1).astype(np.float32),
            np.take_along_axis(places, order, axis=1),
            k,
        )

    def _nearest(self, points: NDArray[np.float32], n: int, k: int, ef: int) -> tuple[Scores, Places]:
        """The n nearest nodes, as k columns; fewer where the graph does not yield as many."""
        while n:
            with self._lock, contextlib.suppress(RuntimeError):
                self._index.set_ef(max(ef, n))
                labels, distances = self._index.knn_query(points, n, num_threads=1)
                return padded(-distances, labels, k)
            n //= 2  # it finds no n of them
        return padded(np.zeros((len(points), 0), np.float32), np.zeros((len(points), 0), np.int64), k)


@final
class HnswlibBuilder:
    """An index that grows; a node's label is its number."""

    def __init__(self, index: Any, space: Space, *, threads: int) -> None:
        self._index, self._space, self._threads = index, space, threads

    @property
    def nodes(self) -> int:
        """How many it has."""
        count: int = self._index.element_count
        return count

    def add(self, points: NDArray[np.float32]) -> None:
        """Append points; hnswlib lets go of the interpreter meanwhile."""
        first = self.nodes
        last = first + len(points)
        if last > self._index.max_elements:
            self._index.resize_index(max(last, 2 * self._index.max_elements))
        self._index.add_items(points, np.arange(first, last), num_threads=self._threads)

    def links(self) -> Links:
        """The lowest level, by labels."""
        state = self._index.__getstate__()[0]
        near, labels = _lowest(state)
        order = np.argsort(labels)
        named = np.append(labels, -1)[near].astype(np.int32)
        return Links(self.nodes, int(labels[state["enterpoint_node"]]), lambda rows: named[order[rows]])

    def graph(self) -> Graph:
        """The index itself."""
        return HnswlibGraph(self._index, self._space)

    def write(self, take: Callable[[bytes], None]) -> int:
        """The state of the index but for the vectors; all of it must be right."""
        data = msgpack.packb(_packed(self._index.__getstate__()[0]), use_bin_type=True)
        take(data)
        return len(data)


@final
class HnswlibBackend:
    """Graphs by hnswlib."""

    name, version, shortens = "hnswlib", version("hnswlib"), False

    def start(
        self, space: Space, *, lows: Scores, highs: Scores, sample: NDArray[np.float32], threads: int
    ) -> Builder:
        """An empty index."""
        index = hnswlib.Index(_space(space), space.dim)
        index.init_index(1024, M=LINKS, ef_construction=CONSTRUCTION, random_seed=_SEED)
        return HnswlibBuilder(index, space, threads=threads)

    def reads(self, version: str) -> bool:
        """Its layout is documented nowhere."""
        return version == self.version

    def resume(
        self, body: Bitmap, space: Space, *, lows: Scores, highs: Scores, threads: int
    ) -> Builder | None:
        """Never: dropped rows have no vectors any more."""
        return None

    def load(
        self, body: Bitmap, space: Space, vectors: Callable[[], NDArray[np.float32]], *, nodes: int
    ) -> Graph | None:
        """The index with its vectors put back."""
        state = msgpack.unpackb(body.tobytes(), raw=False)
        points = space.points(vectors()[:nodes])
        if state.get("count") != nodes or len(points) != nodes:
            return None
        state = _unpacked(state, points, space)
        if not sound(state, nodes):
            return None
        return HnswlibGraph(hnswlib.Index(params=state), space)


def sound(state: dict[str, Any], nodes: int) -> bool:
    """Whether every number that hnswlib takes for a place in memory is one."""
    size, room = state["size_links_per_element"], state["max_M0"]
    near, labels = _lowest(state)
    counts = _records(state)[:, :2].copy().view(np.uint16).ravel()
    levels = state["element_levels"]
    if not 0 <= state["enterpoint_node"] < nodes or (counts > room).any() or len(levels) != nodes:
        return False
    if near.max(initial=-1) >= nodes or not np.array_equal(np.sort(labels), np.arange(nodes)):
        return False
    if levels.min() < 0 or levels[state["enterpoint_node"]] != state["max_level"]:
        return False
    upper = np.frombuffer(state["link_lists"], np.uint8)
    if levels.max() != state["max_level"] or len(upper) != int(levels.sum()) * size:
        return False
    lists = upper.reshape(-1, size)
    filled = lists[:, :2].copy().view(np.uint16).ravel()
    links = lists[:, 4:].copy().view(np.uint32)
    used = np.arange(links.shape[1]) < filled[:, None]
    level = np.concatenate([np.arange(1, n + 1) for n in levels[levels > 0].tolist()] or [levels[:0]])
    there = np.append(levels, -1)[np.where(used, np.minimum(links, nodes), nodes)]
    return not ((filled > links.shape[1]).any() or (used & (there < level[:, None])).any())


def _space(space: Space) -> str:
    return "ip" if space.inner else "l2"


def _records(state: dict[str, Any]) -> NDArray[np.uint8]:
    """The lowest level: links, vector and label of each node."""
    data = np.frombuffer(state["data_level0"], np.uint8)
    return data.reshape(-1, state["size_data_per_element"])[: state["cur_element_count"]]


def _lowest(state: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours [n, 2M] on the lowest level, -1 for none, and labels [n]."""
    records, at = _records(state), state["label_offset"]
    counts = records[:, :2].copy().view(np.uint16)
    near = records[:, 4 : 4 + 4 * state["max_M0"]].copy().view(np.uint32).astype(np.int64)
    near[np.arange(near.shape[1]) >= counts] = -1
    return near, records[:, at : at + _LABEL].copy().view(np.int64).ravel()


def _packed(state: dict[str, Any]) -> dict[str, Any]:
    """A state without vectors, as plain values."""
    records, at = _records(state), state["offset_data"]
    links = records[:, :at]
    kept = {
        "count": state["cur_element_count"],
        "links": links.tobytes(),
        "labels": _lowest(state)[1].tobytes(),
    }
    for name, value in state.items():
        if name in _ARRAYS:
            kept[name] = [
                value.dtype.str,
                value[: len(records)].tobytes() if name != "link_lists" else value.tobytes(),
            ]
        elif name != "data_level0":
            kept[name] = value
    return kept


def _unpacked(state: dict[str, Any], points: NDArray[np.float32], space: Space) -> dict[str, Any]:
    """The state that hnswlib knows, with the vectors in their places."""
    count, width, at = state.pop("count"), state["size_data_per_element"], state["offset_data"]
    labels = np.frombuffer(state.pop("labels"), np.int64)
    records = np.zeros((count, width), np.uint8)
    records[:, :at] = np.frombuffer(state.pop("links"), np.uint8).reshape(count, at)
    octets = np.ascontiguousarray(points[np.clip(labels, 0, count - 1)]).view(np.uint8)
    records[:, at : at + 4 * space.dim] = octets
    records[:, -_LABEL:] = labels.view(np.uint8).reshape(count, _LABEL)
    for name in _ARRAYS:
        kind, data = state[name]
        state[name] = np.frombuffer(data, kind).copy()
    return {**state, "data_level0": records.reshape(-1).view(np.int8), "max_elements": count}
