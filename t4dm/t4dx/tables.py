"""Columns that readers share and one writer patches: immutable views, copied column by column on the first
write.

A `Source` holds rows that never change (a segment) or only grow (the memtable). A `View` is what a reader
sees: the first `n` item rows and `m` edge rows, with overlays already patched into the columns. The writer
works on a `Draft`: it copies a column before it patches it, once per batch, and then publishes a new view. A
reader that holds an older view is never disturbed, so a snapshot is just a kept reference.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.types import ITEM_TYPES, AsOf, Edge, Float32s, Item

Array = NDArray[Any]
Rows = NDArray[np.int64]

ITEM_COLUMNS: Final[dict[str, str]] = {
    "seq": "u8",
    "kappa": "f8",
    "importance": "f8",
    "access_count": "i8",
    "event_time": "f8",
    "record_time": "f8",
    "valid_from": "f8",
    "valid_until": "f8",
    "record_until": "f8",
    "type": "u1",
    "session": "i4",
    "collection": "u2",
    "vec_row": "i4",
    "inv_norm": "f8",
    "alive": "?",
}
EDGE_COLUMNS: Final[dict[str, str]] = {
    "seq": "u8",
    "weight": "f8",
    "valid_from": "f8",
    "valid_until": "f8",
    "record_time": "f8",
    "record_until": "f8",
    "type": "u2",
    "alive": "?",
}
NO_ROWS: Final[Rows] = np.zeros(0, np.int64)


class Source(ABC):
    """Rows of items and edges with their ids and texts; what a row says never changes here."""

    session_names: list[str]

    @abstractmethod
    def vectors(self, collection: int) -> Float32s:
        """Vectors [n, D] of a collection, by its code; the column `vec_row` points into them."""

    @abstractmethod
    def rows_of(self, item_id: str) -> Sequence[int]:
        """Item rows of an id, oldest first."""

    @abstractmethod
    def id_at(self, row: int) -> str:
        """Id of an item row."""

    @abstractmethod
    def text_at(self, row: int) -> tuple[str, bytes]:
        """Content and packed metadata of an item row."""

    @abstractmethod
    def session_code(self, session: str) -> int:
        """Code of a session, -1 where no row has it."""

    @abstractmethod
    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        """Edge rows that start (or end) at an id, oldest first."""

    @abstractmethod
    def edges_between(self, source: str, target: str) -> Sequence[int]:
        """Edge rows from one id to another, of all types and versions."""

    @abstractmethod
    def edge_ends(self, row: int) -> tuple[str, str]:
        """Source and target of an edge row."""

    @abstractmethod
    def edge_text(self, row: int) -> bytes:
        """Packed properties of an edge row."""


@final
class View:
    """The rows of one source at one moment. Columns may be longer than `n` and `m`: rows behind are not there
    yet.
    """

    __slots__ = ("_cache", "edges", "items", "m", "metas", "n", "source")

    def __init__(
        self,
        source: Source,
        items: dict[str, Array],
        edges: dict[str, Array],
        n: int,
        m: int,
        metas: dict[int, bytes],
    ) -> None:
        self.source, self.items, self.edges = source, items, edges
        self.n, self.m, self.metas = n, m, metas
        self._cache: dict[str, Any] = {}

    def visible_items(self, as_of: AsOf | None) -> Rows:
        """Item rows that exist now, or did then."""
        return self._visible("items", self.items, self.n, as_of)

    def visible_edges(self, as_of: AsOf | None) -> Rows:
        """Edge rows that exist now, or did then."""
        return self._visible("edges", self.edges, self.m, as_of)

    def session_rows(self, session: str) -> Rows:
        """Current item rows of a session; the grouping is made once per view."""
        groups = self._cache.get("sessions")
        if groups is None:
            rows = self.visible_items(None)
            codes = self.items["session"][rows]
            order = np.argsort(codes, kind="stable")
            groups = self._cache["sessions"] = (rows[order], codes[order])
        code = self.source.session_code(session)
        lo, hi = np.searchsorted(groups[1], (code, code + 1)) if code >= 0 else (0, 0)
        return groups[0][lo:hi]

    def item_row(self, item_id: str, as_of: AsOf | None) -> int:
        """The row of an id that is visible, -1 where none is; the newest where several are."""
        for row in reversed(self.source.rows_of(item_id)):
            if row < self.n and sees(self.items, row, as_of):
                return row
        return -1

    def edge_rows(self, item_id: str, as_of: AsOf | None, *, incoming: bool) -> list[int]:
        """Visible edge rows that start (or end) at an id."""
        rows = self.source.edge_rows(item_id, incoming=incoming)
        return [row for row in rows if row < self.m and sees(self.edges, row, as_of)]

    def item(self, row: int, collections: Collections) -> Item:
        """Materialise an item row."""
        content, meta = self.source.text_at(row)
        meta = self.metas.get(row, meta)
        cols, place, code = self.items, int(self.items["vec_row"][row]), int(self.items["collection"][row])
        return Item(
            id=self.source.id_at(row),
            content=content,
            vector=None if place < 0 else np.array(self.source.vectors(code)[place]),
            type=ITEM_TYPES[cols["type"][row]],
            session=self.source.session_names[cols["session"][row]],
            kappa=float(cols["kappa"][row]),
            importance=float(cols["importance"][row]),
            access_count=int(cols["access_count"][row]),
            event_time=float(cols["event_time"][row]),
            record_time=float(cols["record_time"][row]),
            valid_from=float(cols["valid_from"][row]),
            valid_until=float(cols["valid_until"][row]),
            record_until=float(cols["record_until"][row]),
            metadata=msgpack.unpackb(meta, raw=False) if meta else {},
            collection=collections.rows[code].name,
        )

    def edge(self, row: int, types: EdgeTypes) -> Edge:
        """Materialise an edge row."""
        source, target = self.source.edge_ends(row)
        props, cols = self.source.edge_text(row), self.edges
        return Edge(
            source,
            target,
            types.label(int(cols["type"][row])),
            weight=float(cols["weight"][row]),
            valid_from=float(cols["valid_from"][row]),
            valid_until=float(cols["valid_until"][row]),
            record_time=float(cols["record_time"][row]),
            record_until=float(cols["record_until"][row]),
            properties=msgpack.unpackb(props, raw=False) if props else {},
        )

    def _visible(self, kind: str, cols: dict[str, Array], n: int, as_of: AsOf | None) -> Rows:
        if as_of is not None:
            return np.flatnonzero(_mask(cols, n, as_of))
        if kind not in self._cache:
            self._cache[kind] = np.flatnonzero(cols["alive"][:n] & (cols["record_until"][:n] == math.inf))
        rows: Rows = self._cache[kind]
        return rows


def sees(cols: dict[str, Array], row: int, as_of: AsOf | None) -> bool:
    """Whether one row is visible."""
    if not cols["alive"][row]:
        return False
    record, valid = as_of if as_of is not None else (None, None)
    if record is None:
        known = bool(cols["record_until"][row] == math.inf)
    else:
        known = bool(cols["record_time"][row] <= record < cols["record_until"][row])
    return known and (valid is None or bool(cols["valid_from"][row] <= valid < cols["valid_until"][row]))


def _mask(cols: dict[str, Array], n: int, as_of: AsOf) -> NDArray[np.bool_]:
    mask = cols["alive"][:n].copy()
    if as_of.record is None:
        mask &= cols["record_until"][:n] == math.inf
    else:
        mask &= (cols["record_time"][:n] <= as_of.record) & (as_of.record < cols["record_until"][:n])
    if as_of.valid is not None:
        mask &= (cols["valid_from"][:n] <= as_of.valid) & (as_of.valid < cols["valid_until"][:n])
    return mask


@final
class Draft:
    """The writer's side of a source: patches columns and remembers which rows were patched, and when.

    `touched[kind][field][row]` is the sequence number of the last patch: the delta files are written from it.
    """

    def __init__(
        self, source: Source, items: dict[str, Array], edges: dict[str, Array], n: int, m: int, *, folded: int
    ) -> None:
        self.source, self.items, self.edges = source, items, edges
        self.n, self.m, self.folded = n, m, folded
        self.metas: dict[int, bytes] = {}
        self.touched: dict[str, dict[str, dict[int, int]]] = {"items": {}, "edges": {}}
        self._owned: set[tuple[str, str]] = set()
        self._view: View | None = None

    def view(self) -> View:
        """The view readers get from now on; the same one as long as nothing changed."""
        if self._view is None or (self._view.n, self._view.m) != (self.n, self.m):
            self._view = View(self.source, dict(self.items), dict(self.edges), self.n, self.m, self.metas)
            self._owned.clear()
        return self._view

    def patch(self, kind: str, field: str, rows: Array | list[int], values: Any, *, seq: int | None) -> None:
        """Set a column at some rows, on a copy that no reader holds; seq None leaves no mark (rules are kept
        whole).
        """
        cols = self.items if kind == "items" else self.edges
        if (kind, field) not in self._owned:
            cols[field] = cols[field].copy()
            self._owned.add((kind, field))
        cols[field][rows] = values
        self._view = None
        if seq is not None:
            self._mark(kind, field, rows, seq)

    def patch_metas(self, row: int, meta: bytes, *, seq: int) -> None:
        """Replace the metadata of an item row."""
        if ("items", "metadata") not in self._owned:
            self.metas = dict(self.metas)
            self._owned.add(("items", "metadata"))
        self.metas[row] = meta
        self._mark("items", "metadata", [row], seq)

    def _mark(self, kind: str, field: str, rows: Array | list[int], seq: int) -> None:
        marks = self.touched[kind].setdefault(field, {})
        marks.update(dict.fromkeys(rows if isinstance(rows, list) else rows.tolist(), seq))
        self._view = None
