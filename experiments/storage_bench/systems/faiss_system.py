"""faiss alone: the graph that T4DX uses, and the vectors in a file beside it. Not a store: what is to win."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

import faiss
import numpy as np

from experiments.storage_bench.data import Data
from experiments.storage_bench.systems.base import Searcher

_LINKS: Final = 16
_CONSTRUCTION: Final = 100
_KEPT: Final = 32  # of what the codes propose, compared with the vectors


@final
class Adapter(Searcher):
    """HNSW over 8-bit codes, and the best 32 compared again as float32."""

    durability = "no store"
    efforts = (32, 40, 48, 64, 96, 128, 192, 256, 384, 512)

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._ids = folder, data.ids
        if (folder / "index.faiss").exists():
            self._index = faiss.read_index(str(folder / "index.faiss"))
            self._vectors = np.load(folder / "vectors.npy", mmap_mode="r")

    def index(self, data: Data) -> None:
        vectors = data.vectors[: data.n]
        metric = faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexHNSWSQ(data.dim, faiss.ScalarQuantizer.QT_8bit, _LINKS, metric)
        self._index.hnsw.efConstruction = _CONSTRUCTION
        faiss.omp_set_num_threads(2)
        self._index.train(vectors)
        self._index.add(vectors)
        faiss.omp_set_num_threads(1)
        faiss.write_index(self._index, str(self._folder / "index.faiss"))
        np.save(self._folder / "vectors.npy", vectors)
        self._vectors = np.load(self._folder / "vectors.npy", mmap_mode="r")

    def search(self, vector: Any, k: int) -> list[str]:
        return self.search_many(vector[None], k)[0]

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        params = faiss.SearchParametersHNSW(efSearch=self.effort or 64)
        found = self._index.search(vectors, max(_KEPT, k), params=params)[1]
        return [
            self._best(vector, places[places >= 0], k) for vector, places in zip(vectors, found, strict=True)
        ]

    def _best(self, vector: Any, places: Any, k: int) -> list[str]:
        order = np.argsort(self._vectors[places] @ -vector)[:k]
        return [self._ids[place] for place in places[order].tolist()]

    def close(self) -> None:
        del self._index, self._vectors
