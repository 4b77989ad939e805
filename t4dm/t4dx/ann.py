"""The one port to approximate search: a graph over a prefix of a segment's vectors, and who builds one.

A graph is derived from the vectors and disposable. It only proposes candidates: whoever asks scores them from
the stored float32 vectors, scans the places that no query reaches, and those behind `rows`. A deleted row is
kept out by the bitmap of allowed places; nothing is ever removed from a graph.

`Exact` is the naive reference for every other graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.shortening import shortened

Scores = NDArray[np.float32]
Places = NDArray[np.int64]
Bitmap = NDArray[np.uint8]
NOWHERE: Final[Places] = np.zeros(0, np.int64)


class Graph(Protocol):
    """A proximity graph over places 0..rows-1 of one vector column.

    Attributes:
        rows: how many places it holds; those behind are not in it, the caller scores them exactly.
        width: numbers of a node. Where they are fewer than those of a vector the order of candidates is
            rough: ask for all that the walk keeps.
        unreached: places that no query reaches, ascending: the caller scores them exactly, always.
        ladder: what walks of the sizes `ladders.LADDER` find, as shares; None where nobody measured it.
    """

    rows: int
    width: int
    unreached: Places
    ladder: tuple[float, ...] | None

    def search(
        self, queries: NDArray[np.float32], k: int, *, ef: int, allowed: Bitmap | None = None
    ) -> tuple[Scores, Places]:
        """Up to k candidates for each query, best first. Thread-safe.

        Args:
            queries: [Q, D] as the user gave them, of any length.
            k: candidates for each query; ask for more than you need and re-rank them.
            ef: how many candidates the walk keeps (at least k): more find more and take longer.
            allowed: the places that may come back, one bit each, `np.packbits(mask, bitorder="little")`.

        Returns:
            Scores [Q, k], higher is better, good for nothing but the order within one query, and places
            [Q, k], -1 behind the last one.
        """
        ...


class Links(NamedTuple):
    """The lowest level of a graph: how many nodes, where a walk begins, and the neighbours [n, L] of some
    nodes [n], -1 for none.
    """

    nodes: int
    entry: int
    of: Callable[[Places], NDArray[np.int32]]


class Space(NamedTuple):
    """How vectors of a metric lie in a graph: directions for cosine, else as they are; with a `basis` [D, d]
    by their coordinates in it. Cosine and dot are compared by inner product, so that the length of a query
    does not matter.
    """

    metric: str
    dim: int
    basis: NDArray[np.float32] | None = None

    @property
    def width(self) -> int:
        """Numbers of a point."""
        return self.dim if self.basis is None else self.basis.shape[1] + 1

    @property
    def inner(self) -> bool:
        """Whether nodes are compared by inner product, not by distance."""
        return self.metric != "l2"

    def points(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Stored vectors [n, D] as points in the graph."""
        points = (
            _directions(vectors) if self.metric == "cosine" else np.ascontiguousarray(vectors, np.float32)
        )
        return points if self.basis is None else shortened(points, self.basis)

    def queries(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries [Q, D] as points: directions but for l2, so that no product is lost beside the 1 from which
        hnswlib takes it.
        """
        return self.aimed(_directions(queries) if self.inner else queries)

    def aimed(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Queries [Q, D] as points of whatever length, which changes no order of products."""
        points = np.ascontiguousarray(queries, np.float32)
        return points if self.basis is None else shortened(points, self.basis, rest=not self.inner)


class Builder(Protocol):
    """A graph in the making."""

    @property
    def nodes(self) -> int:
        """How many it has."""
        ...

    def add(self, points: NDArray[np.float32]) -> None:
        """Append points [n, D]. Lets other threads run meanwhile."""
        ...

    def links(self) -> Links:
        """Its lowest level."""
        ...

    def graph(self) -> Graph:
        """What it is now, to be searched until the next `add`."""
        ...

    def write(self, take: Callable[[bytes], None]) -> int:
        """Hand over its bytes, front to back; returns how many of them, from the first on, must be checked
        before the library sees any. Behind them lies only what distances are computed from.
        """
        ...


class Backend(Protocol):
    """A library that builds and searches graphs.

    Attributes:
        name: "faiss" or "hnswlib".
        version: of the library.
        shortens: whether it takes a space with a basis: what it writes holds the points.
    """

    name: str
    version: str
    shortens: bool

    def start(
        self, space: Space, *, lows: Scores, highs: Scores, sample: NDArray[np.float32], threads: int
    ) -> Builder:
        """An empty graph; `lows` and `highs` [D] are the least and the greatest of each coordinate,
        `sample` are some points [n, D].
        """
        ...

    def reads(self, version: str) -> bool:
        """Whether it can read what a version of the library wrote."""
        ...

    def resume(
        self, body: Bitmap, space: Space, *, lows: Scores, highs: Scores, threads: int
    ) -> Builder | None:
        """A copy of what `write` gave, to be extended by points within the bounds; None where it cannot."""
        ...

    def load(
        self, body: Bitmap, space: Space, vectors: Callable[[], NDArray[np.float32]], *, nodes: int
    ) -> Graph | None:
        """A graph from checked bytes, without a copy where possible; None where its parts contradict each
        other. `unreached` is left empty.
        """
        ...


@final
class Exact:
    """The reference: every place compared.

    Args:
        vectors: [n, D].
        metric: of the collection.
    """

    ladder: tuple[float, ...] | None

    def __init__(self, vectors: NDArray[np.float32], metric: str) -> None:
        self.rows, self.width = vectors.shape
        self.unreached, self.ladder = NOWHERE, None
        self._vectors, self._metric = vectors, metric

    def search(
        self, queries: NDArray[np.float32], k: int, *, ef: int = 0, allowed: Bitmap | None = None
    ) -> tuple[Scores, Places]:
        """The k best of all allowed places."""
        wide, asked = self._vectors.astype(np.float64), queries.astype(np.float64)
        scores = asked @ wide.T
        if self._metric == "cosine":
            lengths = np.sqrt(np.square(wide).sum(axis=1))
            scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
        elif self._metric == "l2":
            scores = 2.0 * scores - np.square(wide).sum(axis=1) - np.square(asked).sum(axis=1)[:, None]
        if allowed is not None:
            mask = np.unpackbits(allowed, bitorder="little", count=self.rows).astype(bool)
            scores[:, ~mask] = -np.inf
        places = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(scores, places, axis=1)
        places = np.where(np.isfinite(found), places, -1)
        return padded(found.astype(np.float32), places, k)


def padded(scores: Scores, places: NDArray[Any], k: int) -> tuple[Scores, Places]:
    """Scores and places [Q, n] brought to k columns, -inf and -1 behind."""
    missing = ((0, 0), (0, max(0, k - places.shape[1])))
    return (
        np.pad(scores, missing, constant_values=-np.inf),
        np.pad(places.astype(np.int64), missing, constant_values=-1),
    )


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [n, D] brought to norm 1; those without a direction stay zero."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    factors = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.multiply(vectors, factors[:, None], dtype=np.float64).astype(np.float32)
