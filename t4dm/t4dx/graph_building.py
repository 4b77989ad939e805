"""Building graphs, off the write path: a new one from a segment's vectors, or what a merge left of the graph
of its largest part, extended by the rest.

After each build the graph is audited: the nodes that no query reaches are written down with it, and how much
walks of several sizes find.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx import graph_files
from t4dm.t4dx.ann import Backend, Builder, Graph, Places, Scores, Space
from t4dm.t4dx.ann_placed import Placed, after_merge, unpack
from t4dm.t4dx.costs import is_worth_shortening
from t4dm.t4dx.graph_audit import unreached
from t4dm.t4dx.graph_files import Foot, packed
from t4dm.t4dx.graph_shelf import Key, Shelf, vectors_crc
from t4dm.t4dx.ladders import LADDER, ladder_of
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.shortening import KEPT, NARROWEST, basis_of
from t4dm.t4dx.types import Collection, Float32s

STEP: Final = 512
"""Vectors added between two looks at whether to give up: about a second at 1M x 1024."""
SAMPLE: Final = 1024
LEARNT: Final = 8192
"""Vectors from which the directions of shortened points are learnt, about."""
DEAD: Final = 0.2
"""The share of nodes without a row above which a graph is built anew."""
LONELY: Final = 0.01
"""The share of unreached nodes above which an extended graph is built anew."""
USELESS: Final = 0.2
"""The share of unreached nodes above which a graph is not worth its walk."""


class Origin(NamedTuple):
    """Where the first vectors of a merged segment come from: places of another one, ascending."""

    source: Segment
    kept: Places


class _Bounds(NamedTuple):
    """Of all points: the least and the greatest of each coordinate, and some of them."""

    lows: Scores
    highs: Scores
    sample: NDArray[np.float32]


class _Made(NamedTuple):
    """A graph as built: who holds it, where its nodes lie, and the place of each."""

    builder: Builder
    space: Space
    places: NDArray[np.int32]

    @property
    def is_own(self) -> bool:
        """Whether node i holds place i."""
        return np.array_equal(self.places, np.arange(len(self.places)))


class _Audit(NamedTuple):
    """The places that no query reaches, and what walks find; nothing is measured where many are out of
    reach.
    """

    lonely: Places
    ladder: tuple[float, ...]

    def is_good(self, space: Space) -> bool:
        """Whether shortened points do; whole ones always do, there is nothing better."""
        return space.basis is None or is_worth_shortening(self.ladder, space.width, space.dim)


@final
class Nursery:
    """Builds the graphs of a shelf, one at a time; whoever calls sees to that.

    Attributes:
        built, extended: how many, from nothing and from an older graph. seconds: all of it took.
        failures: what went wrong, by segment and collection; not tried again while the store is open.
        now: what is being built.
    """

    def __init__(self, shelf: Shelf, *, threads: int) -> None:
        self.built = self.extended = 0
        self.seconds = 0.0
        self.failures: dict[Key, str] = {}
        self.now: Key | None = None
        self._shelf, self._threads = shelf, threads
        self._inherited: set[Key] = set()

    def inherit(self, segment: Segment, origins: dict[int, Origin]) -> None:
        """Give a merged segment what holds of the graphs of its largest parts, until its own is built."""
        for code, (source, kept) in origins.items():
            graph = source.graphs.get(code)
            if graph is not None and code in self._shelf.wanted(segment):
                segment.graphs[code] = after_merge(graph, kept)
                self._inherited.add((segment.entry.id, code))

    def next(self, segments: list[Segment]) -> tuple[Segment, int] | None:
        """The largest set of vectors that has no graph of its own."""
        waiting = [
            (count, segment, code)
            for segment in segments
            for code, count in self._shelf.wanted(segment).items()
            if self.waits(segment, code) and (segment.entry.id, code) not in self.failures
        ]
        return max(waiting, key=lambda one: one[0])[1:] if waiting else None

    def waits(self, segment: Segment, code: int) -> bool:
        """Whether a graph of its own is missing."""
        return segment.graph(code) is None or (segment.entry.id, code) in self._inherited

    def build(self, segment: Segment, code: int, *, number: int, pulse: Callable[[], None]) -> None:
        """Build, write and use the graph over one set of vectors; raises OSError, CorruptionError,
        ImportError, and what `pulse` does.
        """
        started, key = time.perf_counter(), (segment.entry.id, code)
        self.now = key
        try:
            self._build(segment, code, number, pulse, started)
        finally:
            self.now = None
            self.seconds += time.perf_counter() - started

    def _build(
        self, segment: Segment, code: int, number: int, pulse: Callable[[], None], started: float
    ) -> None:
        shelf, key = self._shelf, (segment.entry.id, code)
        vectors, row = segment.vectors(code), shelf.collections.rows[code]
        backend, inherited = shelf.backend, segment.graphs.get(code)
        if backend is None:
            raise ImportError("the library of graphs cannot be imported; see the warning")
        made = None if inherited is None else self._extend(inherited, vectors, pulse)
        found = None if made is None else _audited(made, vectors, row.metric, pulse)
        if made is not None and found is not None and found.is_good(made.space):
            self.extended += 1
        else:
            made, found = self._anew(backend, vectors, row, pulse)
            self.built += 1
        if len(found.lonely) > USELESS * len(vectors):
            self.failures[key] = f"{len(found.lonely)} of {len(vectors)} vectors are out of its reach"
            return

        def foot(structure: int, size: int, sums: bytes) -> Foot:
            basis = made.space.basis
            return Foot(
                segment=key[0],
                collection=code,
                dim=row.dim,
                metric=row.metric,
                vectors=vectors_crc(segment, code),
                rows=len(vectors),
                nodes=made.builder.nodes,
                backend=backend.name,
                version=backend.version,
                structure=structure,
                size=size,
                sums=sums,
                ladder=[[size, share] for size, share in zip(LADDER, found.ladder, strict=True)],
                basis=b"" if basis is None else basis.tobytes(),
                unreached=packed(found.lonely),
                places=b"" if made.is_own else packed(made.places),
                seconds=time.perf_counter() - started,
            )

        graph_files.write(shelf.fs, shelf.folder, number, made.builder, foot, pulse=pulse)
        shelf.replace(segment, code)
        self._inherited.discard(key)

    def _anew(
        self, backend: Backend, vectors: Float32s, row: Collection, pulse: Callable[[], None]
    ) -> tuple[_Made, _Audit]:
        """A graph of shortened points where those are enough, else of whole ones."""
        whole = Space(row.metric, row.dim)
        spaces = [whole]
        if backend.shortens and row.dim >= NARROWEST:
            sample = vectors[:: max(1, len(vectors) // LEARNT)]
            spaces.insert(0, whole._replace(basis=basis_of(whole.points(sample), KEPT)))
        for space in spaces:
            pulse()
            bounds = extent(vectors, space, pulse)
            builder = backend.start(
                space, lows=bounds.lows, highs=bounds.highs, sample=bounds.sample, threads=self._threads
            )
            _add(builder, space, vectors, 0, pulse)
            made = _Made(builder, space, np.arange(len(vectors), dtype=np.int32))
            found = _audited(made, vectors, row.metric, pulse)
            if found.is_good(space):
                break
        return made, found

    def _extend(self, graph: Graph, vectors: Float32s, pulse: Callable[[], None]) -> _Made | None:
        """A graph with the vectors that it lacks; None where it should be built anew."""
        inner, places = unpack(graph)
        held = self._shelf.checked(inner)
        if held is None or self._shelf.backend is None or len(places) - graph.rows > DEAD * len(places):
            return None
        space, fresh = held.foot.space, vectors[graph.rows :]
        bounds = extent(fresh, space, pulse)
        builder = self._shelf.backend.resume(
            held.body, space, lows=bounds.lows, highs=bounds.highs, threads=self._threads
        )
        if builder is None:
            return None
        _add(builder, space, vectors, graph.rows, pulse)
        places = np.concatenate((places, np.arange(graph.rows, len(vectors), dtype=np.int32)))
        if len(fresh) and len(_lonely(builder, places)) > LONELY * len(vectors):
            return None
        return _Made(builder, space, places)


def extent(vectors: Float32s, space: Space, pulse: Callable[[], None]) -> _Bounds:
    """Where vectors lie in a space."""
    lows = np.full(space.width, np.inf, np.float32)
    highs = -lows
    for chunk in _chunks(vectors, 0, pulse):
        points = space.points(chunk)
        np.minimum(lows, points.min(axis=0), out=lows)
        np.maximum(highs, points.max(axis=0), out=highs)
    return _Bounds(lows, highs, space.points(vectors[:: max(1, len(vectors) // SAMPLE)]))


def _add(builder: Builder, space: Space, vectors: Float32s, first: int, pulse: Callable[[], None]) -> None:
    for chunk in _chunks(vectors, first, pulse):
        builder.add(space.points(chunk))


def _chunks(vectors: Float32s, first: int, pulse: Callable[[], None]) -> Iterator[Float32s]:
    for start in range(first, len(vectors), STEP):
        pulse()
        yield vectors[start : start + STEP]


def _audited(made: _Made, vectors: Float32s, metric: str, pulse: Callable[[], None]) -> _Audit:
    lonely = _lonely(made.builder, made.places)
    if len(lonely) > USELESS * len(vectors):
        return _Audit(lonely, (0.0,) * len(LADDER))
    pulse()
    graph = made.builder.graph()
    if not made.is_own:
        graph = Placed(graph, made.places, rows=len(vectors), unreached=lonely)
    return _Audit(lonely, ladder_of(graph, vectors, metric, pulse=pulse))


def _lonely(builder: Builder, places: NDArray[np.int32]) -> Places:
    """The places that no query reaches, ascending."""
    found = places[unreached(builder.links())]
    return np.sort(found[found >= 0]).astype(np.int64)
