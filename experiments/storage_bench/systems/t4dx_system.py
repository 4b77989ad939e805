"""T4DX, at each of its durability levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, final

from experiments.storage_bench.data import START, Data, Row
from experiments.storage_bench.systems.base import Answer, GraphSystem
from t4dm.t4dx import T4DX, AffineClip, Edge, EdgeFilter, EdgeType, Filter, Item, Options

LEVELS: Final = {
    "sync": "fdatasync before each write returns",
    "interval": "in the log when it returns, fdatasync within 50 ms",
    "os": "in the log when it returns, no sync",
}
_BATCH: Final = 1_000
_EDGES: Final = 20_000


@final
class Adapter(GraphSystem):
    """Items and edges by their string ids; "t4dx-hnswlib" has the graphs of the second back-end."""

    efforts = (
        (0.9, 32),
        (0.95, 40),
        (0.98, 48),
        (0.99, 56),
        (0.99, 64),
        (0.99, 96),
        (0.995, 128),
        (0.995, 192),
        (0.998, 256),
        (0.999, 512),
    )
    """The recall that is asked for, and the size of a walk through a graph."""

    def open(self, folder: Path, data: Data) -> None:
        level = self.mode or "interval"
        self.durability, self._ids = LEVELS[level], data.ids
        index = "hnswlib" if self.engine.endswith("hnswlib") else "auto"
        options = Options(durability=level, index=index, index_threads=2)
        self.store = T4DX.open(folder, dim=data.dim, options=options)

    def load(self, data: Data) -> None:
        for start in range(0, data.n, _BATCH):
            rows = data.rows(start, min(start + _BATCH, data.n))
            self.store.insert_many([item_of(row) for row in rows])
        self.store.flush()

    def index(self, data: Data) -> None:
        """All rows in one segment with its graph, if they are many enough for one."""
        self.load(data)
        self.store.compact(graphs=True)

    def settle(self) -> None:
        self.store.build_graphs()

    def load_edges(self, data: Data) -> None:
        ids, degree = data.ids, data.targets.shape[1]
        step = max(1, _EDGES // degree)
        for start in range(0, data.n, step):
            part = range(start, min(start + step, data.n))
            self.store.insert_many(
                (),
                [
                    Edge(ids[source], ids[target], EdgeType.RELATES_TO, weight)
                    for source in part
                    for target, weight in zip(
                        data.targets[source].tolist(), data.weights[source].tolist(), strict=True
                    )
                ],
            )
        self.store.compact()  # what the store does by itself in time; the others optimise or index

    def insert(self, row: Row) -> None:
        self.store.insert(item_of(row))

    def update(self, num: int, kappa: float) -> None:
        self.store.update_fields(self._ids[num], kappa=kappa)

    def update_first(self, count: int, kappa: float) -> None:
        self.store.update_where(Filter(event_time=(START, START + 60.0 * count)), kappa=kappa)

    def get(self, num: int) -> Answer:
        item = self.store.get(self._ids[num])
        if item is None:
            raise LookupError(f"T4DX lost item {num}; run t4dm store verify on the folder")
        return Answer(item.content, item.kappa, item.vector)

    def search(self, vector: Any, k: int) -> list[str]:
        return _ids(self.store.nearest(vector, k, **self._aim()))

    def search_below(self, vector: Any, k: int, kappa: float) -> list[str]:
        return _ids(self.store.nearest(vector, k, Filter(kappa=(None, kappa)), **self._aim()))

    def search_many(self, vectors: Any, k: int) -> list[list[str]]:
        return [_ids(found) for found in self.store.nearest(vectors, k, **self._aim())]

    def search_as_of(self, vector: Any, k: int, moment: float) -> list[str]:
        """What was the nearest at a time in seconds."""
        return _ids(self.store.nearest(vector, k, as_of=moment, **self._aim()))

    def _aim(self) -> dict[str, Any]:
        return {} if self.effort is None else {"recall": self.effort[0], "ef": self.effort[1]}

    def two_hops(self, num: int) -> set[str]:
        return self.store.reachable(self._ids[num], depth=2)

    def bump(self, edge: tuple[int, int, float]) -> None:
        source, target, delta = edge
        self.store.update_edge_weight(
            self._ids[source], self._ids[target], delta, edge_type=EdgeType.RELATES_TO
        )

    def weight(self, source: int, target: int) -> float:
        (edge,) = self.store.edges(self._ids[source], self._ids[target])
        return edge.weight

    def scale(self, factor: float) -> None:
        self.store.batch_scale_weights(EdgeFilter(), AffineClip(factor, 0.0, 0.0, 1.0))

    def close(self) -> None:
        self.store.close()


def item_of(row: Row) -> Item:
    return Item(id=row.id, content=row.text, vector=row.vector, kappa=row.kappa, event_time=row.time)


def _ids(found: list[tuple[str, float]]) -> list[str]:
    return [item_id for item_id, _ in found]
