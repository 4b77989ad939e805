"""The graphs of one open store: found when a search first asks, checked, kept as long as somebody uses them.

Where bytes of a file could lead a library astray they are checked before it sees them. The codes behind them
only say how near things are, and answers are scored from the vectors: large ones are checked by a thread,
while the first searches run, and a graph that turns out damaged is dropped.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, final

import numpy as np

from t4dm.errors import CorruptionError, GraphLibraryWarning
from t4dm.t4dx import graph_backends, graph_files
from t4dm.t4dx.ann import Backend, Bitmap, Graph
from t4dm.t4dx.ann_placed import Placed, unpack
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.graph_files import Foot, int32s
from t4dm.t4dx.ladders import LADDER
from t4dm.t4dx.registry import Collections
from t4dm.t4dx.segment import VECTORS, Segment, column_of

AT_ONCE: Final = 4 << 20
"""Bytes of codes above which a thread checks them."""
Key = tuple[int, int]  # segment, collection


class Loaded(NamedTuple):
    """A graph's file: its foot and its bytes, mapped."""

    foot: Foot
    data: Bitmap

    @property
    def body(self) -> Bitmap:
        """What the library wrote."""
        return self.data[: self.foot.size]


class _Closed(Exception):
    """The store was closed meanwhile."""


@final
class Shelf:
    """Finds graphs. Thread-safe.

    Args:
        index: the library, as in `Options.index`.
        smallest: the number of vectors from which on a segment has a graph.
    """

    def __init__(
        self, fs: FileSystem, folder: str, collections: Collections, *, index: str, smallest: int
    ) -> None:
        self.fs, self.folder, self.collections, self.smallest = fs, folder, collections, smallest
        self.library = graph_backends.chosen(index)
        self.files: weakref.WeakKeyDictionary[Graph, Loaded] = weakref.WeakKeyDictionary()
        self.lost: Callable[[], None] = lambda: None
        self._known: weakref.WeakValueDictionary[tuple[int, int, int], Graph] = weakref.WeakValueDictionary()
        self._segments: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._lock, self._backend, self._closed = threading.RLock(), None, False
        self._damaged: dict[Key, bytes] = {}

    _backend: Backend | None

    @property
    def backend(self) -> Backend | None:
        """The library, imported at its first use; None for none."""
        with self._lock:
            if self._backend is None and self.library:
                try:
                    self._backend = graph_backends.backend(self.library)
                except ImportError:  # installed, and broken
                    warnings.warn(GraphLibraryWarning(self.library, ""), stacklevel=3)
                    self.library = ""
            return self._backend

    def adopt(self, segments: Iterable[Segment]) -> None:
        """Look for the graphs of these segments when they are asked for; again where there was none."""
        with self._lock:
            for segment in segments:
                segment.finder = self.find
                segment.graphs = {code: graph for code, graph in segment.graphs.items() if graph is not None}
                self._segments.add(segment)

    def close(self) -> None:
        """Stop the threads that check."""
        self._closed = True

    def wanted(self, segment: Segment) -> dict[int, int]:
        """The collections of which a segment has enough vectors for a graph, and how many; none where the
        table of its vectors is damaged, which a search will tell.
        """
        if not self.library:
            return {}
        try:
            counts = segment.vector_counts()
        except CorruptionError:
            return {}
        return {code: count for code, count in counts.items() if count >= self.smallest}

    def find(self, segment: Segment, code: int) -> Graph | None:
        """The graph over a segment's vectors; the segment remembers it, and also that there is none."""
        with self._lock:
            if code not in segment.graphs:
                segment.graphs[code] = self._find(segment, code)
            return segment.graphs[code]

    def replace(self, segment: Segment, code: int) -> None:
        """Use the graph that was just written."""
        with self._lock:
            segment.graphs[code] = self._find(segment, code)

    def checked(self, graph: Graph) -> Loaded | None:
        """The file of a graph, if every byte of it is right."""
        found = self.files.get(graph)
        if found is None or not graph_files.intact(found.data, found.foot, first=0, last=found.foot.size):
            return None
        return found

    def file_of(self, graph: Graph | None) -> Loaded | None:
        """The file in which a graph lies, also the part of it that a merge left."""
        return None if graph is None else self.files.get(unpack(graph)[0])

    def drop(self, key: Key) -> None:
        """Forget a damaged graph; searches go on without it."""
        with self._lock:
            for segment in self._segments:
                if segment.entry.id == key[0]:
                    segment.graphs[key[1]] = None
            for known in [known for known in self._known if known[:2] == key]:
                self._known.pop(known, None)
        self.lost()

    def _find(self, segment: Segment, code: int) -> Graph | None:
        count = self.wanted(segment).get(code, 0)
        crc = vectors_crc(segment, code)
        if not count or self.backend is None:
            return None
        key = segment.entry.id, code
        if (known := self._known.get((*key, crc))) is not None:
            return known
        found = self._map(key)
        if found is None:
            return None
        graph = self._load(found, segment, code)
        if graph is None or not self._check_rest(key, found):
            self._damaged[key] = _tail(found.data)
            self.lost()
            return None
        self._known[(*key, crc)] = graph
        return graph

    def _map(self, key: Key) -> Loaded | None:
        """The file of a graph, its foot checked; None where it is absent, damaged, or known to be."""
        path = graph_files.path_of(self.folder, *key, self.library)
        try:
            if not self.fs.exists(path) or not self.fs.size(path):
                return None
            data = self.fs.map_bytes(path)
        except OSError:
            return None
        if self._damaged.get(key) == _tail(data):
            return None
        foot = graph_files.read_foot(data)
        return None if foot is None else Loaded(foot, data)

    def _load(self, found: Loaded, segment: Segment, code: int) -> Graph | None:
        foot, backend, row = found.foot, self.backend, self.collections.rows[code]
        count = self.wanted(segment).get(code, 0)
        if (
            backend is None
            or (foot.segment, foot.collection) != (segment.entry.id, code)
            or (foot.dim, foot.metric) != (row.dim, row.metric)
            or foot.vectors != vectors_crc(segment, code)
            or not 0 < foot.rows <= count
            or len(foot.basis) % (4 * foot.dim)
            or not backend.reads(foot.version)
            or not graph_files.intact(found.data, foot, first=0, last=foot.structure)
        ):
            return None
        inner = backend.load(found.body, foot.space, lambda: segment.vectors(code), nodes=foot.nodes)
        if inner is None:
            return None
        nodes = int32s(foot.places)
        inner.ladder = tuple(share for _, share in foot.ladder)
        if [size for size, _ in foot.ladder] != list(LADDER):
            inner.ladder = None  # other sizes were measured
        self.files[inner] = found
        inner.unreached = int32s(foot.unreached).astype(np.int64)
        return Placed(inner, nodes, rows=foot.rows, unreached=inner.unreached) if len(nodes) else inner

    def _check_rest(self, key: Key, found: Loaded) -> bool:
        """Check the bytes that the library only computes with: now where they are few, else in a thread."""
        if found.foot.size - found.foot.structure <= AT_ONCE:
            return self._rest_is_right(found)
        threading.Thread(target=self._check, args=(key, found), daemon=True, name="t4dx-check").start()
        return True

    def _check(self, key: Key, found: Loaded) -> None:
        try:
            right = self._rest_is_right(found)
        except _Closed:
            return
        if not right:
            self._damaged[key] = _tail(found.data)
            self.drop(key)

    def _rest_is_right(self, found: Loaded) -> bool:
        foot = found.foot
        return graph_files.intact(found.data, foot, first=foot.structure, last=foot.size, pulse=self._go_on)

    def _go_on(self) -> None:
        if self._closed:
            raise _Closed


def vectors_crc(segment: Segment, code: int) -> int:
    """The checksum of the file that holds a segment's vectors; -1 where there is none."""
    name = f"{VECTORS}{code}"
    return next((file.crc for file in segment.entry.files if column_of(file.name) == name), -1)


def _tail(data: Bitmap) -> bytes:
    """What tells a file from the one that takes its place: the end of the foot, its checksum with it."""
    return data[-16:].tobytes()
