"""What undoes a batch of operations, made from the state before it is applied.

Versions that the batch inserts are hidden and those that it ends are open again; values, weights and what
rules scale are set to what they were; what it deletes comes back whole, with all versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, final

import numpy as np

from t4dm.t4dx.ops import (
    EDGE_NUMBERS,
    ITEM_NUMBERS,
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
from t4dm.t4dx.rules import concerned
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Draft
from t4dm.t4dx.types import ITEM_TYPES, Lsn

_CHUNK: Final = 1024  # rows per operation, as in an insert
Key = tuple[str, str, str]
Place = tuple[Draft, int]


class _Patch(NamedTuple):
    key: tuple[str, ...]
    birth: int
    value: Any


@final
class _Inverse:
    """Collects over the operations of a batch; the first LSN is that of its first operation."""

    def __init__(self, state: State, batch: Iterable[Op], first: Lsn) -> None:
        self._state = state
        self._made_items: list[_Patch] = []
        self._made_edges: list[_Patch] = []
        self._ended: dict[str, None] = {}
        self._fields: dict[tuple[str, str], None] = {}
        self._deleted: dict[str, None] = {}
        self._ended_edges: dict[Key, None] = {}
        self._weights: dict[Key, None] = {}
        self._deleted_edges: dict[Key, None] = {}
        self._rules: list[ScaleRule] = []
        for lsn, op in enumerate(batch, first):
            self._add(op, lsn)

    def _add(self, op: Op, lsn: Lsn) -> None:
        match op:
            case InsertItems():
                self._made_items += [_Patch((name,), lsn, False) for name in op.ids]
                self._ended |= dict.fromkeys(op.ids)
            case CloseItems():
                self._ended |= dict.fromkeys(op.ids)
            case SetField() | MapField():
                self._fields |= dict.fromkeys((op.field, name) for name in op.ids)
            case DeleteItems():
                self._deleted |= dict.fromkeys(op.ids)
            case ScaleRule():
                self._rules.append(op)
            case InsertEdges() | MapEdges() | DeleteEdges():
                keys = list(zip(op.sources, op.targets, op.types, strict=True))
                if isinstance(op, InsertEdges):
                    self._made_edges += [_Patch(key, lsn, False) for key in keys]
                    self._ended_edges |= dict.fromkeys(keys)
                if not isinstance(op, DeleteEdges):  # a reopened edge needs its weight: rules pass it over
                    self._weights |= dict.fromkeys(keys)
                else:
                    self._deleted_edges |= dict.fromkeys(keys)

    def ops(self) -> list[Op]:
        """The inverse, to be applied in this order."""
        items = {name: self._item_places(name) for name in self._deleted}
        edges = self._lost_edges()
        gone = set(edges)
        found = [
            _patch("items", "alive", self._made_items),
            _patch("edges", "alive", self._made_edges),
            _patch("items", "record_until", self._open_items()),
            _patch("edges", "record_until", self._open_edges(gone)),
            *self._values(),
            _patch("edges", "weight", self._old_weights(gone)),
        ]
        restored: list[Op] = [
            *_item_layers(self._state, list(items.values())),
            *_edge_layers(self._state, list(edges.values())),
        ]
        return [op for op in found if op is not None] + restored

    def _item_places(self, name: str) -> list[Place]:
        rows = [(draft, row) for draft in self._state.drafts for row in draft.source.rows_of(name)]
        return _living("items", rows)

    def _lost_edges(self) -> dict[Key, list[Place]]:
        """All versions of the edges that are deleted, or lie at deleted items."""
        lost: dict[Key, list[Place]] = {}
        for draft in self._state.drafts:
            rows: set[int] = set()
            for name in self._deleted:
                rows |= {row for side in (False, True) for row in draft.source.edge_rows(name, incoming=side)}
            for source, target, kind in self._deleted_edges:
                code = self._state.types.codes[kind]
                between = draft.source.edges_between(source, target)
                rows |= {row for row in between if draft.value("edges", "type", row) == code}
            for row in sorted(rows):
                lost.setdefault(self._edge_key(draft, row), []).append((draft, row))
        return {key: alive for key, places in lost.items() if (alive := _living("edges", places))}

    def _edge_key(self, draft: Draft, row: int) -> Key:
        return (*draft.source.edge_ends(row), self._state.types.names[draft.value("edges", "type", row)])

    def _open_items(self) -> list[_Patch]:
        names = [name for name in self._ended if name not in self._deleted]
        return [
            _Patch((name,), int(place[0].value("items", "seq", place[1])), math.inf)
            for name in names
            if (place := self._state.find_item(name)) is not None
        ]

    def _open_edges(self, gone: set[Key]) -> list[_Patch]:
        return [
            _Patch(key, int(draft.value("edges", "seq", row)), math.inf)
            for key in self._ended_edges
            if key not in gone
            for draft, row in self._state.find_edges(*key)
        ]

    def _values(self) -> list[Op | None]:
        patches: dict[str, list[_Patch]] = {}
        for field, name in self._fields:
            place = None if name in self._deleted else self._state.find_item(name)
            if place is not None:
                draft, row = place
                value = _meta(draft, row) if field == "metadata" else draft.value("items", field, row)
                patches.setdefault(field, []).append(
                    _Patch((name,), int(draft.value("items", "seq", row)), value)
                )
        return [_patch("items", field, rows) for field, rows in patches.items()]

    def _concerned(self, draft: Draft, rule: ScaleRule) -> list[int]:
        view = draft.view(self._state.lsn, self._state.rules)
        rows: list[int] = concerned(view, self._state.types, rule).tolist()
        return rows

    def _old_weights(self, gone: set[Key]) -> list[_Patch]:
        places = {key: self._state.find_edges(*key) for key in self._weights}
        for rule in self._rules:
            for draft in self._state.drafts:
                for row in self._concerned(draft, rule):
                    places.setdefault(self._edge_key(draft, row), [(draft, row)])
        return [
            _Patch(key, int(draft.value("edges", "seq", row)), self._state.weight(draft, row))
            for key, found in places.items()
            if key not in gone
            for draft, row in found
        ]


def inverse(state: State, batch: Iterable[Op], *, first: Lsn) -> list[Op]:
    """What undoes a batch that will be applied to a state from LSN `first` on."""
    return _Inverse(state, batch, first).ops()


def _living(kind: str, places: Iterable[Place]) -> list[Place]:
    """Places that are not deleted, oldest insert first."""
    alive = [(draft, row) for draft, row in places if draft.value(kind, "alive", row)]
    return sorted(alive, key=lambda place: place[0].value(kind, "seq", place[1]))


def _patch(kind: str, field: str, rows: list[_Patch]) -> Op | None:
    if not rows:
        return None
    keys, births = [list(row.key) for row in rows], [row.birth for row in rows]
    return PatchRows(kind, field, keys, births, [row.value for row in rows])


def _item_layers(state: State, versions: list[list[Place]]) -> list[Op]:
    """The i-th versions of all items, one operation per collection: an LSN names one version of an id."""
    made: list[Op] = []
    for layer in range(max(map(len, versions), default=0)):
        homes: dict[int, list[Place]] = {}
        for draft, row in (places[layer] for places in versions if layer < len(places)):
            homes.setdefault(int(draft.value("items", "collection", row)), []).append((draft, row))
        for code, places in homes.items():
            made += [_restore_items(state, code, chunk) for chunk in _chunks(places)]
    return made


def _restore_items(state: State, code: int, places: list[Place]) -> Op:
    home = state.collections.rows[code]
    has = np.array([draft.value("items", "vec_row", row) >= 0 for draft, row in places], bool)
    vectors = [
        draft.source.vector(code, draft.value("items", "vec_row", row))
        for (draft, row), given in zip(places, has.tolist(), strict=True)
        if given
    ]
    rows = InsertItems(
        ids=[draft.source.id_at(row) for draft, row in places],
        contents=[draft.source.text_at(row)[0] for draft, row in places],
        types=[ITEM_TYPES[draft.value("items", "type", row)] for draft, row in places],
        sessions=[draft.source.session_names[draft.value("items", "session", row)] for draft, row in places],
        metas=[_meta(draft, row) for draft, row in places],
        numbers=np.array(
            [[draft.value("items", n, row) for n in ITEM_NUMBERS] for draft, row in places], np.float64
        ),
        has=has,
        vectors=np.stack(vectors) if vectors else np.zeros((0, home.dim), np.float32),
        collection=home.name,
    )
    return RestoreItems([int(draft.value("items", "seq", row)) for draft, row in places], rows)


def _edge_layers(state: State, versions: list[list[Place]]) -> list[Op]:
    return [
        _restore_edges(state, chunk)
        for layer in range(max(map(len, versions), default=0))
        for chunk in _chunks([places[layer] for places in versions if layer < len(places)])
    ]


def _restore_edges(state: State, places: list[Place]) -> Op:
    ends = [draft.source.edge_ends(row) for draft, row in places]
    rows = InsertEdges(
        sources=[source for source, _ in ends],
        targets=[target for _, target in ends],
        types=[state.types.names[draft.value("edges", "type", row)] for draft, row in places],
        props=[draft.source.edge_text(row) for draft, row in places],
        numbers=np.array(
            [
                [state.weight(draft, row), *(draft.value("edges", name, row) for name in EDGE_NUMBERS[1:])]
                for draft, row in places
            ],
            np.float64,
        ),
    )
    return RestoreEdges([int(draft.value("edges", "seq", row)) for draft, row in places], rows)


def _chunks(places: list[Place]) -> Iterator[list[Place]]:
    for start in range(0, len(places), _CHUNK):
        yield places[start : start + _CHUNK]


def _meta(draft: Draft, row: int) -> bytes:
    return draft.meta(row)
