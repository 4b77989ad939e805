"""The logical state of a store and the one way to change it: `apply`, the same live and in replay."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, final

from t4dm.t4dx.locating import MANY, Group, locate, occurring
from t4dm.t4dx.memtable import Memtable
from t4dm.t4dx.ops import (
    CloseItems,
    DeleteEdges,
    DeleteItems,
    InsertEdges,
    InsertItems,
    MapEdges,
    MapField,
    Op,
    PatchRows,
    RestoreEdges,
    RestoreItems,
    ScaleRule,
    SetField,
)
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.restoring import restore
from t4dm.t4dx.rules import Rules, scaled_one
from t4dm.t4dx.tables import Draft, Part, View
from t4dm.t4dx.types import ITEM_TYPES, Lsn
from t4dm.t4dx.undo import TOLD, Undoables
from t4dm.t4dx.wal import WalInfo

_REMEMBERED: Final = 4096  # places of items, and as many of edges
_MOVES: Final = frozenset({DeleteItems, CloseItems, DeleteEdges, PatchRows, RestoreItems, RestoreEdges})
_RECORD_TIME: Final = {"items": 4, "edges": 3}


class Layout(NamedTuple):
    """The parts of a store: the memtable's first, then frozen ones and segments from new to old."""

    parts: tuple[Part, ...]
    rules: Rules
    types: EdgeTypes
    collections: Collections


class Cut(NamedTuple):
    """What a write publishes: how far a reader may look. n and m count the memtable's rows."""

    layout: Layout
    lsn: Lsn
    n: int
    m: int


@final
class Version:
    """What a reader holds: all views at one LSN, the memtable's first, then segments from new to old."""

    __slots__ = ("collections", "cut", "lsn", "types", "views")

    def __init__(self, cut: Cut) -> None:
        layout, lsn = cut.layout, cut.lsn
        self.cut, self.lsn, self.types, self.collections = cut, lsn, layout.types, layout.collections
        front, *rest = layout.parts
        self.views: tuple[View, ...] = (
            View(front, lsn, cut.n, cut.m, layout.rules),
            *[View(part, lsn, part.n, part.m, layout.rules) for part in rest],
        )

    @property
    def dim(self) -> int:
        """Vector size of the default collection."""
        return self.collections.rows[0].dim


class Frozen(NamedTuple):
    """A memtable that waits for its flush: its last LSN, the log that goes on behind it, and what undoes
    transactions up to there.
    """

    draft: Draft
    lsn: Lsn
    log: WalInfo
    undo: list[Any]


@final
class Tombstones:
    """Deletions of ids that some segment has not folded yet, by LSN. Only grows; trimming makes a new one."""

    __slots__ = ("ids", "seqs")

    def __init__(self, pairs: Sequence[tuple[Lsn, list[str]]] = ()) -> None:
        self.seqs: list[Lsn] = [seq for seq, _ in pairs]
        self.ids: list[list[str]] = [ids for _, ids in pairs]

    def add(self, seq: Lsn, ids: list[str]) -> None:
        """Append the newest."""
        self.ids.append(ids)
        self.seqs.append(seq)

    def between(self, since: Lsn, upto: Lsn) -> list[tuple[Lsn, list[str]]]:
        """Those with an LSN in (since, upto]."""
        lo, hi = bisect_right(self.seqs, since), bisect_right(self.seqs, upto)
        return list(zip(self.seqs[lo:hi], self.ids[lo:hi], strict=True))

    def after(self, lsn: Lsn) -> Tombstones:
        """Those that are newer than an LSN."""
        return Tombstones(self.between(lsn, self.seqs[-1]))

    def newest(self) -> dict[str, Lsn]:
        """The LSN of the newest tombstone of each id."""
        return {name: seq for seq, ids in zip(self.seqs, self.ids, strict=True) for name in ids}


