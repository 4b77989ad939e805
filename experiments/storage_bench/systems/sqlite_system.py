"""SQLite in WAL mode, synchronous FULL or NORMAL. Its graph is keyed by integers, its fastest layout."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, final

import numpy as np

from experiments.storage_bench.data import Data, Row, nearest
from experiments.storage_bench.systems.base import Answer, GraphSystem

_HOPS = (
    "SELECT target FROM edges WHERE source = ?1 UNION "
    "SELECT b.target FROM edges a JOIN edges b ON b.source = a.target WHERE a.source = ?1"
)


@final
class Adapter(GraphSystem):
    """Items as rows with the vector as a blob; exact search in numpy over all blobs."""

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        level = self.mode or "normal"
        self.durability = (
            "fsync before each commit returns" if level == "full" else "WAL, synced only at a checkpoint"
        )
        self._ids = data.ids
        self._db = sqlite3.connect(folder / "store.db", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", f"synchronous={level.upper()}", "cache_size=-65536"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS items (num INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, text TEXT, "
            "kappa REAL, time REAL, vector BLOB)"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS edges (source INTEGER, target INTEGER, weight REAL, "
            "PRIMARY KEY (source, target)) WITHOUT ROWID"
        )

    def load(self, data: Data) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(_INSERT, (_values(data.row(num)) for num in range(data.n)))
        self._db.execute("COMMIT")

    def load_edges(self, data: Data) -> None:
        sources = np.repeat(np.arange(data.n), data.targets.shape[1]).tolist()
        rows = zip(sources, data.targets.ravel().tolist(), data.weights.ravel().tolist(), strict=True)
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO edges VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def insert(self, row: Row) -> None:
        self._db.execute(_INSERT, _values(row))

    def update(self, num: int, kappa: float) -> None:
        self._db.execute("UPDATE items SET kappa = ? WHERE id = ?", (kappa, self._ids[num]))

    def update_first(self, count: int, kappa: float) -> None:
        self._db.execute("UPDATE items SET kappa = ? WHERE num < ?", (kappa, count))

    def get(self, num: int) -> Answer:
        found = self._db.execute("SELECT text, kappa, vector FROM items WHERE id = ?", (self._ids[num],))
        text, kappa, blob = found.fetchone()
        return Answer(text, kappa, np.frombuffer(blob, np.float32))

    def search(self, vector: Any, k: int) -> list[str]:
        rows = self._db.execute("SELECT id, vector FROM items").fetchall()
        matrix = np.frombuffer(b"".join(blob for _, blob in rows), np.float32).reshape(len(rows), -1)
        return [rows[place][0] for place in nearest(matrix, vector, k)]

    def two_hops(self, num: int) -> set[str]:
        """Numbers are its ids here: a join to the text ids would cost it more."""
        found = {target for (target,) in self._db.execute(_HOPS, (num,))}
        found.discard(num)
        return found  # type: ignore[return-value]

    def bump(self, edge: tuple[int, int, float]) -> None:
        source, target, delta = edge
        self._db.execute(
            "UPDATE edges SET weight = min(max(weight + ?, 0.0), 1.0) WHERE source = ? AND target = ?",
            (delta, source, target),
        )

    def weight(self, source: int, target: int) -> float:
        found = self._db.execute("SELECT weight FROM edges WHERE source = ? AND target = ?", (source, target))
        return float(found.fetchone()[0])

    def scale(self, factor: float) -> None:
        self._db.execute("UPDATE edges SET weight = min(max(weight * ?, 0.0), 1.0)", (factor,))

    def close(self) -> None:
        self._db.close()


_INSERT = "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)"


def _values(row: Row) -> tuple[Any, ...]:
    return (row.num, row.id, row.text, row.kappa, row.time, row.vector.tobytes())
