"""Rows of items and edges: where they lie (`Source`), their columns (`Part`), what a reader sees of them
(`View`), and what the writer holds (`Draft`).

Items and edges of a source are found by id through codes, small numbers of its own. A part is immutable but
for the logs of its columns and, in the memtable, rows behind those that any reader counts; so a view is a
part and two numbers, the LSN and the count of rows, and costs nothing to make.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.columns import Array as Array
from t4dm.t4dx.columns import Column, Metas
from t4dm.t4dx.columns import Rows as Rows
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.rules import Rules, scaled, scaled_one
from t4dm.t4dx.sources import Ragged as Ragged
from t4dm.t4dx.sources import Source as Source
from t4dm.t4dx.types import ITEM_TYPES, AsOf, Edge, Item, Lsn, item_of

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
SHOWN: Final = (
    *("type", "session", "collection", "vec_row", "kappa", "importance", "access_count"),
    *("event_time", "record_time", "valid_from", "valid_until", "record_until"),
)
"""Columns of an item as it is read; the numbers in the order of `Item`."""
NO_ROWS: Final[Rows] = np.zeros(0, np.int64)


@final
class Part:
    """A source with its columns. Immutable: a change of a base makes a new part."""

    __slots__ = (
        "_cells",
        "_patched",
        "_shown",
        "edges",
        "items",
        "life",
        "m",
        "memo",
        "metas",
        "n",
        "source",
    )

    def __init__(
        self,
        source: Source,
        items: dict[str, Column],
        edges: dict[str, Column],
        metas: Metas,
        *,
        n: int,
        m: int,
    ) -> None:
        self.source, self.items, self.edges, self.metas = source, items, edges, metas
        self.n, self.m, self.life = n, m, (items["alive"], items["record_until"])
        self.memo: dict[str, tuple[object, Any]] = {}
        self._cells: tuple[Any, ...] = ()
        self._patched: tuple[dict[int, int], ...] = ()
        self._shown: tuple[tuple[Column, dict[int, int]], ...] = ()

    def item_values(self, row: int, lsn: Lsn) -> list[Any]:
        """The fields SHOWN of one item row, as a reader at an LSN sees them."""
        if not self._cells:
            columns = [self.items[name] for name in SHOWN]
            self._patched = tuple(column.log.last for column in columns)
            self._shown = tuple(zip(columns, self._patched, strict=True))
            self._cells = tuple(column.cells for column in columns)
        values = [cells[row] for cells in self._cells]
        if any(self._patched):
            for place, (column, patched) in enumerate(self._shown):
                if row in patched:
                    values[place] = column.at(row, lsn)
        return values

    def is_current(self, row: int) -> bool:
        """Whether an item row is alive and not closed, at present."""
        alive, until = self.life
        if row in alive.log.last or row in until.log.last:
            return bool(alive.now(row) and until.now(row) == math.inf)
        return bool(alive.cells[row] and until.cells[row] == math.inf)

    def column(self, kind: str, field: str) -> Column:
        """A column of the items or the edges."""
        return self.items[field] if kind == "items" else self.edges[field]

    def replace(self, **changes: Any) -> Part:
        """A copy with some of it replaced."""
        now = {"items": self.items, "edges": self.edges, "metas": self.metas, "n": self.n, "m": self.m}
        return Part(self.source, **{**now, **changes})


@final
class _Arrays(Mapping[str, Array]):
    """The columns of a view as arrays, each made when it is asked for."""

    __slots__ = ("_kind", "_view")

    def __init__(self, view: View, kind: str) -> None:
        self._view, self._kind = view, kind

    def __getitem__(self, name: str) -> Array:
        return self._view.array(self._kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(ITEM_COLUMNS if self._kind == "items" else EDGE_COLUMNS)

    def __len__(self) -> int:
        return len(ITEM_COLUMNS if self._kind == "items" else EDGE_COLUMNS)


@final
class View:
    """The rows of one part at one LSN. Arrays may be longer than `n` and `m`: rows behind are not there."""

    __slots__ = ("_rules", "lsn", "m", "n", "part", "source")

    def __init__(self, part: Part, lsn: Lsn, n: int, m: int, rules: Rules) -> None:
        self.part, self.source, self.lsn, self.n, self.m = part, part.source, lsn, n, m
        self._rules = rules

    @property
    def items(self) -> Mapping[str, Array]:
        """The columns of the items. Not kept: a circle of references would leave the files of an old view
        mapped until the garbage collector comes by.
        """
        return _Arrays(self, "items")

    @property
    def edges(self) -> Mapping[str, Array]:
        """The columns of the edges."""
        return _Arrays(self, "edges")

    def array(self, kind: str, name: str) -> Array:
        """A column as an array; the same one as long as nothing changed in it."""
        if kind == "items":
            return self.part.items[name].array(self.lsn, self.n)
        values = self.part.edges[name].array(self.lsn, self.m)
        return scaled(self, self._rules, values) if name == "weight" else values

    @property
    def metas(self) -> dict[int, bytes]:
        """Metadata that replaced what rows were inserted with."""
        return self.part.metas.all(self.lsn)

    def memo(
        self, name: str, fields: Sequence[tuple[str, str]], make: Callable[[], Any], *, also: object = None
    ) -> Any:
        """A value derived from some columns, and something else, kept until one of them changes or a row is
        added.
        """
        columns = [self.part.column(kind, field) for kind, field in fields]
        stamp = (also, self.n, self.m, *(column.log.count(self.lsn) for column in columns))
        found = self.part.memo.get(name)
        if found is None or found[0] != stamp:
            found = self.part.memo[name] = (stamp, make())
        return found[1]

    def visible_items(self, as_of: AsOf | None) -> Rows:
        """Item rows that exist now, or did then."""
        return self._visible("items", self.items, self.n, as_of)

    def visible(self, as_of: AsOf | None) -> NDArray[np.bool_] | None:
        """Which item rows exist now, or did then [n]; None where all of the present do."""
        if as_of is not None:
            return _mask(self.items, self.n, as_of)

        def make() -> NDArray[np.bool_] | None:
            cols, n = self.items, self.n
            mask: NDArray[np.bool_] = cols["alive"][:n] & (cols["record_until"][:n] == math.inf)
            return None if mask.all() else mask

        found: NDArray[np.bool_] | None = self.memo("visible", _LIVES["items"], make)
        return found

    def visible_edges(self, as_of: AsOf | None) -> Rows:
        """Edge rows that exist now, or did then."""
        return self._visible("edges", self.edges, self.m, as_of)

    def session_rows(self, session: str) -> Rows:
        """Current item rows of a session; the grouping is made once."""
        rows, codes = self.memo("sessions", _LIVES["items"], self._sessions)
        code = self.source.session_code(session)
        lo, hi = np.searchsorted(codes, (code, code + 1)) if code >= 0 else (0, 0)
        found: Rows = rows[lo:hi]
        return found

    def sees_edge(self, row: int, as_of: AsOf | None) -> bool:
        """Whether an edge row is visible."""
        return row < self.m and sees(self.part.edges, row, self.lsn, as_of)

    def item_row(self, item_id: str, as_of: AsOf | None) -> int:
        """The row of an id that is visible, -1 where none is; the newest where several are."""
        rows = self.source.rows_of(item_id)
        for row in reversed(rows) if len(rows) > 1 else rows:
            if row < self.n and self._sees_item(row, as_of):
                return row
        return -1

    def _sees_item(self, row: int, as_of: AsOf | None) -> bool:
        """`sees`, with a short way for rows whose life nobody patched."""
        alive, until = self.part.life
        if as_of is None and row not in alive.log.last and row not in until.log.last:
            return bool(alive.cells[row] and until.cells[row] == math.inf)
        return sees(self.part.items, row, self.lsn, as_of)

    def edge_rows(self, item_id: str, as_of: AsOf | None, *, incoming: bool) -> list[int]:
        """Visible edge rows that start (or end) at an id."""
        rows, lsn, cols = self.source.edge_rows(item_id, incoming=incoming), self.lsn, self.part.edges
        return [row for row in rows if row < self.m and sees(cols, row, lsn, as_of)]

    def weight(self, row: int) -> float:
        """The weight of an edge row."""
        return scaled_one(self.part, self._rules, row, self.lsn)

    def item(self, row: int, collections: Collections, *, name: str | None = None) -> Item:
        """Materialise an item row; `name` is its id where the caller knows it."""
        source, lsn, part = self.source, self.lsn, self.part
        kind, session, code, place, *numbers = part.item_values(row, lsn)
        content, meta = source.text_at(row)
        metas = part.metas
        if (metas.log.last or metas.taken) and (other := metas.at(row, lsn)) is not None:
            meta = other
        values = (
            source.id_at(row) if name is None else name,
            content,
            None if place < 0 else source.vector(code, place).copy(),
            ITEM_TYPES[kind],
            source.session_names[session],
            *numbers,
            msgpack.unpackb(meta, raw=False) if meta else {},
            collections.rows[code].name,
        )
        return item_of(values)

    def edge(self, row: int, types: EdgeTypes) -> Edge:
        """Materialise an edge row."""
        lsn, cols = self.lsn, self.part.edges
        source, target = self.source.edge_ends(row)
        props = self.source.edge_text(row)
        return Edge(
            source,
            target,
            types.label(cols["type"].cells[row]),
            weight=self.weight(row),
            valid_from=cols["valid_from"].at(row, lsn),
            valid_until=cols["valid_until"].at(row, lsn),
            record_time=cols["record_time"].at(row, lsn),
            record_until=cols["record_until"].at(row, lsn),
            properties=msgpack.unpackb(props, raw=False) if props else {},
        )

    def _sessions(self) -> tuple[Rows, Array]:
        rows = self.visible_items(None)
        codes = self.items["session"][rows]
        order = np.argsort(codes, kind="stable")
        return rows[order], codes[order]

    def _visible(self, kind: str, cols: Mapping[str, Array], n: int, as_of: AsOf | None) -> Rows:
        if as_of is not None:
            return np.flatnonzero(_mask(cols, n, as_of))
        rows: Rows = self.memo(
            kind,
            _LIVES[kind],
            lambda: np.flatnonzero(cols["alive"][:n] & (cols["record_until"][:n] == math.inf)),
        )
        return rows


_LIVES: Final = {kind: ((kind, "alive"), (kind, "record_until")) for kind in ("items", "edges")}


def sees(cols: Mapping[str, Column], row: int, lsn: Lsn, as_of: AsOf | None) -> bool:
    """Whether a reader at an LSN sees one row."""
    if not cols["alive"].at(row, lsn):
        return False
    if as_of is None:
        current: bool = cols["record_until"].at(row, lsn) == math.inf
        return current
    record, valid = as_of
    until = cols["record_until"].at(row, lsn)
    known = until == math.inf if record is None else cols["record_time"].at(row, lsn) <= record < until
    return bool(
        known
        and (valid is None or cols["valid_from"].at(row, lsn) <= valid < cols["valid_until"].at(row, lsn))
    )


def _mask(cols: Mapping[str, Array], n: int, as_of: AsOf) -> NDArray[np.bool_]:
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
    """The writer's hold on a part: its latest form, the rows there are, and up to where the disk has it.

    `folded` is the LSN up to which the files of a segment hold all patches, rules and tombstones; for a
    memtable the LSN at which it began.
    """

    __slots__ = ("folded", "m", "n", "part")

    def __init__(self, part: Part, *, folded: Lsn) -> None:
        self.part, self.folded = part, folded
        self.n, self.m = part.n, part.m

    @property
    def source(self) -> Source:
        """Where the rows lie."""
        return self.part.source

    def value(self, kind: str, field: str, row: int) -> Any:
        """The present value of a row; of a weight without the rules that are still pending."""
        return self.part.column(kind, field).now(row)

    def meta(self, row: int) -> bytes:
        """The present metadata of an item row, packed."""
        replaced = self.part.metas.at(row, _LAST)
        return self.source.text_at(row)[1] if replaced is None else replaced

    def current(self, kind: str, row: int) -> bool:
        """Whether a row is alive and not closed."""
        if kind == "items":
            return self.part.is_current(row)
        cols = self.part.edges
        current: bool = cols["alive"].now(row) and cols["record_until"].now(row) == math.inf
        return current

    def patch(self, kind: str, field: str, row: int, value: Any, *, seq: Lsn) -> None:
        """Set one value from an LSN on."""
        part = self.part
        if field == "metadata":
            part.metas.log.add(row, value, seq)
        else:
            (part.items if kind == "items" else part.edges)[field].log.add(row, value, seq)

    def patch_many(self, kind: str, field: str, rows: Sequence[int], values: Any, *, seqs: Any) -> None:
        """Set one field of many rows; values and LSNs ascending, one for all or one for each."""
        log = self.part.metas.log if field == "metadata" else self.part.column(kind, field).log
        log.extend(rows, values if isinstance(values, list) else [values] * len(rows), seqs)

    def view(self, lsn: Lsn, rules: Rules) -> View:
        """What a reader at an LSN sees."""
        return View(self.part, lsn, self.n, self.m, rules)


_LAST: Final = 2**63