@final
class State:
    """Drafts of the memtable, of frozen memtables and of segments; tombstones and rules that not all of them
    have folded; the last LSN.

    `apply` never fails on an operation that passed `checks`: what it needs was checked before the operation
    was logged.
    """

    def __init__(
        self, *, collections: Collections, types: EdgeTypes, segments: list[Draft], lsn: Lsn
    ) -> None:
        self.collections, self.types, self.lsn = collections, types, lsn
        self.memtable = Memtable(collections)
        self.front = self.memtable.draft(lsn=lsn)
        self.frozen: list[Frozen] = []
        self.segments = segments
        self.tombstones, self.rules = Tombstones(), Rules(types)
        self.undo = Undoables()
        self.flushed_undo: list[Any] = []
        self._layout: Layout | None = None
        self._drafts: list[Draft] | None = None
        self._located: tuple[Sequence[str], list[Group]] | None = None
        self._items: dict[str, tuple[Draft, int]] = {}
        self._edges: dict[tuple[str, str, str], list[tuple[Draft, int]]] = {}

    @property
    def drafts(self) -> list[Draft]:
        """Memtable first, then frozen ones and segments from new to old."""
        if self._drafts is None:
            self._drafts = [self.front, *[frozen.draft for frozen in self.frozen], *self.segments]
        return self._drafts

    def cut(self) -> Cut:
        """The present, in constant time."""
        layout, front = self._layout, self.front
        if layout is None or layout.parts[0] is not front.part:
            parts = tuple(draft.part for draft in self.drafts)
            layout = self._layout = Layout(parts, self.rules, self.types, self.collections)
        return Cut(layout, self.lsn, front.n, front.m)

    def version(self) -> Version:
        """The present, as readers see it."""
        return Version(self.cut())

    def changed(self) -> None:
        """Parts were replaced: the next cut looks at all of them."""
        self._layout = self._drafts = self._located = None
        self._forget_places()

    def freeze(self, log: WalInfo) -> None:
        """Start an empty memtable; the old one waits for its flush, `log` goes on behind it."""
        front, memtable = self.front, Memtable(self.collections)
        fresh, waits = memtable.draft(lsn=self.lsn), Frozen(front, self.lsn, log, self.undo.dump(0))
        front.part = front.part.replace(n=front.n, m=front.m)
        self.memtable, self.front = memtable, fresh
        self.frozen.insert(0, waits)
        self.changed()

    def forget_folded(self) -> None:
        """Drop the rules and tombstones that all parts have folded. The weights in memory may be behind the
        files: a merge that ran beside a flush brings them as of its own beginning.
        """
        self.changed()
        folded = min(draft.folded for draft in self.drafts)
        scaled = min(folded, *(draft.part.edges["weight"].upto for draft in self.drafts))
        if self.rules.seqs and self.rules.seqs[0] <= scaled:
            self.rules = self.rules.after(scaled)
        if self.tombstones.seqs and self.tombstones.seqs[0] <= folded:
            self.tombstones = self.tombstones.after(folded)
        self.changed()

    def find_item(self, item_id: str) -> tuple[Draft, int] | None:
        """The current version of an id. The last ones found are remembered until something moves them: a
        write looks them up once to check that they exist, and once more to change them.
        """
        if (known := self._items.get(item_id)) is not None:
            return known
        for draft in self._drafts or self.drafts:
            part = draft.part
            for row in reversed(part.source.rows_of(item_id)):
                if part.is_current(row):
                    if len(self._items) >= _REMEMBERED:
                        self._items.clear()
                    self._items[item_id] = found = draft, row
                    return found
        return None

    def locate(self, ids: Sequence[str]) -> list[Group]:
        """Where the current versions of many ids lie. What the check of an operation found is kept for the
        operation itself, which comes next, under the same lock.
        """
        if self._located is None or self._located[0] is not ids:
            self._located = ids, locate(self.drafts, ids)
        return self._located[1]

    def place(self, ids: Sequence[str], groups: list[Group]) -> None:
        """What `locate` will answer for a list of ids whose rows are known already."""
        self._located = ids, groups

    def weight(self, draft: Draft, row: int) -> float:
        """The present weight of an edge row, pending rules applied."""
        return scaled_one(draft.part, self.rules, row, self.lsn)

    def find_edges(self, source: str, target: str, edge_type: str | None) -> list[tuple[Draft, int]]:
        """The current versions of the edges between two ids, of one type or of all."""
        if edge_type is None:
            return self._between(source, target, None)
        key = (source, target, edge_type)
        found = self._edges.get(key)
        if found is None:
            if len(self._edges) >= _REMEMBERED:
                self._edges.clear()
            found = self._edges[key] = self._between(*key)
        return found

    def _between(self, source: str, target: str, edge_type: str | None) -> list[tuple[Draft, int]]:
        code = None if edge_type is None else self.types.codes.get(edge_type, -1)
        found = []
        for draft in self.drafts:
            if draft.m and (rows := draft.part.source.edges_between(source, target)):
                kinds = draft.part.edges["type"].cells
                for row in rows:
                    if (code is None or kinds[row] == code) and draft.current("edges", row):
                        found.append((draft, row))
        return found

    def apply(self, op: Op) -> None:
        """Make one operation part of the state, under the next sequence number."""
        self.lsn += 1
        kind = type(op)
        if self.undo.watching or kind in TOLD:
            self.undo.see(op, self.lsn)
        if kind is SetField:  # a value for a field leaves all rows where they are
            self._set_field(op)  # type: ignore[arg-type]
            return
        if moves := kind in _MOVES:
            self._forget_places()
        if (change := _CHANGES.get(kind)) is not None:
            change(self, op)
        self._located = None
        if moves:
            self._forget_places()

    def _forget_places(self) -> None:
        self._items.clear()
        self._edges.clear()

    def _insert_items(self, op: InsertItems) -> None:
        times = op.numbers[:, _RECORD_TIME["items"]].tolist()
        places = range(len(op.ids)) if len(op.ids) < MANY else occurring(self.drafts, op.ids)
        for place in places:
            times[place] = self._close_item(op.ids[place], times[place])
        self.memtable.add_items(self.front, op, times=times, seq=self.lsn)
        for item_id in op.ids:
            self._items.pop(item_id, None)

    def _insert_edges(self, op: InsertEdges) -> None:
        times = op.numbers[:, _RECORD_TIME["edges"]].tolist()
        drafts, codes = self.drafts, self.types.codes
        for place, (source, target, name) in enumerate(zip(op.sources, op.targets, op.types, strict=True)):
            code = codes.get(name, -1)
            rows = [
                (draft, row)
                for draft in drafts
                for row in draft.source.edges_between(source, target)
                if draft.value("edges", "type", row) == code
            ]
            if rows:
                times[place] = self._close("edges", rows, times[place])
        self.memtable.add_edges(self.front, op, self.types, times=times, seq=self.lsn)
        for key in zip(op.sources, op.targets, op.types, strict=True):
            self._edges.pop(key, None)

    def _close_item(self, item_id: str, time: float) -> float:
        rows = [(draft, row) for draft in self.drafts for row in draft.source.rows_of(item_id)]
        return self._close("items", rows, time) if rows else time

    def _close(self, kind: str, rows: list[tuple[Draft, int]], time: float) -> float:
        """End the current version of a key, not before any of its versions began or ended: their spans stay
        disjoint even where the clock ran backwards. Returns the time that was used."""
        spans = []
        for draft, row in rows:
            if draft.value(kind, "alive", row):
                since, until = draft.value(kind, "record_time", row), draft.value(kind, "record_until", row)
                time = max(time, until if until < math.inf else since)
                spans.append((draft, row, until))
        for draft, row, until in spans:
            if until == math.inf:
                draft.patch(kind, "record_until", row, time, seq=self.lsn)
        return time

    def _set_field(self, op: SetField) -> None:
        if len(op.ids) >= MANY:
            for draft, places, rows in self.locate(op.ids):
                alone = len(places) == len(op.values)  # all of them, in their order
                values = op.values if alone else [op.values[place] for place in places]
                if op.field in ("type", "access_count"):
                    values = [native(op.field, value) for value in values]
                draft.patch_many("items", op.field, rows, values, seqs=self.lsn)
            return
        field, known = op.field, self._items
        for item_id, value in zip(op.ids, op.values, strict=True):
            if (found := known.get(item_id) or self.find_item(item_id)) is not None:
                draft, row = found
                draft.patch("items", field, row, native(field, value), seq=self.lsn)

    def _map_field(self, op: MapField) -> None:
        operators = op.operators.tolist()
        if len(op.ids) >= MANY:
            found = [
                (d, row, place)
                for d, places, rows in self.locate(op.ids)
                for place, row in zip(places, rows, strict=True)
            ]
        else:
            each = enumerate(map(self.find_item, op.ids))
            found = [(*hit, place) for place, hit in each if hit is not None]
        for draft, row, place in found:
            a, b, lo, hi = operators[place]
            value = min(max(a * float(draft.value("items", op.field, row)) + b, lo), hi)
            draft.patch("items", op.field, row, native(op.field, value), seq=self.lsn)

    def _map_edges(self, op: MapEdges) -> None:
        keys = zip(op.sources, op.targets, op.types, op.operators.tolist(), strict=True)
        for source, target, edge_type, (a, b, lo, hi) in keys:
            for draft, row in self.find_edges(source, target, edge_type):
                weight = a * scaled_one(draft.part, self.rules, row, self.lsn) + b
                draft.patch("edges", "weight", row, min(max(weight, lo), hi), seq=self.lsn)

    def _scale(self, op: ScaleRule) -> None:
        self.rules.add(self.lsn, op)

    def _delete_items(self, op: DeleteItems) -> None:
        self.tombstones.add(self.lsn, op.ids)
        for draft in self.drafts:
            bury(draft, op.ids, seq=self.lsn)

    def _close_items(self, op: CloseItems) -> None:
        for item_id in op.ids:
            self._close_item(item_id, op.time)

    def _restore(self, op: PatchRows | RestoreItems | RestoreEdges) -> None:
        restore(self, op)

    def _delete_edges(self, op: DeleteEdges) -> None:
        for source, target, edge_type in zip(op.sources, op.targets, op.types, strict=True):
            code = self.types.codes.get(edge_type, -1)
            for draft in self.drafts:
                for row in draft.source.edges_between(source, target):
                    if draft.value("edges", "type", row) == code and draft.value("edges", "alive", row):
                        draft.patch("edges", "alive", row, False, seq=self.lsn)


