"""What the store should hold, from plain dicts and exact numpy."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np

from t4dm.t4dx import AffineClip, AsOf, Edge, Filter, Item
from t4dm.t4dx.types import UNSET

Key = tuple[str, str, str]
ITEM_FIELDS = tuple(f.name for f in fields(Item) if f.name not in ("vector", "metadata"))
EDGE_FIELDS = tuple(f.name for f in fields(Edge) if f.name not in ("type", "properties"))


class Ticks:
    """A clock that the test turns."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Model:
    """All versions of all items and edges; the last of each list may be the current one."""

    def __init__(self) -> None:
        self.items: dict[str, list[Item]] = {}
        self.edges: dict[Key, list[Edge]] = {}
        self.kinds: set[str] = set()
        self.collections: dict[str, tuple[int, str]] = {}

    def copy(self) -> Model:
        """An independent copy."""
        twin = Model()
        twin.items = {name: list(v) for name, v in self.items.items()}
        twin.edges = {key: list(v) for key, v in self.edges.items()}
        twin.kinds, twin.collections = set(self.kinds), dict(self.collections)
        return twin

    def become(self, other: Model) -> None:
        """Take over another model's content."""
        self.__dict__.update(other.copy().__dict__)

    def current(self, item_id: str) -> Item | None:
        """The living version of an id."""
        versions = self.items.get(item_id, [])
        return versions[-1] if versions and versions[-1].record_until == math.inf else None

    def present(self) -> list[Item]:
        """All living items, by id."""
        return [item for name in sorted(self.items) if (item := self.current(name)) is not None]

    def current_edge(self, key: Key) -> Edge | None:
        """The living version of an edge."""
        versions = self.edges.get(key, [])
        return versions[-1] if versions and versions[-1].record_until == math.inf else None

    def present_edges(self) -> dict[Key, Edge]:
        """All living edges."""
        return {key: e for key in sorted(self.edges) if (e := self.current_edge(key)) is not None}

    def items_as_of(self, when: AsOf) -> list[Item]:
        """Items that were believed and valid, by id."""
        return [item for name in sorted(self.items) for item in self.items[name] if seen(item, when)]

    def edges_as_of(self, when: AsOf) -> dict[Key, Edge]:
        """Edges that were believed and valid."""
        return {key: e for key in sorted(self.edges) for e in self.edges[key] if seen(e, when)}

    def insert(self, items: list[Item], edges: list[Edge], now: float) -> None:
        """Add versions; the ones they supersede end now."""
        for item in items:
            self.close_item(item.id, now)
            self.items.setdefault(item.id, []).append(filled(item, now))
        for edge in edges:
            key = edge_key(edge)
            if (old := self.current_edge(key)) is not None:
                self.edges[key][-1] = replace(old, record_until=now)
            since = now if edge.valid_from == UNSET else edge.valid_from
            self.edges.setdefault(key, []).append(replace(edge, record_time=now, valid_from=since))

    def close_item(self, item_id: str, now: float) -> None:
        """End the living version."""
        if (old := self.current(item_id)) is not None:
            self.items[item_id][-1] = replace(old, record_until=now)

    def change(self, item_id: str, **changes: Any) -> None:
        """Set fields of the living version."""
        self.items[item_id][-1] = replace(self.items[item_id][-1], **changes)

    def weigh(self, key: Key, op: AffineClip) -> None:
        """Map the weight of a living edge."""
        self.edges[key][-1] = replace(self.edges[key][-1], weight=op(self.edges[key][-1].weight))

    def delete(self, item_id: str) -> None:
        """Forget an item, its past and every edge at it."""
        del self.items[item_id]
        self.edges = {key: v for key, v in self.edges.items() if item_id not in key[:2]}

    def digest(self, times: list[float]) -> tuple[object, ...]:
        """Everything held now and believed at each of `times`; compares with `digest` of a store."""
        whens = [AsOf(record=t) for t in times]
        return (
            [item_key(item) for item in self.present()],
            sorted(edge_plain(e) for e in self.present_edges().values()),
            [[item_key(item) for item in self.items_as_of(when)] for when in whens],
            [sorted(edge_plain(e) for e in self.edges_as_of(when).values()) for when in whens],
        )


