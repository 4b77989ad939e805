"""hnswlib alone, over float32 vectors in memory. No store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

import hnswlib

from experiments.storage_bench.data import Data
from experiments.storage_bench.systems.base import Searcher

_LINKS: Final = 16
_CONSTRUCTION: Final = 100


@final
class Adapter(Searcher):
    """One index; `ef` is lost when it is saved and set again for each search."""

    durability = "no store"
    efforts = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._ids = folder / "index.hnsw", data.ids
        self._index = hnswlib.Index("ip", data.dim)
        if self._file.exists():
            self._index.load_index(str(self._file))
            self._index.set_num_threads(1)

    def index(self, data: Data) -> None:
        self._index.init_index(data.n, M=_LINKS, ef_construction=_CONSTRUCTION)
        self._index.add_items(data.vectors[: data.n], num_threads=2)
        self._index.save_index(str(self._file))

    def search(self, vector: Any, k: int) -> list[str]:
        return self.search_many(vector, k)[0]

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        self._index.set_ef(self.effort or 64)
        places = self._index.knn_query(vectors, k, num_threads=1)[0]
        return [[self._ids[place] for place in line] for line in places.tolist()]

    def close(self) -> None:
        del self._index
