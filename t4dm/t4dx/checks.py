"""What a commit checks against the state, under the writer's lock: that what it names exists. Then nothing
can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from t4dm.errors import EdgeError, EdgeNotFoundError, ItemError, ItemNotFoundError, TransactionError
from t4dm.t4dx import resolving
from t4dm.t4dx.locating import MANY, first_unknown
from t4dm.t4dx.ops import (
    CloseItems,
    DeleteEdges,
    DeleteItems,
    InsertEdges,
    InsertItems,
    MapEdges,
    MapField,
    Op,
    SetField,
)
from t4dm.t4dx.requests import Invalidate, MapWhere, Named, Request, ScaleWhere, SetWhere, Supersede, UndoOf
from t4dm.t4dx.state import State

Key = tuple[str, str, str]


def resolve(state: State, requests: list[Request]) -> list[Op]:
    """Finished operations for the requests of one commit.

    Raises:
        ItemNotFoundError, EdgeNotFoundError, EdgeError, ItemError, TransactionError: and nothing changed.
    """
    if len(requests) == 1:  # the commonest commits need no plan
        request = requests[0]
        if isinstance(request, SetField) and len(request.ids) == 1:
            if state.find_item(request.ids[0]) is None:
                raise ItemNotFoundError(request.ids[0])
            return requests  # type: ignore[return-value]
        if isinstance(request, MapEdges) and len(request.types) == 1 and request.types[0]:
            key = request.sources[0], request.targets[0], request.types[0]
            if not state.find_edges(*key):
                raise EdgeNotFoundError(*key)
            return [request]
        if isinstance(request, InsertItems) and len(state.collections.rows) == 1:
            return [request]
    return _Plan(state).resolve(requests)


class _Plan:
    """Resolves the requests of one commit in order, each seeing what the earlier ones will have done."""

    __slots__ = ("_edges", "_gone", "_homes", "_items", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._items: dict[str, bool] = {}
        self._edges: dict[Key, bool] = {}
        self._gone: set[str] = set()
        self._homes: dict[str, str] = {}

    def resolve(self, requests: list[Request]) -> list[Op]:
        """All of them."""
        head, ops = requests[0] if requests else None, list[Op]()
        for request in requests if len(requests) > 1 else ():
            if isinstance(request, UndoOf):
                raise TransactionError(
                    f"an undo is a write of its own; call store.undo({request.name!r}) outside"
                )
        for request in requests[1:] if isinstance(head, Named) else requests:
            ops += self._resolve(request, ops)
        return [resolving.remember(self._state, head, ops), *ops] if isinstance(head, Named) else ops

    def _resolve(self, request: Request, before: list[Op]) -> list[Op]:
        if (check := _CHECKS.get(type(request))) is not None:
            return [check(self, request)]
        match request:
            case ScaleWhere():
                return resolving.scale(self._state, request, before)
            case MapWhere():
                return resolving.map_weights(self._state, request, before)
            case SetWhere():
                return resolving.set_where(self._state, request, before)
            case Supersede():
                made = resolving.supersede(self._state, request, before)
                return [op for new in made for op in self._resolve(new, before)]
            case UndoOf():
                return resolving.undo(self._state, request)
            case Invalidate():
                return resolving.invalidate(self._state, request, before)
            case Named():
                raise TransactionError(
                    "a transaction has one id; open it once: with store.transaction(id=...)"
                )
        return [request]

    def _insert_items(self, request: InsertItems) -> Op:
        if len(self._state.collections.rows) > 1:
            self._check_home(request)
        self._items.update(dict.fromkeys(request.ids, True))
        return request

    def _insert_edges(self, request: InsertEdges) -> Op:
        keys = zip(request.sources, request.targets, request.types, strict=True)
        self._edges.update(dict.fromkeys(keys, True))
        return request

    def _change_items(self, request: SetField | MapField) -> Op:
        self._need_items(request.ids)
        return request

    def _end_items(self, request: DeleteItems | CloseItems) -> Op:
        self._need_items(request.ids)
        self._items.update(dict.fromkeys(request.ids, False))
        if isinstance(request, DeleteItems):
            self._drop_edges(set(request.ids))
        return request

    def _delete_edges(self, request: DeleteEdges) -> Op:
        for key in zip(request.sources, request.targets, request.types, strict=True):
            self._need_edge(key)
            self._edges[key] = False
        return request

    def _check_home(self, request: InsertItems) -> None:
        """An id lives in one collection: its new version cannot be elsewhere."""
        for item_id in request.ids:
            home = self._homes.get(item_id) if self._items.get(item_id) else None
            if item_id not in self._items and (found := self._state.find_item(item_id)) is not None:
                draft, row = found
                home = self._state.collections.rows[draft.value("items", "collection", row)].name
            if home is not None and home != request.collection:
                raise ItemError(
                    f"item {item_id!r} lives in collection {home!r}, not {request.collection!r}; "
                    f"delete it first, or insert it with collection={home!r}"
                )
            self._homes[item_id] = request.collection

    def _need_items(self, ids: Sequence[str]) -> None:
        if len(ids) >= MANY and not self._items:
            unknown = first_unknown(self._state.locate(ids), ids)
            if unknown is not None:
                raise ItemNotFoundError(unknown)
            return
        for item_id in ids:
            known = self._items.get(item_id)
            if known is False or (known is None and self._state.find_item(item_id) is None):
                raise ItemNotFoundError(item_id)

    def _has_edge(self, key: Key) -> bool:
        known = self._edges.get(key)
        if known is not None:
            return known
        gone = bool(self._gone) and not self._gone.isdisjoint(key[:2])
        return not gone and bool(self._state.find_edges(*key))

    def _need_edge(self, key: Key) -> None:
        if not self._has_edge(key):
            raise EdgeNotFoundError(*key)

    def _drop_edges(self, ids: set[str]) -> None:
        self._gone |= ids
        self._edges = {k: v and not ids & {k[0], k[1]} for k, v in self._edges.items()}

    def _map_edges(self, request: MapEdges) -> Op:
        names = list(request.types)
        for place, (source, target, name) in enumerate(
            zip(request.sources, request.targets, names, strict=True)
        ):
            if name:
                self._need_edge((source, target, name))
            else:
                names[place] = self._only_type(source, target)
        return request if names == request.types else replace(request, types=names)

    def _only_type(self, source: str, target: str) -> str:
        found = [name for name in self._state.types.names if self._has_edge((source, target, name))]
        if not found:
            raise EdgeNotFoundError(source, target, None)
        if len(found) > 1:
            raise EdgeError(
                f"{source!r} -> {target!r} is joined by {', '.join(found)}; say which: edge_type={found[0]!r}"
            )
        return found[0]


_CHECKS: Final[dict[type[Any], Callable[[_Plan, Any], Op]]] = {
    InsertItems: _Plan._insert_items,
    InsertEdges: _Plan._insert_edges,
    SetField: _Plan._change_items,
    MapField: _Plan._change_items,
    DeleteItems: _Plan._end_items,
    CloseItems: _Plan._end_items,
    DeleteEdges: _Plan._delete_edges,
    MapEdges: _Plan._map_edges,
}