def digest(store: Any, times: list[float]) -> tuple[object, ...]:
    """Everything a store, snapshot or reader holds now, and believed at each of `times`."""
    whens = [AsOf(record=t) for t in times]
    return (
        [item_key(item) for item in store.scan()],
        sorted(edge_plain(e) for e in store.edges()),
        [[item_key(item) for item in store.scan(as_of=when)] for when in whens],
        [sorted(edge_plain(e) for e in store.edges(as_of=when)) for when in whens],
    )


def difference(found: Any, expected: Any) -> str:
    """Where two digests part, in few words."""
    for name, a, b in zip(("items", "edges", "items then", "edges then"), found, expected, strict=True):
        if a != b:
            extra = [row for row in a if row not in b][:2]
            missing = [row for row in b if row not in a][:2]
            return f"{name}: the store has {extra}, the model {missing} ({len(a)} and {len(b)} rows)"
    return "no difference"


def filled(item: Item, now: float) -> Item:
    """An item with the times that the store fills in."""
    event = now if item.event_time == UNSET else item.event_time
    since = event if item.valid_from == UNSET else item.valid_from
    return replace(item, record_time=now, event_time=event, valid_from=since)


def seen(version: Item | Edge, when: AsOf) -> bool:
    """Whether a version was believed and valid, both intervals half open."""
    record, valid = when
    known = (
        version.record_until == math.inf
        if record is None
        else version.record_time <= record < version.record_until
    )
    return known and (valid is None or version.valid_from <= valid < version.valid_until)


def edge_key(edge: Edge) -> Key:
    """What an edge is known by."""
    return edge.source, edge.target, str(edge.type)


def item_key(item: Item) -> tuple[object, ...]:
    """An item as a comparable value, to the last bit."""
    vector = None if item.vector is None else np.asarray(item.vector, np.float32).tobytes()
    return (*(getattr(item, name) for name in ITEM_FIELDS), vector, repr(sorted(item.metadata.items())))


def edge_plain(edge: Edge) -> tuple[object, ...]:
    """An edge as a comparable value."""
    plain = tuple(getattr(edge, name) for name in EDGE_FIELDS)
    return (*edge_key(edge), *plain, repr(sorted(edge.properties.items())))


def fits(item: Item, where: Filter) -> bool:
    """Whether an item passes a filter."""
    closed = all(
        span is None or span[0] <= getattr(item, name) <= span[1]
        for name in ("kappa", "importance")
        if (span := getattr(where, name)) is not None
    )
    half_open = all(
        span[0] <= getattr(item, name) < span[1]
        for name in ("event_time", "record_time")
        if (span := getattr(where, name)) is not None
    )
    named = all(
        names is None or getattr(item, name) in ((names,) if isinstance(names, str) else names)
        for name in ("type", "session", "collection")
        for names in (getattr(where, name),)
    )
    holds = where.valid_at is None or item.valid_from <= where.valid_at < item.valid_until
    return closed and half_open and named and holds and (where.ids is None or item.id in where.ids)


def score(item: Item, query: np.ndarray, metric: str = "cosine") -> float:
    """What a search should say about an item, as a float32; higher is better."""
    assert item.vector is not None
    q, v = query.astype(np.float64), np.asarray(item.vector).astype(np.float64)
    if metric == "l2":
        return float(np.float32(-np.linalg.norm(q - v)))
    if metric == "dot":
        return float(np.float32(q @ v))
    norms = np.linalg.norm(q) * np.linalg.norm(v)
    return float(np.float32(q @ v / norms if norms else 0.0))
