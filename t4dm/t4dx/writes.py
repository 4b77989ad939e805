"""The writing half of the store's interface, shared by the store itself and by a transaction.

Each method checks its arguments at the door and hands finished operations to `_submit`: the store logs them
at once, a transaction keeps them until it commits. Whether ids exist is checked at the commit, under the
writer's lock.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from t4dm.errors import EdgeError, ItemError
from t4dm.t4dx import door
from t4dm.t4dx.filters import EdgeFilter, Filter
from t4dm.t4dx.operators import AffineClip, add, approach_one
from t4dm.t4dx.ops import (
    CloseItems,
    DeleteEdges,
    DeleteItems,
    MapEdges,
    MapField,
    SetField,
)
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.requests import (
    Invalidate,
    MapWhere,
    Request,
    ScaleWhere,
    SetWhere,
    Supersede,
    UndoOf,
    WeightMap,
)
from t4dm.t4dx.types import Edge, EdgeType, Item, Lsn

_CHUNK: Final = 1024  # items per operation, so that a huge insert can be logged in parts


class Writes(ABC):
    """Write operations; every call is atomic."""

    _collections: Collections
    _types: EdgeTypes
    _clock: Callable[[], float]

    @abstractmethod
    def _submit(self, requests: list[Request]) -> Lsn:
        """Commit now, or keep for the commit."""

    def insert(self, item: Item, edges: Iterable[Edge] = ()) -> Lsn:
        """Store one item with its edges, in one record. An id that exists is superseded: its old version is
        kept.
        """
        home, now = self._collections.named(item.collection), self._now()
        requests: list[Request] = [door.item_row(item, collection=home, now=now)]
        if edges and (links := list(edges)):
            requests.append(door.edge_rows(links, known=self._types.codes, now=now))
        return self._submit(requests)

    def insert_many(self, items: Iterable[Item], edges: Iterable[Edge] = ()) -> Lsn:
        """Store items and edges, all or nothing.

        Raises:
            ItemError, EdgeError, VectorError: something was refused; nothing was stored.
            StoreFullError: the disk is full; nothing was stored.
        """
        rows, links, now = list(items), list(edges), self._now()
        requests: list[Request] = []
        ids = [item.id for item in rows]
        homes = dict.fromkeys(item.collection for item in rows)
        if (len(rows) > _CHUNK or len(homes) > 1) and len(set(ids)) < len(ids):
            raise ItemError("an id is twice in one insert; insert its versions one after the other")
        for name in homes:
            home = self._collections.named(name)
            group = rows if len(homes) == 1 else [item for item in rows if item.collection == name]
            for start in range(0, len(group), _CHUNK):
                requests.append(door.item_rows(group[start : start + _CHUNK], collection=home, now=now))
        if links:
            requests.append(door.edge_rows(links, known=self._types.codes, now=now))
        return self._submit(requests)

    def update_fields(self, item_id: str, **fields: Any) -> Lsn:
        """Set learning state or validity of the current version in place; content and vector change by
        `insert`.
        """
        return self._submit(
            [
                SetField(name, [item_id], [door.item_field(name, value, item_id=item_id)])
                for name, value in fields.items()
            ]
        )

    def update_many(self, ids: Iterable[str], **fields: Any) -> Lsn:
        """Set the same fields of several items, in one record; see `update_fields`."""
        names = list(dict.fromkeys(ids))
        owner = f"the {len(names)} items"
        values = {name: door.check_field(name, value, owner=owner) for name, value in fields.items()}
        return self._submit(
            [SetField(name, names, [value] * len(names)) for name, value in values.items()] if names else []
        )

    def update_where(self, where: Filter, **fields: Any) -> Lsn:
        """Set the same fields of all current items that pass a filter when the write commits, in one record;
        see `update_fields`. Nothing is written where none passes.

        The log holds the ids that were found, so that a replay asks no filter. In a transaction it comes
        before other writes to items.

        Raises:
            ItemError: a value that the field cannot take. TransactionError: an item was written before.
        """
        values = {name: door.check_field(name, value, owner="the items") for name, value in fields.items()}
        return self._submit([SetWhere(where, values)])

    def merge_kappa(self, ids: Iterable[str], eta: float) -> Lsn:
        """kappa += eta*(1 - kappa) for each id, as an operator: repeated merges approach 1, never pass it."""
        operator = approach_one(door.check_unit("eta", eta, owner="merge_kappa"))
        return self._map("kappa", {item_id: operator for item_id in ids})

    def add_accesses(self, counts: Mapping[str, int]) -> Lsn:
        """Add to the access counters of items, in one record."""
        owner = "add_accesses"
        unbounded = 2.0**53
        steps = {name: add(door.check_count(n, owner=owner), hi=unbounded) for name, n in counts.items()}
        return self._map("access_count", steps)

    def update_edge_weight(
        self, source: str, target: str, delta: float, *, edge_type: EdgeType | str | None
    ) -> Lsn:
        """weight = clip(weight + delta, 0, 1). `edge_type=None` is fine where the two are joined by one type
        only.
        """
        name = "" if edge_type is None else door.check_type(edge_type, self._types.codes)
        operator = np.array((_finite(add(delta)),), np.float64)
        return self._submit([MapEdges([source], [target], [name], operator)])

    def update_edge_weights(self, changes: Iterable[tuple[str, str, EdgeType | str, AffineClip]]) -> Lsn:
        """One operator per (source, target, type), in one record."""
        rows = list(changes)
        if not rows:
            return self._submit([])
        names = [door.check_type(row[2], self._types.codes) for row in rows]
        operators = _rows([_finite(row[3]) for row in rows])
        return self._submit([MapEdges([row[0] for row in rows], [row[1] for row in rows], names, operators)])

    def batch_scale_weights(
        self, where: EdgeFilter, op: AffineClip | tuple[float, float, float, float]
    ) -> Lsn:
        """weight = clip(a*weight + b, lo, hi) for all current edges that fit, `op` = (a, b, lo, hi), 0 <= lo
        <= hi <= 1.

        A filter on what an edge never changes (type, ends, record_time, lsn) is logged as one rule, whatever
        the number of edges; any other is resolved to the edges that pass it when the write commits.
        """
        operator = _finite(AffineClip(*op))
        if not 0.0 <= operator.lo <= operator.hi <= 1.0:
            raise EdgeError(
                f"weights stay in [0, 1], not [{operator.lo}, {operator.hi}]; pass op=(a, b, 0.0, 1.0)"
            )
        return self._submit([ScaleWhere(where, operator)])

    def batch_map_weights(self, where: EdgeFilter, fn: WeightMap) -> Lsn:
        """weight = fn(weights) for all current edges that fit. The weights are logged, never the function.

        Args:
            where: which edges.
            fn: from weights [n] to weights [n] in [0, 1]; called once, under the writer's lock.

        Raises:
            EdgeError: another shape, or a weight outside of [0, 1].
        """
        return self._submit([MapWhere(where, fn)])

    def supersede(self, item_id: str, new: Item | None = None, *, link: bool = True, **fields: Any) -> Lsn:
        """Replace what an item says. The old version stays for every earlier `as_of`.

        Either fields that change: the new version of the same id takes all others from the old one, and holds
        from now on unless `valid_from` says otherwise. Or a whole new item: with another id, the old item
        ends and a SUPERSEDES edge leads from the new one to it.

        Args:
            item_id: what is replaced.
            new: the new item.
            link: make the edge between distinct ids.
            **fields: of the new version.

        Raises:
            ItemNotFoundError: there is no such item. ItemError: a field that cannot change, or both forms.
        """
        if (new is None) == (not fields):
            raise ItemError(
                f"give fields or a new item for {item_id!r}, one of them; write "
                f"supersede({item_id!r}, content='...')"
            )
        return self._submit([Supersede(item_id, new, fields, link, self._now())])

    def invalidate(
        self, item_id: str, *, at: float | None = None, cascade: bool = True, dry_run: bool = False
    ) -> list[str]:
        """End the validity of an item, and of everything that DEPENDS_ON it or is DERIVED_FROM it.

        Args:
            item_id: what no longer holds.
            at: seconds; now by default. What started later never held; what ended earlier is left alone.
            cascade: follow the edges, over any number of steps.
            dry_run: only tell.

        Returns:
            The ids that were closed, nearest first; of a transaction the list is filled when it commits.

        Raises:
            ItemNotFoundError: there is no such item.
        """
        time = door.check_time("at", self._now() if at is None else at, owner=f"item {item_id!r}")
        request = Invalidate(item_id, time, cascade, dry_run)
        self._submit([request])
        return request.closed

    def undo(self, transaction_id: str) -> Lsn:
        """Take back a transaction that was opened with `undo=True`, in one record.

        What it inserted vanishes and what that superseded is current again; what it deleted is back with all
        versions; fields and weights have their old values. Reads with any `as_of` see nothing of it any more.

        Raises:
            UnknownTransactionError: it is not among the last `Options.undo_keep`.
            UndoConflictError: a later write touched the same things; the message names the first.
            TransactionError: it was undone before, or opened without `undo=True`.
        """
        return self._submit([UndoOf(transaction_id)])

    def delete(self, item_id: str) -> Lsn:
        """Forget an item: all its versions and all edges at it, for every `as_of`. The id may be inserted
        anew.
        """
        return self.delete_many([item_id])

    def delete_many(self, ids: Iterable[str]) -> Lsn:
        """Forget several items in one record."""
        names = list(dict.fromkeys(ids))
        return self._submit([DeleteItems(names)] if names else [])

    def close_item(self, item_id: str, *, at: float | None = None) -> Lsn:
        """End the current version on the record axis; reads with an earlier `as_of` still see it."""
        time = self._now() if at is None else at
        return self._submit([CloseItems([item_id], door.check_time("at", time, owner=f"item {item_id!r}"))])

    def delete_edge(self, source: str, target: str, *, edge_type: EdgeType | str) -> Lsn:
        """Forget an edge."""
        return self.delete_edges([(source, target, edge_type)])

    def delete_edges(self, keys: Iterable[tuple[str, str, EdgeType | str]]) -> Lsn:
        """Forget several edges in one record."""
        rows = [(a, b, door.check_type(name, self._types.codes)) for a, b, name in keys]
        if not rows:
            return self._submit([])
        return self._submit([DeleteEdges([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])])

    def _map(self, field: str, operators: Mapping[str, AffineClip]) -> Lsn:
        if not operators:
            return self._submit([])
        return self._submit([MapField(field, list(operators), _rows(list(operators.values())))])

    def _now(self) -> float:
        return door.check_time("the clock", self._clock(), owner="the store")


def _rows(operators: Sequence[AffineClip]) -> Any:
    return np.array(operators, np.float64).reshape(-1, 4)


def _finite(op: AffineClip) -> AffineClip:
    if not (math.isfinite(op.a) and math.isfinite(op.b) and op.a >= 0 and op.lo <= op.hi):
        raise EdgeError(
            f"{op} is no operator: a >= 0, b finite, lo <= hi; write AffineClip(1.0, 0.1, 0.0, 1.0)"
        )
    return op if type(op.a) is type(op.b) is float else AffineClip(*map(float, op))
