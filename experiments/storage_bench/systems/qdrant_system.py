"""qdrant-edge: the Rust shard in process, indexed by `optimize`. It syncs only at a flush."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final
from uuid import UUID

import qdrant_edge as qdrant

from experiments.storage_bench.data import Data, Row
from experiments.storage_bench.systems.base import Answer, System

_BATCH: Final = 500


@final
class Adapter(System):
    """Points with a payload; ids are UUIDs, searched with one thread."""

    durability = "no sync before a flush"

    def open(self, folder: Path, data: Data) -> None:
        self._ids = [str(UUID(name)) for name in data.ids]
        if folder.exists():
            self._shard = qdrant.EdgeShard.load(str(folder))
            return
        folder.mkdir(parents=True)
        vectors = qdrant.EdgeVectorParams(size=data.dim, distance=qdrant.Distance.Cosine)
        config = qdrant.EdgeConfig(vectors=vectors, max_search_threads=1)
        self._shard = qdrant.EdgeShard.create(str(folder), config)

    def load(self, data: Data) -> None:
        for start in range(0, data.n, _BATCH):
            rows = data.rows(start, min(start + _BATCH, data.n))
            self._shard.update(qdrant.UpdateOperation.upsert_points([self._point(row) for row in rows]))
        self._shard.optimize()
        self._shard.flush()

    def insert(self, row: Row) -> None:
        self._shard.update(qdrant.UpdateOperation.upsert_points([self._point(row)]))

    def update(self, num: int, kappa: float) -> None:
        self._shard.update(qdrant.UpdateOperation.set_payload([self._ids[num]], {"kappa": kappa}))

    def update_first(self, count: int, kappa: float) -> None:
        self._shard.update(qdrant.UpdateOperation.set_payload(self._ids[:count], {"kappa": kappa}))

    def get(self, num: int) -> Answer:
        (record,) = self._shard.retrieve([self._ids[num]], True, True)
        payload = record.payload
        return Answer(payload["text"], payload["kappa"], record.vector)

    def search(self, vector: Any, k: int) -> list[str]:
        request = qdrant.QueryRequest(query=qdrant.Query.Nearest(vector.tolist()), limit=k)
        return [str(point.id).replace("-", "") for point in self._shard.query(request)]

    def close(self) -> None:
        self._shard.close()

    def _point(self, row: Row) -> Any:
        payload = {"num": row.num, "text": row.text, "kappa": row.kappa, "time": row.time}
        return qdrant.Point(self._ids[row.num], row.vector, payload)
