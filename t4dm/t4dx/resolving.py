"""Requests that look at the state become finished operations: ids, values and rules, never filters to be read
again.

They see the store as it was before their commit. Where an earlier write of the same transaction may have
changed what they look at they are refused, rather than answered from the past.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final, cast

import numpy as np

from t4dm.errors import EdgeError, ItemError, ItemNotFoundError, TransactionError
from t4dm.t4dx import door, graph
from t4dm.t4dx.filters import EdgeFilter
from t4dm.t4dx.inverse import inverse
from t4dm.t4dx.item_reads import find_item
from t4dm.t4dx.locating import Group
from t4dm.t4dx.matching import match, names_of
from t4dm.t4dx.operators import assign
from t4dm.t4dx.ops import (
    CloseItems,
    DeleteEdges,
    DeleteItems,
    InsertEdges,
    InsertItems,
    MapEdges,
    MapField,
    Op,
    Remember,
    ScaleRule,
    SetField,
    Undone,
)
from t4dm.t4dx.provenance import dependants
from t4dm.t4dx.requests import Invalidate, MapWhere, Named, Request, ScaleWhere, SetWhere, Supersede, UndoOf
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Rows, Source
from t4dm.t4dx.types import UNSET, Edge, EdgeType, Item
from t4dm.t4dx.undo import pack_inverse

_CHANGES_EDGES: Final = (InsertEdges, MapEdges, ScaleRule, DeleteItems, DeleteEdges)
_CHANGES_ITEMS: Final = (InsertItems, SetField, MapField, DeleteItems, CloseItems)
_FIXED: Final = ("id", "collection", "record_until")


def scale(state: State, request: ScaleWhere, before: list[Op]) -> list[Op]:
    """One rule where the filter asks for what never changes, else the edges that pass it now."""
    where, operator = request.where, np.array(request.operator, np.float64)
    if where.immutable:
        names = [n if n is None else list(names_of(n)) for n in (where.type, where.source, where.target)]
        recorded = cast("tuple[float, float] | None", where.record_time)  # the filter has closed open sides
        return [ScaleRule(names[0], names[1], names[2], operator, recorded, where.lsn)]
    keys, _ = _edges(state, where, before)
    return _map_edges(keys, np.tile(operator, (len(keys), 1)))


def map_weights(state: State, request: MapWhere, before: list[Op]) -> list[Op]:
    """The weights that a function gives for the edges that pass a filter now."""
    keys, weights = _edges(state, request.where, before)
    if not keys:
        return []
    given = np.asarray(request.function(weights.copy()), np.float64)
    if given.shape != weights.shape:
        raise EdgeError(
            f"the function gave shape {given.shape} for {len(weights)} weights; return one weight for each"
        )
    for place in np.flatnonzero(~((given >= 0.0) & (given <= 1.0))).tolist():
        raise EdgeError(
            f"the function made {given[place]} of the weight {weights[place]}; keep weights in [0, 1], "
            "for example with numpy.clip(weights, 0, 1)"
        )
    return _map_edges(keys, np.array([assign(value) for value in given.tolist()], np.float64))


def set_where(state: State, request: SetWhere, before: list[Op]) -> list[Op]:
    """The values for the items that pass a filter now; the state keeps where they lie for its next step."""
    _refuse_after(before, _CHANGES_ITEMS, "an update by a filter")
    version, groups, count = state.version(), list[Group](), 0
    found: list[tuple[Source, Rows]] = []
    for draft, view in zip(state.drafts, version.views, strict=True):
        rows = match(view, request.where, None, version.collections)
        if len(rows):
            groups.append(Group(draft, range(count, count + len(rows)), rows.tolist()))
            found.append((view.source, rows))
            count += len(rows)
    if not count:
        return []
    ids = _ids_at(found)
    state.place(ids, groups)
    return [SetField(name, ids, [value] * count) for name, value in request.values.items()]


def _ids_at(found: list[tuple[Source, Rows]]) -> Sequence[str]:
    """The ids of rows in several sources; those of one segment stay packed where they can."""
    source, rows = found[0]
    if len(found) == 1 and isinstance(source, Segment) and (packed := source.packed_ids(rows)) is not None:
        return packed
    return [item_id for source, rows in found for item_id in source.ids_at(rows)]


def supersede(state: State, request: Supersede, before: list[Op]) -> list[Op]:
    """The new version with what it does not change; or the new item, the end of the old, their edge."""
    old = find_item(state.version(), request.item_id, None)
    if any(request.item_id in _ids(op) for op in before):
        raise TransactionError(
            f"item {request.item_id!r} was changed earlier in this transaction; insert its new version whole"
        )
    if old is None:
        raise ItemNotFoundError(request.item_id)
    new = request.new if request.new is not None else _changed(old, request)
    home = state.collections.named(new.collection)
    ops: list[Op] = [door.item_rows([new], collection=home, now=request.now)]
    if new.id != old.id:
        ops.append(CloseItems([old.id], float(ops[0].numbers[0, 4])))  # type: ignore[union-attr]
        if request.link:
            edge = Edge(new.id, old.id, EdgeType.SUPERSEDES, weight=1.0)
            ops.append(door.edge_rows([edge], known=state.types.codes, now=request.now))
    return ops


def invalidate(state: State, request: Invalidate, before: list[Op]) -> list[Op]:
    """The end of the validity of an item and of what depends on it, as far as they last longer."""
    _refuse_after(before, (*_CHANGES_EDGES, InsertItems, CloseItems, SetField), "invalidate")
    version = state.version()
    if find_item(version, request.item_id, None) is None:
        raise ItemNotFoundError(request.item_id)
    names = [request.item_id, *(dependants(version, [request.item_id]) if request.cascade else [])]
    items = [item for name in names if (item := find_item(version, name, None)) is not None]
    lasting = [item for item in items if item.valid_until > max(request.at, item.valid_from)]
    request.closed[:] = [item.id for item in lasting]
    if request.dry_run or not lasting:
        return []
    return [
        SetField("valid_until", list(request.closed), [max(request.at, item.valid_from) for item in lasting])
    ]


def remember(state: State, head: Named, batch: list[Op]) -> Op:
    """The head of a transaction with an id, with what undoes it."""
    state.undo.check_new(head.name)
    made = pack_inverse(inverse(state, batch, first=state.lsn + 2)) if head.undo else b""
    return Remember(head.name, len(batch), head.keep, head.now, made)


def undo(state: State, request: UndoOf) -> list[Op]:
    """What undoes a transaction now."""
    return [*state.undo.inverse(request.name, "the undo log"), Undone(request.name)]


def _changed(old: Item, request: Supersede) -> Item:
    known = [field.name for field in fields(Item)]
    for name in request.fields:
        if name not in known or name in _FIXED:
            raise ItemError(
                f"{name!r} is no field of a new version; choose from "
                f"{', '.join(name for name in known if name not in _FIXED)}"
            )
    fresh: dict[str, Any] = {"valid_from": request.now, "valid_until": np.inf, **request.fields}
    return replace(old, **{"record_time": UNSET, "record_until": np.inf, **fresh})


def _edges(
    state: State, where: EdgeFilter, before: list[Op]
) -> tuple[list[tuple[str, str, str]], np.ndarray[Any, np.dtype[np.float64]]]:
    _refuse_after(before, _CHANGES_EDGES, "a scaling by weight, validity or properties")
    version, keys, weights = state.version(), list[tuple[str, str, str]](), list[float]()
    for view, row in graph.edge_places(version, where, None):
        keys.append((*view.source.edge_ends(row), version.types.names[view.edges["type"][row]]))
        weights.append(float(view.edges["weight"][row]))
    order = sorted(range(len(keys)), key=keys.__getitem__)  # the same log for the same state
    return [keys[place] for place in order], np.array([weights[place] for place in order], np.float64)


def _map_edges(keys: list[tuple[str, str, str]], operators: Any) -> list[Op]:
    if not keys:
        return []
    sources, targets, types = map(list, zip(*keys, strict=True))
    return [MapEdges(sources, targets, types, operators)]


def _refuse_after(before: list[Op], kinds: tuple[type[Any], ...], what: str) -> None:
    if any(isinstance(op, kinds) for op in before):
        raise TransactionError(
            f"{what} looks at the store as it was before this transaction, which has changed it; "
            "put it first, or into a transaction of its own"
        )


def _ids(op: Request) -> list[str]:
    return getattr(op, "ids", [])
