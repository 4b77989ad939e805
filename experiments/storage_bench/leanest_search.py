"""The leanest Python program for each kind of search, and the calls into faiss that it spends its time in.

A graph of faiss over 8-bit codes, float32 vectors in a mapped file, one bit a coordinate, a column of kappas
and its order: no store, no versions, no deletes, no plan but two numbers of rows, and of what comes in only
the shape is checked. What else a search costs in T4DX is the distance from here.
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
    """

    graph: Any
    vectors: Vectors
    kappas: NDArray[np.float64]
    ids: list[str]
    centre: Vectors
    bits: Bits
    fresh: Vectors


def held(folder: Path, data: Data, *, fresh: int = 0) -> Held:
    """The files that the adapter of faiss left in a folder, with some later rows beside them."""
    graph = faiss.read_index(str(folder / "index.faiss"))
    vectors = np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))
    later = np.ascontiguousarray(data.vectors[data.n : data.n + fresh])
    centre = vectors[:_BLOCK].mean(axis=0)
    parts = [part[at : at + _BLOCK] for part in (vectors, later) for at in range(0, len(part), _BLOCK)]
    bits = np.concatenate([np.packbits(part > centre, axis=1) for part in parts])
    return Held(graph, vectors, np.array(data.kappas[: data.n]), data.ids, centre, bits, later)


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
        graph, vectors = self.held[:2]
        params = faiss.SearchParametersHNSW(efSearch=self.effort.walk)
        found = graph.search(vector[None], max(KEPT, k), params=params)[1]
        return self._named(found[0][(-products(vectors, found, vector)[0]).argsort()[:k]])

    def search_below(self, vector: Vectors, k: int, kappa: float) -> list[str]:
        """Few rows are found in the order of the column and all compared; of more their bits first; of many
        one look at the whole column makes a bitmap for a walk.
        """
        self._check(vector.shape)
        graph, vectors, kappas, _, centre, bits, _ = self.held
        count = int(self._sorted.searchsorted(kappa, side="right"))
        if count <= self.few:
            return self._named(nearest_of(vectors, self._order[:count], vector, k))
        if count <= self.many:
            rows = self._order[:count]
            near = bits.take(rows, axis=0)
            found = rows[nearest_bits(near, np.packbits(vector > centre), self.effort.short)][None]
        else:
            selector = faiss.IDSelectorBitmap(np.packbits(kappas <= kappa, bitorder="little"))
            params = faiss.SearchParametersHNSW(efSearch=self.effort.walk, sel=selector)
            found = graph.search(vector[None], max(KEPT, k), params=params)[1]
        return self._named(found[0][(-products(vectors, found, vector)[0]).argsort()[:k]])

    def search_beside(self, vector: Vectors, k: int) -> list[str]:
        """A walk, and the bits of all later rows, which were made when those came."""
        self._check(vector.shape)
        graph, vectors, _, _, centre, _, fresh = self.held
        params = faiss.SearchParametersHNSW(efSearch=self.effort.walk)
        found = graph.search(vector[None], max(KEPT, k), params=params)[1]
        also = nearest_bits(self._later, np.packbits(vector > centre), self.effort.short)[None]
        scores = np.append(products(vectors, found, vector), products(fresh, also, vector))
        places = np.append(found, also + len(vectors))
        return self._named(places[(-scores).argsort()[:k]])

    def search_many(self, queries: Vectors, k: int) -> list[list[str]]:
        """Walks by the threads of faiss."""
        self._check(queries.shape[1:])
        graph, vectors = self.held[:2]
        faiss.omp_set_num_threads(self.threads)
        try:
            params = faiss.SearchParametersHNSW(efSearch=self.effort.walk)
            found = graph.search(queries, max(KEPT, k), params=params)[1]
            scores = products(vectors, found, queries)
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
        params = faiss.SearchParametersHNSW(efSearch=self._whole.effort.walk)
        faiss.omp_set_num_threads(self._whole.threads)
        try:
            return self._whole.held.graph.search(np.atleast_2d(queries), max(KEPT, k), params=params)[1]
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
        params = faiss.SearchParametersHNSW(efSearch=whole.effort.walk, sel=selector)
        return content.graph.search(vector[None], max(KEPT, k), params=params)[1][0]


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
