"""The leanest Python program for each kind of search, and the calls into faiss that it spends its time in.

A graph of faiss over 8-bit codes, float32 vectors in a mapped file, one bit a coordinate, a column of kappas
and its order: no store, no versions, no deletes, no plan but two numbers of rows, and of what comes in only
the shape is checked. What else a search costs in T4DX is the distance from here.

`shortened` is the same over another graph, of the first principal coordinates alone: a step of a walk reads
less, and float32 products have to decide among more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple, final

import faiss
import numpy as np
from numpy.typing import NDArray

from experiments.storage_bench.data import Data

KEPT: Final = 20
"""Of what a walk proposes, compared again."""
FEW: Final = 256
"""Rows that pass a filter up to which all are compared as float32."""
MANY: Final = 15_000
"""Rows that pass a filter up to which their bits are compared: beyond a walk is shorter."""
SHORT: Final = 64
"""Coordinates of a short graph."""
_LINKS: Final = 16
_CONSTRUCTION: Final = 100
_SAMPLE: Final = 20_000  # rows whose principal coordinates are taken
_BLOCK: Final = 8192
Vectors = NDArray[np.float32]
Places = NDArray[np.int64]
Bits = NDArray[np.uint8]


class Effort(NamedTuple):
    """The size of a walk through the graph, and how many of the nearest by their bits are compared again."""

    walk: int
    short: int


_WALKS: Final = (16, 20, 24, 28, 32, 36, 40, 44, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 384, 512)
_SHORTS: Final = (
    20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1500, 2000, 3000
)  # fmt: skip
EFFORTS: Final = tuple(map(Effort, _WALKS, _SHORTS))


class Held(NamedTuple):
    """What a search reads.

    Attributes:
        graph: of faiss, over the vectors [N, D], which lie in a mapped file.
        kappas: of the same rows [N]. ids: of these and of later rows.
        centre: the mean vector [D]; a bit says whether a coordinate is above it.
        bits: of all rows, the later ones too [N + F, D / 8].
        fresh: vectors of the later rows [F, D], which no graph holds.
        turn: to the coordinates of the graph [D, d]; None where those are all.
    """

    graph: Any
    vectors: Vectors
    kappas: NDArray[np.float64]
    ids: list[str]
    centre: Vectors
    bits: Bits
    fresh: Vectors
    turn: Vectors | None = None


def held(folder: Path, data: Data, *, fresh: int = 0) -> Held:
    """The files that the adapter of faiss left in a folder, with some later rows beside them."""
    graph = faiss.read_index(str(folder / "index.faiss"))
    vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))
    later = np.ascontiguousarray(data.vectors[data.n : data.n + fresh])
    centre = vectors[:_BLOCK].mean(axis=0)
    parts = [part[at : at + _BLOCK] for part in (vectors, later) for at in range(0, len(part), _BLOCK)]
    bits = np.concatenate([np.packbits(part > centre, axis=1) for part in parts])
    return Held(graph, vectors, np.array(data.kappas[: data.n]), data.ids, centre, bits, later)


def shortened(content: Held) -> Held:
    """The same with a graph over 8-bit codes of the first principal coordinates; built by two threads."""
    rows = content.vectors[:_SAMPLE]
    spread = np.linalg.eigh(np.cov(rows, rowvar=False))[1]
    turn = np.ascontiguousarray(spread[:, ::-1][:, : min(SHORT, rows.shape[1] // 2)], np.float32)
    points = content.vectors @ turn
    kind = faiss.ScalarQuantizer.QT_8bit
    graph = faiss.IndexHNSWSQ(points.shape[1], kind, _LINKS, faiss.METRIC_L2)
    graph.hnsw.efConstruction = _CONSTRUCTION
    faiss.omp_set_num_threads(2)
    graph.train(points)
    graph.add(points)
    faiss.omp_set_num_threads(1)
    return content._replace(graph=graph, turn=turn)


@final
class Leanest:
    """The graph or the bits propose, float32 products decide.

    Args:
        threads: of a batch, which faiss shares out; one query is answered by one.
        few, many: up to how many rows that pass a filter all are compared, and their bits.
    """

    efforts = EFFORTS

    def __init__(self, content: Held, *, threads: int = 1, few: int = FEW, many: int = MANY) -> None:
        self.effort, self.held, self.threads, self.few, self.many = EFFORTS[-1], content, threads, few, many
        self._order = np.argsort(content.kappas, kind="stable")
        self._sorted = content.kappas[self._order]
        self._shape = content.vectors.shape[1:]
        self._later = content.bits[len(content.vectors) :]

    def search(self, vector: Vectors, k: int) -> list[str]:
        """A walk."""
        self._check(vector.shape)
        found = self.walked(vector[None], k)
        return self._named(found[0][(-products(self.held.vectors, found, vector)[0]).argsort()[:k]])

    def walks(self, kappa: float) -> bool:
        """Whether a search among the rows whose kappa is that at most takes the graph."""
        return int(self._sorted.searchsorted(kappa, side="right")) > max(self.few, self.many)

    def walked(self, queries: Vectors, k: int, selector: Any = None) -> Places:
        """What a walk proposes for queries [Q, D], of what a selector lets pass."""
        walk, (graph, *_, turn) = self.effort.walk, self.held
        points, kept = (queries, KEPT) if turn is None else (queries @ turn, walk)
        params = faiss.SearchParametersHNSW(efSearch=walk, sel=selector)
        found: Places = graph.search(points, max(kept, k), params=params)[1]
        return found

    def search_below(self, vector: Vectors, k: int, kappa: float) -> list[str]:
        """Few rows are found in the order of the column and all compared; of more their bits first; of many
        one look at the whole column makes a bitmap for a walk.
        """
        self._check(vector.shape)
        _, vectors, kappas, _, centre, bits, *_ = self.held
        count = int(self._sorted.searchsorted(kappa, side="right"))
        if count <= self.few:
            return self._named(nearest_of(vectors, self._order[:count], vector, k))
        if count <= self.many:
            rows = self._order[:count]
            near = bits.take(rows, axis=0)
            found = rows[nearest_bits(near, np.packbits(vector > centre), self.effort.short)][None]
        else:
            selector = faiss.IDSelectorBitmap(np.packbits(kappas <= kappa, bitorder="little"))
            found = self.walked(vector[None], k, selector)
        return self._named(found[0][(-products(vectors, found, vector)[0]).argsort()[:k]])

    def search_beside(self, vector: Vectors, k: int) -> list[str]:
        """A walk, and the bits of all later rows, which were made when those came."""
        self._check(vector.shape)
        _, vectors, _, _, centre, _, fresh, _ = self.held
        found = self.walked(vector[None], k)
        also = nearest_bits(self._later, np.packbits(vector > centre), self.effort.short)[None]
        scores = np.append(products(vectors, found, vector), products(fresh, also, vector))
        places = np.append(found, also + len(vectors))
        return self._named(places[(-scores).argsort()[:k]])

    def search_many(self, queries: Vectors, k: int) -> list[list[str]]:
        """Walks by the threads of faiss."""
        self._check(queries.shape[1:])
        faiss.omp_set_num_threads(self.threads)
        try:
            found = self.walked(queries, k)
            scores = products(self.held.vectors, found, queries)
        finally:
            faiss.omp_set_num_threads(1)  # else it holds for all that this thread calls
        order = (-scores).argsort(axis=1)[:, :k]
        return [self._named(line) for line in np.take_along_axis(found, order, axis=1)]

    def close(self) -> None:
        """Nothing was written."""

    def _named(self, places: Places) -> list[str]:
        ids = self.held.ids
        return [ids[place] for place in places.tolist() if place >= 0]

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self._shape:
            raise ValueError(f"a query has shape {list(shape)}; pass {list(self._shape)}")


@final
class FaissAlone:
    """The one call into faiss that does most of each search of a leanest program, at its effort, with nothing
    before and behind it: which rows pass a filter is known. It answers with places, by codes and not compared
    again.
    """

    def __init__(self, whole: Leanest) -> None:
        self._whole = whole
        self._passing: dict[float, tuple[Places, Bits, Any]] = {}

    def walk(self, queries: Vectors, k: int) -> Places:
        """Of one query [D], or of several [Q, D] by the threads of the program."""
        faiss.omp_set_num_threads(self._whole.threads)
        try:
            return self._whole.walked(np.atleast_2d(queries), k)
        finally:
            faiss.omp_set_num_threads(1)

    def below(self, vector: Vectors, k: int, kappa: float) -> Places:
        """The products, the count of bits (places among the rows that pass) or the walk."""
        whole, content = self._whole, self._whole.held
        if kappa not in self._passing:
            mask = content.kappas <= kappa
            rows = np.flatnonzero(mask)
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            self._passing[kappa] = rows, content.bits[rows], selector
        rows, bits, selector = self._passing[kappa]
        if len(rows) <= whole.few:
            return nearest_of(content.vectors, rows, vector, k)
        if len(rows) <= whole.many:
            return nearest_bits(bits, np.packbits(vector > content.centre), whole.effort.short)
        return whole.walked(vector[None], k, selector)[0]


def products(vectors: Vectors, places: Places, queries: Vectors) -> Vectors:
    """Of queries [Q, D] or [D] with the vectors [N, D] at places [Q, n], read where they lie [Q, n]; minus
    infinity for place -1.
    """
    found = np.empty(places.shape, np.float32)
    own, at, pointer = np.ascontiguousarray(queries), np.ascontiguousarray(places), faiss.swig_ptr
    faiss.fvec_inner_products_by_idx(
        pointer(found), pointer(own), pointer(vectors), pointer(at), vectors.shape[1], *places.shape
    )
    return found


def nearest_of(vectors: Vectors, rows: Places, vector: Vectors, k: int) -> Places:
    """Which of some rows [n] have the largest products with a query [k], best first; -1 behind the last."""
    found, scores = np.full(k, -1, np.int64), np.empty(k, np.float32)
    own, pointer = np.ascontiguousarray(vector), faiss.swig_ptr
    faiss.knn_inner_products_by_idx(
        pointer(own),
        pointer(vectors),
        pointer(rows),
        vectors.shape[1],
        1,
        len(vectors),
        len(rows),
        k,
        pointer(scores),
        pointer(found),
    )
    return found


def nearest_bits(bits: Bits, probe: Bits, k: int) -> Places:
    """Of codes [n, B] the places of the min(k, n) that differ least from one code [B]."""
    n, size = bits.shape
    k = min(k, n)
    found, far, pointer = np.empty(k, np.int64), np.empty(k, np.int32), faiss.swig_ptr
    if n:
        faiss.hammings_knn_mc(pointer(probe), pointer(bits), 1, n, k, size, pointer(far), pointer(found))
    return found