_CHANGES: Final[dict[type[Any], Callable[[State, Any], None]]] = {
    InsertItems: State._insert_items,
    InsertEdges: State._insert_edges,
    MapField: State._map_field,
    MapEdges: State._map_edges,
    ScaleRule: State._scale,
    DeleteItems: State._delete_items,
    CloseItems: State._close_items,
    DeleteEdges: State._delete_edges,
    PatchRows: State._restore,
    RestoreItems: State._restore,
    RestoreEdges: State._restore,
}
"""What each operation does; those that are not here change nothing but the memory of transactions."""


def native(field: str, value: Any) -> Any:
    """A value as the column's memory holds it: types come by name, counters as floats."""
    if field == "type":
        return ITEM_TYPES.index(value)
    return int(value) if field == "access_count" else value


def bury(draft: Draft, ids: Sequence[str], *, seq: Lsn) -> None:
    """Hide all versions of some ids, and all edges at them, that are older than a tombstone."""
    items = {row: None for name in ids for row in draft.source.rows_of(name)}
    edges = {
        row: None
        for name in ids
        for side in (False, True)
        for row in draft.source.edge_rows(name, incoming=side)
    }
    for kind, rows in (("items", items), ("edges", edges)):
        alive, born = draft.part.column(kind, "alive"), draft.part.column(kind, "seq")
        chosen = [row for row in rows if alive.now(row) and born.now(row) < seq]
        if chosen:
            draft.patch_many(kind, "alive", chosen, False, seqs=seq)
