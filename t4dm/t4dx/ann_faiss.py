"""The default back-end: faiss HNSW over 8-bit codes, searched where the file is mapped.

A bitmap of allowed places filters inside the walk. Codes are one byte a coordinate between the least and the
greatest value of that coordinate; where they would blur the order too much, as beside outliers, the graph
holds float32 instead. Of long vectors it holds the principal coordinates where those do. One thread builds
the same graph from the same vectors each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import faiss
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import NOWHERE, Bitmap, Builder, Graph, Links, Places, Scores, Space

LINKS: Final = 16
"""Neighbours of a node above the lowest level; twice as many on it."""
CONSTRUCTION: Final = 100
"""Candidates kept while a node is linked."""
_BEYOND: Final = 0.1  # of a coordinate's span: how far outside of it new vectors may lie
_PIECE: Final = 1 << 20  # bytes handed over at once
_BLUR: Final = 0.01  # of a squared distance: noise of the codes above it changes who is near


@final
class FaissGraph:
    """An index as faiss holds it; the arrays of a mapped file stay alive as long as it does."""

    def __init__(self, index: Any, space: Space, *, body: Bitmap | None = None) -> None:
        self.rows: int = index.ntotal
        self.width = space.width
        self.unreached: Places = NOWHERE
        self.ladder: tuple[float, ...] | None = None
        self._index, self._space, self._body = index, space, body

    def search(
        self, queries: NDArray[np.float32], k: int, *, ef: int, allowed: Bitmap | None = None
    ) -> tuple[Scores, Places]:
        """See `Graph`."""
        params = faiss.SearchParametersHNSW()
        params.efSearch = max(ef, k)
        if allowed is not None:
            bits = np.ascontiguousarray(allowed, np.uint8)
            params.sel = sel = faiss.IDSelectorBitmap(bits)  # both live until the search is over
        scores, places = self._index.search(self._space.aimed(queries), k, params=params)
        if allowed is not None:
            del sel, bits
        return (scores if self._space.inner else -scores), places


@final
class FaissBuilder:
    """An index that grows."""

    def __init__(self, index: Any, space: Space, *, threads: int) -> None:
        self._index, self._space, self._threads = index, space, threads

    @property
    def nodes(self) -> int:
        """How many it has."""
        count: int = self._index.ntotal
        return count

    def add(self, points: NDArray[np.float32]) -> None:
        """Append points; faiss lets go of the interpreter meanwhile. The number of threads is that of the
        calling thread alone.
        """
        faiss.omp_set_num_threads(self._threads)
        self._index.add(points)

    def links(self) -> Links:
        """The lowest level."""
        return _links(self._index.hnsw, self.nodes)

    def graph(self) -> Graph:
        """The index itself."""
        return FaissGraph(self._index, self._space)

    def write(self, take: Callable[[bytes], None]) -> int:
        """The index as faiss writes it: its codes come last."""
        size = 0

        def forward(data: bytes) -> int:
            nonlocal size
            take(bytes(data))
            size += len(data)
            return len(data)

        writer = faiss.PyCallbackIOWriter(forward, _PIECE)
        faiss.write_index(self._index, writer)
        del writer  # hands over what it still holds
        return size - self.nodes * int(faiss.downcast_index(self._index.storage).code_size)


@final
class FaissBackend:
    """Graphs by faiss."""

    name, version, shortens = "faiss", str(faiss.__version__), True

    def start(
        self, space: Space, *, lows: Scores, highs: Scores, sample: NDArray[np.float32], threads: int
    ) -> Builder:
        """8-bit codes where their steps are small beside the distances in the sample, float32 elsewhere."""
        metric = faiss.METRIC_INNER_PRODUCT if space.inner else faiss.METRIC_L2
        if blur(lows, highs, sample) <= _BLUR:
            index = faiss.IndexHNSWSQ(space.width, faiss.ScalarQuantizer.QT_8bit, LINKS, metric)
            index.train(np.stack((lows, highs)))
        else:
            index = faiss.IndexHNSWFlat(space.width, LINKS, metric)
        index.hnsw.efConstruction = CONSTRUCTION
        return FaissBuilder(index, space, threads=threads)

    def reads(self, version: str) -> bool:
        """faiss reads what older ones of the same major version wrote."""
        return version.split(".")[0] == self.version.split(".")[0]

    def resume(
        self, body: Bitmap, space: Space, *, lows: Scores, highs: Scores, threads: int
    ) -> Builder | None:
        """A copy that owns its arrays, where the new points fit its codes."""
        index = faiss.deserialize_index(np.ascontiguousarray(body))
        if not _fits(faiss.downcast_index(index.storage), lows, highs):
            return None
        index.hnsw.efConstruction = CONSTRUCTION
        return FaissBuilder(index, space, threads=threads)

    def load(
        self, body: Bitmap, space: Space, vectors: Callable[[], NDArray[np.float32]], *, nodes: int
    ) -> Graph | None:
        """The index over the bytes themselves; neighbours and codes are not copied."""
        reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(body), body.nbytes)
        index = faiss.read_index(reader)
        return FaissGraph(index, space, body=body) if sound(index, space, nodes) else None


def blur(lows: Scores, highs: Scores, sample: NDArray[np.float32]) -> float:
    """How far 8-bit codes throw off a squared distance d^2, as a part of it: rounding by steps s_i adds noise
    of variance s_i^2 / 12 to each of D coordinates, so 2 sqrt(sum s_i^2 / 12 / D) / d. For d stands the
    median distance of a sample from its centre, which no outlier moves.
    """
    noise = np.square((highs.astype(np.float64) - lows) / 255.0).sum() / 12.0
    centre = np.median(sample, axis=0)
    distance = np.median(np.square(sample.astype(np.float64) - centre).sum(axis=1))
    return float(2.0 * np.sqrt(noise / len(lows) / distance)) if distance > 0 else np.inf


def _fits(storage: Any, lows: Scores, highs: Scores) -> bool:
    """Whether coordinates lie where the codes reach, or hardly beyond: codes end at the bounds."""
    if not isinstance(storage, faiss.IndexScalarQuantizer):
        return True
    least, span = faiss.vector_to_array(storage.sq.trained).reshape(2, -1)
    return bool((least - lows <= _BEYOND * span).all() and (highs - least <= (1 + _BEYOND) * span).all())


def sound(index: Any, space: Space, nodes: int) -> bool:
    """Whether every number that faiss takes for a place in memory is one."""
    if not isinstance(index, faiss.IndexHNSW) or (index.d, index.ntotal) != (space.width, nodes):
        return False
    hnsw, storage = index.hnsw, faiss.downcast_index(index.storage)
    if storage.ntotal != nodes or storage.codes.size() != nodes * storage.code_size:
        return False
    levels, starts = faiss.vector_to_array(hnsw.levels), faiss.vector_to_array(hnsw.offsets)
    room = faiss.vector_to_array(hnsw.cum_nneighbor_per_level)
    links = _array(hnsw.neighbors)
    if len(levels) != nodes or len(starts) != nodes + 1 or not nodes or room[:2].tolist() != [0, 2 * LINKS]:
        return False
    if (np.diff(room) < 0).any() or levels.min() < 1 or levels.max() >= len(room) or starts[0] != 0:
        return False
    if (np.diff(starts.astype(np.int64)) != room[levels]).any() or len(links) != starts[-1]:
        return False
    if links.min(initial=-1) < -1 or links.max(initial=-1) >= nodes:
        return False
    if not 0 <= hnsw.entry_point < nodes or levels[hnsw.entry_point] != hnsw.max_level + 1:
        return False
    return hnsw.max_level + 1 == levels.max() and _levels_hold(links, levels, starts, room)


def _levels_hold(links: Any, levels: Any, starts: Any, room: Any) -> bool:
    """Whether above the lowest level nobody is linked to a node that is not there."""
    for level in range(1, int(levels.max())):
        rows = np.flatnonzero(levels > level)
        spans = starts[rows].astype(np.int64)[:, None] + np.arange(room[level], room[level + 1])
        near = links[spans]
        if (levels[near[near >= 0]] <= level).any():
            return False
    return True


def _links(hnsw: Any, nodes: int) -> Links:
    starts, links = faiss.vector_to_array(hnsw.offsets).astype(np.int64), _array(hnsw.neighbors)
    columns = np.arange(2 * LINKS)
    return Links(nodes, int(hnsw.entry_point), lambda rows: links[starts[rows][:, None] + columns])


def _array(vector: Any) -> NDArray[np.int32]:
    """The memory of a C++ vector of int32, not copied."""
    found: NDArray[np.int32] = faiss.rev_swig_ptr(vector.data(), vector.size())
    return found
