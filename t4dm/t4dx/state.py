"""The logical state of a store and the one way to change it: `apply`, the same live and in replay."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final, NamedTuple, final

import numpy as np

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
from t4dm.t4dx.tables import Draft, Rows, View, sees
from t4dm.t4dx.types import ITEM_TYPES
from t4dm.t4dx.undo import Undoables

_RECORD_TIME: Final = {"items": 4, "edges": 3}


class Version(NamedTuple):
    """What a reader holds: all views at one LSN, the memtable's first, then segments from new to old."""

    views: tuple[View, ...]
    types: EdgeTypes
    collections: Collections
    lsn: int

    @property
    def dim(self) -> int:
        """Vector size of the default collection."""
        return self.collections.rows[0].dim


@final
class State:
    """Drafts of the memtable and the segments, tombstones and rules that no segment has folded yet, and the
    last LSN.

    `apply` never fails on an operation that passed `checks`: what it needs was checked before the operation
    was logged.
    """

    def __init__(
        self, *, collections: Collections, types: EdgeTypes, segments: list[Draft], lsn: int
    ) -> None:
        self.collections, self.types, self.lsn = collections, types, lsn
        self.memtable = Memtable(collections)
        self.front = self.memtable.draft()
        self.segments = segments
        self.tombstones: dict[str, int] = {}
        self.rules: list[tuple[int, ScaleRule]] = []
        self.undo = Undoables()

    @property
    def drafts(self) -> list[Draft]:
        """Memtable first, then segments from new to old."""
        return [self.front, *self.segments]

    def version(self) -> Version:
        """Publish the present."""
        return Version(tuple(draft.view() for draft in self.drafts), self.types, self.collections, self.lsn)

    def new_memtable(self) -> None:
        """Start an empty memtable; the old one's rows now live in a segment."""
        self.memtable = Memtable(self.collections)
        self.front = self.memtable.draft()

    def forget_folded(self) -> None:
        """Drop the rules and tombstones that every segment has folded."""
        folded = min((draft.folded for draft in self.segments), default=self.lsn)
        self.rules = [rule for rule in self.rules if rule[0] > folded]
        self.tombstones = {name: seq for name, seq in self.tombstones.items() if seq > folded}

    def find_item(self, item_id: str) -> tuple[Draft, int] | None:
        """The current version of an id."""
        for draft in self.drafts:
            for row in reversed(draft.source.rows_of(item_id)):
                if sees(draft.items, row, None):
                    return draft, row
        return None

    def find_edges(self, source: str, target: str, edge_type: str | None) -> list[tuple[Draft, int]]:
        """The current versions of the edges between two ids, of one type or of all."""
        code = None if edge_type is None else self.types.codes.get(edge_type, -1)
        return [
            (draft, row)
            for draft in self.drafts
            for row in draft.source.edges_between(source, target)
            if (code is None or draft.edges["type"][row] == code) and sees(draft.edges, row, None)
        ]

    def apply(self, op: Op) -> None:
        """Make one operation part of the state, under the next sequence number."""
        self.lsn += 1
        self.undo.see(op, self.lsn)
        match op:
            case InsertItems():
                self._insert_items(op)
            case InsertEdges():
                self._insert_edges(op)
            case SetField():
                self._set_field(op)
            case MapField():
                self._map_field(op)
            case MapEdges():
                self._map_edges(op)
            case ScaleRule():
                self.rules.append((self.lsn, op))
                for draft in self.drafts:
                    apply_rule(draft, op, self.types, before=self.lsn)
            case DeleteItems():
                for item_id in op.ids:
                    self.tombstones[item_id] = self.lsn
                    for draft in self.drafts:
                        bury(draft, item_id, before=self.lsn)
            case CloseItems():
                for item_id in op.ids:
                    self._close_item(item_id, op.time)
            case DeleteEdges():
                self._delete_edges(op)
            case PatchRows() | RestoreItems() | RestoreEdges():
                restore(self, op)

    def _insert_items(self, op: InsertItems) -> None:
        numbers, column = op.numbers.copy(), _RECORD_TIME["items"]
        for place, item_id in enumerate(op.ids):
            numbers[place, column] = self._close_item(item_id, float(numbers[place, column]))
        self.memtable.add_items(self.front, replace(op, numbers=numbers), seq=self.lsn)

    def _insert_edges(self, op: InsertEdges) -> None:
        numbers, column = op.numbers.copy(), _RECORD_TIME["edges"]
        for place, (source, target, name) in enumerate(zip(op.sources, op.targets, op.types, strict=True)):
            code = self.types.codes.get(name, -1)
            rows = [
                (draft, row)
                for draft in self.drafts
                for row in draft.source.edges_between(source, target)
                if draft.edges["type"][row] == code
            ]
            numbers[place, column] = self._close("edges", rows, float(numbers[place, column]))
        self.memtable.add_edges(self.front, replace(op, numbers=numbers), self.types, seq=self.lsn)

    def _close_item(self, item_id: str, time: float) -> float:
        rows = [(draft, row) for draft in self.drafts for row in draft.source.rows_of(item_id)]
        return self._close("items", rows, time)

    def _close(self, kind: str, rows: list[tuple[Draft, int]], time: float) -> float:
        """End the current version of a key, not before any of its versions began or ended: their spans stay
        disjoint even where the clock ran backwards. Returns the time that was used."""
        spans = []
        for draft, row in rows:
            cols = draft.items if kind == "items" else draft.edges
            if cols["alive"][row]:
                since, until = float(cols["record_time"][row]), float(cols["record_until"][row])
                time = max(time, until if until < math.inf else since)
                spans.append((draft, row, until))
        for draft, row, until in spans:
            if until == math.inf:
                draft.patch(kind, "record_until", [row], time, seq=self.lsn)
        return time

    def _set_field(self, op: SetField) -> None:
        for item_id, value in zip(op.ids, op.values, strict=True):
            if (found := self.find_item(item_id)) is not None:
                draft, row = found
                set_value(draft, op.field, row, value, seq=self.lsn)

    def _map_field(self, op: MapField) -> None:
        for item_id, (a, b, lo, hi) in zip(op.ids, op.operators.tolist(), strict=True):
            if (found := self.find_item(item_id)) is not None:
                draft, row = found
                value = min(max(a * float(draft.items[op.field][row]) + b, lo), hi)
                draft.patch("items", op.field, [row], value, seq=self.lsn)

    def _map_edges(self, op: MapEdges) -> None:
        keys = zip(op.sources, op.targets, op.types, op.operators.tolist(), strict=True)
        for source, target, edge_type, (a, b, lo, hi) in keys:
            for draft, row in self.find_edges(source, target, edge_type):
                value = min(max(a * float(draft.edges["weight"][row]) + b, lo), hi)
                draft.patch("edges", "weight", [row], value, seq=self.lsn)

    def _delete_edges(self, op: DeleteEdges) -> None:
        for source, target, edge_type in zip(op.sources, op.targets, op.types, strict=True):
            code = self.types.codes.get(edge_type, -1)
            for draft in self.drafts:
                rows = [
                    row
                    for row in draft.source.edges_between(source, target)
                    if draft.edges["type"][row] == code and draft.edges["alive"][row]
                ]
                if rows:
                    draft.patch("edges", "alive", rows, False, seq=self.lsn)


