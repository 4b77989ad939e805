"""LanceDB with its IVF_HNSW_SQ index. A write makes a new version of the table and is not synced."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree, HnswSq

from experiments.storage_bench.data import Data, Row
from experiments.storage_bench.systems.base import Answer, System


@final
class Adapter(System):
    """One table; a scalar index on the id, an HNSW index on the vector."""

    durability = "no sync"
    efforts = ((1, 24), (2, 24), (4, 32), (4, 64), (8, 64), (8, 128), (16, 128), (20, 256), (20, 512))

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ids = data.ids
        self._db = lancedb.connect(str(folder))
        if (folder / "items.lance").exists():
            self._table = self._db.open_table("items")

    def load(self, data: Data) -> None:
        self._table = self._db.create_table("items", _table(data.rows(0, data.n)))
        self._table.create_index("vector", config=HnswSq(distance_type="cosine"))
        self._table.create_index("id", config=BTree())

    def index_fields(self, data: Data) -> None:
        self._table.create_index("kappa", config=BTree())

    def insert(self, row: Row) -> None:
        self._table.add(_table([row]))

    def update(self, num: int, kappa: float) -> None:
        self._table.update(where=f"id = '{self._ids[num]}'", values={"kappa": kappa})

    def update_first(self, count: int, kappa: float) -> None:
        self._table.update(where=f"num < {count}", values={"kappa": kappa})

    def get(self, num: int) -> Answer:
        found = self._table.search().where(f"id = '{self._ids[num]}'").limit(1).to_arrow()
        return Answer(
            found["text"][0].as_py(), found["kappa"][0].as_py(), found["vector"][0].values.to_numpy()
        )

    def search(self, vector: Any, k: int) -> list[str]:
        return _ids(self._query(vector, k))

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        return _ids(self._query(vector, k).where(f"kappa <= {kappa!r}", prefilter=True))

    def _query(self, vector: Any, k: int) -> Any:
        query = self._table.search(vector).distance_type("cosine").limit(k).select(["id", "_distance"])
        if self.effort is None:
            return query
        probes, ef = self.effort
        return query.nprobes(probes).ef(ef).refine_factor(2)

    def close(self) -> None:
        del self._table, self._db


def _ids(query: Any) -> list[str]:
    return list(query.to_arrow()["id"].to_pylist())


def _table(rows: list[Row]) -> Any:
    vectors = np.concatenate([row.vector for row in rows])
    columns = {
        "num": [row.num for row in rows],
        "id": [row.id for row in rows],
        "text": [row.text for row in rows],
        "kappa": [row.kappa for row in rows],
        "time": [row.time for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), len(rows[0].vector)),
    }
    return pa.table(columns)
