"""Kuzu: columnar property graph with Cypher. Every commit is synced to its log."""

from __future__ import annotations

import importlib.util  # kuzu's COPY looks it up as an attribute of importlib
import warnings
from pathlib import Path
from typing import Any, Final, final

import kuzu
import numpy as np
import pyarrow as pa

from experiments.storage_bench.data import Data, Row
from experiments.storage_bench.systems.base import Answer, GraphSystem

assert importlib.util

_INDEX: Final = "CALL CREATE_VECTOR_INDEX('Item', 'by_vector', 'vector', metric := 'cosine')"
_SEARCH: Final = (
    "CALL QUERY_VECTOR_INDEX('{items}', 'by_vector', $vector, $k, efs := {ef}) "
    "RETURN node.id ORDER BY distance"
)
_STATEMENTS: Final = {
    "insert": "CREATE (:Item {id: $id, num: $num, text: $text, kappa: $kappa, time: $time, vector: $vector})",
    "update": "MATCH (n:Item {id: $id}) SET n.kappa = $kappa",
    "update_first": "MATCH (n:Item) WHERE n.num < $count SET n.kappa = $kappa",
    "get": "MATCH (n:Item {id: $id}) RETURN n.text, n.kappa, n.vector",
    "search": "CALL QUERY_VECTOR_INDEX('Item', 'by_vector', $vector, $k) RETURN node.id ORDER BY distance",
    "two_hops": "MATCH (a:Item {id: $id})-[:Link*1..2]->(b:Item) RETURN DISTINCT b.id",
    "bump": "MATCH (a:Item {id: $a})-[l:Link]->(b:Item {id: $b}) "
    "SET l.weight = CASE WHEN l.weight + $delta > 1.0 THEN 1.0 WHEN l.weight + $delta < 0.0 THEN 0.0 "
    "ELSE l.weight + $delta END",
    "weight": "MATCH (a:Item {id: $a})-[l:Link]->(b:Item {id: $b}) RETURN l.weight",
    "scale": "MATCH ()-[l:Link]->() "
    "SET l.weight = CASE WHEN l.weight * $factor > 1.0 THEN 1.0 ELSE l.weight * $factor END",
}


@final
class Adapter(GraphSystem):
    """Nodes keyed by their string id, with a vector index; prepared statements, one thread."""

    durability = "fdatasync before each commit returns"
    efforts = (32, 64, 96, 128, 192, 256, 384, 512)

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = not (folder / "graph").exists()
        self._ids, self._prepared = data.ids, {}
        self._projected: dict[float, str] = {}
        self._db = kuzu.Database(str(folder / "graph"), buffer_pool_size=2 * 2**30)
        self._connection = kuzu.Connection(self._db, num_threads=1)
        self._connection.execute("LOAD vector")
        if fresh:
            self._connection.execute(
                "CREATE NODE TABLE Item (id STRING PRIMARY KEY, num INT64, text STRING, kappa DOUBLE, "
                f"time DOUBLE, vector FLOAT[{data.dim}])"
            )
            self._connection.execute("CREATE REL TABLE Link (FROM Item TO Item, weight DOUBLE)")

    def load(self, data: Data) -> None:
        rows = data.rows(0, data.n)
        vectors = pa.array(data.vectors[: data.n].ravel())
        nodes = pa.table(
            {
                "id": [row.id for row in rows],
                "num": [row.num for row in rows],
                "text": [row.text for row in rows],
                "kappa": [row.kappa for row in rows],
                "time": [row.time for row in rows],
                "vector": pa.FixedSizeListArray.from_arrays(vectors, data.dim),
            }
        )
        self._connection.execute("COPY Item FROM $nodes", {"nodes": nodes})
        self._connection.execute(_INDEX)

    def load_edges(self, data: Data) -> None:
        sources = np.repeat(np.arange(data.n), data.targets.shape[1])
        links = pa.table(
            {
                "from": [data.ids[num] for num in sources],
                "to": [data.ids[num] for num in data.targets.ravel()],
                "weight": data.weights.ravel(),
            }
        )
        self._connection.execute("COPY Link FROM $links", {"links": links})

    def insert(self, row: Row) -> None:
        self._run("insert", **row._replace(vector=row.vector.tolist())._asdict())

    def update(self, num: int, kappa: float) -> None:
        self._run("update", id=self._ids[num], kappa=kappa)

    def update_first(self, count: int, kappa: float) -> None:
        self._run("update_first", count=count, kappa=kappa)

    def get(self, num: int) -> Answer:
        return Answer(*self._run("get", id=self._ids[num]).get_next())

    def search(self, vector: Any, k: int) -> list[str]:
        if self.effort is not None:
            return self._search_in("Item", vector, k)
        return [row[0] for row in self._run("search", vector=vector.tolist(), k=k).get_all()]

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        if kappa not in self._projected:
            name = f"Below{len(self._projected)}"
            rows = f"MATCH (n:Item) WHERE n.kappa <= {kappa!r} RETURN n"
            self._connection.execute(f"CALL PROJECT_GRAPH_CYPHER('{name}', '{rows}')")
            self._projected[kappa] = name
        return self._search_in(self._projected[kappa], vector, k)

    def _search_in(self, items: str, vector: Any, k: int) -> list[str]:
        statement = _SEARCH.format(items=items, ef=self.effort or 200)
        return [row[0] for row in self._run(statement, vector=vector.tolist(), k=k).get_all()]

    def two_hops(self, num: int) -> set[str]:
        found = {row[0] for row in self._run("two_hops", id=self._ids[num]).get_all()}
        found.discard(self._ids[num])
        return found

    def bump(self, edge: tuple[int, int, float]) -> None:
        source, target, delta = edge
        self._run("bump", a=self._ids[source], b=self._ids[target], delta=delta)

    def weight(self, source: int, target: int) -> float:
        return float(self._run("weight", a=self._ids[source], b=self._ids[target]).get_next()[0])

    def scale(self, factor: float) -> None:
        self._run("scale", factor=factor)

    def close(self) -> None:
        self._prepared = {}
        self._connection.close()
        self._db.close()

    def _run(self, name: str, **values: Any) -> Any:
        if name not in self._prepared:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # prepare is deprecated, and faster
                self._prepared[name] = self._connection.prepare(_STATEMENTS.get(name, name), values)
        return self._connection.execute(self._prepared[name], values)