def set_value(draft: Draft, field: str, row: int, value: Any, *, seq: int) -> None:
    """Set one field of an item row; types come by name, metadata packed."""
    if field == "metadata":
        draft.patch_metas(row, value, seq=seq)
    else:
        draft.patch("items", field, [row], ITEM_TYPES.index(value) if field == "type" else value, seq=seq)


def bury(draft: Draft, item_id: str, *, before: int) -> None:
    """Hide all versions of an id, and all edges at it, that are older than a tombstone."""
    items = [row for row in draft.source.rows_of(item_id) if draft.items["alive"][row]]
    if items := [row for row in items if draft.items["seq"][row] < before]:
        draft.patch("items", "alive", items, False, seq=None)
    out, into = (draft.source.edge_rows(item_id, incoming=side) for side in (False, True))
    edges = [row for row in {*out, *into} if draft.edges["alive"][row] and draft.edges["seq"][row] < before]
    if edges:
        draft.patch("edges", "alive", edges, False, seq=None)


def apply_rule(draft: Draft, rule: ScaleRule, types: EdgeTypes, *, before: int) -> None:
    """Apply a scaling rule to the edges of a source that were current when it was made, and not patched
    since.

    An edge that carries an overlay already gets the result as its overlay: a delta file holds values, and a
    value that includes a rule must say so by its LSN. All other edges stay unmarked, the rule itself is kept
    for them.
    """
    rows = rule_rows(draft, rule, types, before=before)
    if len(rows):
        a, b, lo, hi = rule.operator.tolist()
        values = np.minimum(np.maximum(a * draft.edges["weight"][rows] + b, lo), hi)
        draft.patch("edges", "weight", rows, values, seq=None)
        marks = draft.touched["edges"].get("weight", {})
        marks.update({row: before for row in rows.tolist() if row in marks})


def rule_rows(draft: Draft, rule: ScaleRule, types: EdgeTypes, *, before: int) -> Rows:
    """The edge rows a rule applies to."""
    cols, m = draft.edges, draft.m
    closed = draft.touched["edges"].get("record_until", {})
    mask = cols["alive"][:m] & (cols["seq"][:m] < before) & (cols["record_until"][:m] == math.inf)
    if later := [row for row, seq in closed.items() if seq > before]:
        mask[later] = cols["alive"][later] & (cols["seq"][later] < before)
    if newer := [row for row, seq in draft.touched["edges"].get("weight", {}).items() if seq >= before]:
        mask[newer] = False
    if rule.types is not None:
        mask &= np.isin(cols["type"][:m], [types.codes.get(name, -1) for name in rule.types])
    if rule.recorded is not None:
        mask &= (cols["record_time"][:m] >= rule.recorded[0]) & (cols["record_time"][:m] < rule.recorded[1])
    if rule.lsn is not None:
        mask &= cols["seq"][:m] <= rule.lsn
    for side, names in enumerate((rule.sources, rule.targets)):
        if names is not None:
            wanted: list[int] = [
                r for name in names for r in draft.source.edge_rows(name, incoming=bool(side))
            ]
            chosen = np.zeros(m, bool)
            chosen[[row for row in wanted if row < m]] = True
            mask &= chosen
    return np.flatnonzero(mask)
