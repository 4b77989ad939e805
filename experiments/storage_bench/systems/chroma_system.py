"""Chroma's persistent client: SQLite with a rollback journal below, several fsyncs per write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

import chromadb

from experiments.storage_bench.data import Data, Row
from experiments.storage_bench.systems.base import Answer, System

_BATCH: Final = 2_000


@final
class Adapter(System):
    """One collection with documents, metadata and embeddings."""

    durability = "fsync before each write returns"

    def open(self, folder: Path, data: Data) -> None:
        self._ids = data.ids
        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(str(folder), settings=settings)
        self._items = self._client.get_or_create_collection(
            "items", metadata={"hnsw:space": "cosine"}, embedding_function=None
        )

    def load(self, data: Data) -> None:
        for start in range(0, data.n, _BATCH):
            self._add(data.rows(start, min(start + _BATCH, data.n)))

    def insert(self, row: Row) -> None:
        self._add([row])

    def update(self, num: int, kappa: float) -> None:
        self._items.update(ids=[self._ids[num]], metadatas=[{"kappa": kappa}])

    def update_first(self, count: int, kappa: float) -> None:
        for start in range(0, count, _BATCH):
            part = self._ids[start : min(start + _BATCH, count)]
            self._items.update(ids=part, metadatas=[{"kappa": kappa}] * len(part))

    def get(self, num: int) -> Answer:
        found = self._items.get(ids=[self._ids[num]], include=["documents", "metadatas", "embeddings"])
        return Answer(found["documents"][0], found["metadatas"][0]["kappa"], found["embeddings"][0])

    def search(self, vector: Any, k: int) -> list[str]:
        return list(self._items.query(query_embeddings=[vector], n_results=k, include=[])["ids"][0])

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        found = self._items.query(
            query_embeddings=[vector], n_results=k, where={"kappa": {"$lte": kappa}}, include=[]
        )
        return list(found["ids"][0])

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        return [
            list(ids) for ids in self._items.query(query_embeddings=vectors, n_results=k, include=[])["ids"]
        ]

    def close(self) -> None:
        self._client.close()

    def _add(self, rows: list[Row]) -> None:
        self._items.add(
            ids=[row.id for row in rows],
            embeddings=[row.vector for row in rows],
            documents=[row.text for row in rows],
            metadatas=[{"num": row.num, "kappa": row.kappa, "time": row.time} for row in rows],
        )
