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
    efforts = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

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
            self.insert_rows(data.rows(start, min(start + _BATCH, data.n)))
        self._shard.optimize()
        self._shard.flush()

    def index(self, data: Data) -> None:
        """With an index on kappa from the first row on, as its documentation asks for."""
        schema = qdrant.PayloadSchemaType.Float
        self._shard.update(qdrant.UpdateOperation.create_field_index("kappa", schema))
        self.load(data)

    def insert(self, row: Row) -> None:
        self.insert_rows([row])

    def insert_rows(self, rows: list[Row]) -> None:
        """Some items, one write; they are not in the index before an `optimize`."""
        self._shard.update(qdrant.UpdateOperation.upsert_points([self._point(row) for row in rows]))

    def update(self, num: int, kappa: float) -> None:
        self._shard.update(qdrant.UpdateOperation.set_payload([self._ids[num]], {"kappa": kappa}))

    def update_first(self, count: int, kappa: float) -> None:
        self._shard.update(qdrant.UpdateOperation.set_payload(self._ids[:count], {"kappa": kappa}))

    def get(self, num: int) -> Answer:
        (record,) = self._shard.retrieve([self._ids[num]], True, True)
        payload = record.payload
        return Answer(payload["text"], payload["kappa"], record.vector)

    def search(self, vector: Any, k: int) -> list[str]:
        return _ids(self._shard.query(self._request(vector, k)))

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        below = qdrant.FieldCondition(key="kappa", range=qdrant.RangeFloat(lte=kappa))
        return _ids(self._shard.query(self._request(vector, k, qdrant.Filter(must=[below]))))

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        requests = [self._request(vector, k) for vector in vectors]
        return [_ids(found) for found in self._shard.query_batch(qdrant.QueryBatchRequest(requests))]

    def close(self) -> None:
        self._shard.close()

    def _request(self, vector: Any, k: int, where: Any = None) -> Any:
        params = None if self.effort is None else qdrant.SearchParams(hnsw_ef=self.effort)
        nearest = qdrant.Query.Nearest(vector.tolist())
        return qdrant.QueryRequest(query=nearest, limit=k, filter=where, params=params)

    def _point(self, row: Row) -> Any:
        payload = {"num": row.num, "text": row.text, "kappa": row.kappa, "time": row.time}
        return qdrant.Point(self._ids[row.num], row.vector, payload)


def _ids(points: Any) -> list[str]:
    return [str(point.id).replace("-", "") for point in points]
