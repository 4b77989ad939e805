"""What the store should answer, computed from plain dicts and exact numpy; and random operations on both."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np

from t4dm.t4dx import AffineClip, Edge, EdgeFilter, Filter, Item

DIM = 4
IDS = [f"item-{number}" for number in range(12)]
SESSIONS = ["", "a", "b"]
KINDS = ["RELATES_TO", "CAUSES"]


class Ticks:
    """A clock that only counts."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Model:
    """All versions of all items and edges; the last of each list may be the current one."""

    def __init__(self) -> None:
        self.items: dict[str, list[Item]] = {}
        self.edges: dict[tuple[str, str, str], list[Edge]] = {}

    def current(self, item_id: str) -> Item | None:
        versions = self.items.get(item_id, [])
        return versions[-1] if versions and versions[-1].record_until == math.inf else None

    def current_edges(self) -> dict[tuple[str, str, str], Edge]:
        return {key: v[-1] for key, v in self.edges.items() if v and v[-1].record_until == math.inf}

    def as_of(self, time: float) -> list[Item]:
        return sorted(
            (
                item
                for versions in self.items.values()
                for item in versions
                if item.record_time <= time < item.record_until and item.valid_from <= time < item.valid_until
            ),
            key=lambda item: item.id,
        )

    def insert(self, item: Item, edges: list[Edge], now: float) -> None:
        versions = self.items.setdefault(item.id, [])
        if self.current(item.id) is not None:
            versions[-1] = replace(versions[-1], record_until=now)
        versions.append(replace(item, record_time=now))
        for edge in edges:
            history = self.edges.setdefault((edge.source, edge.target, str(edge.type)), [])
            if history and history[-1].record_until == math.inf:
                history[-1] = replace(history[-1], record_until=now)
            history.append(replace(edge, record_time=now))

    def change(self, item_id: str, **fields: object) -> None:
        self.items[item_id][-1] = replace(self.items[item_id][-1], **fields)

    def weigh(self, key: tuple[str, str, str], op: AffineClip) -> None:
        edge = self.edges[key][-1]
        self.edges[key][-1] = replace(edge, weight=op(edge.weight))

    def delete(self, item_id: str) -> None:
        del self.items[item_id]
        self.edges = {key: v for key, v in self.edges.items() if item_id not in key[:2]}

    def search(self, query: np.ndarray, k: int, where: Filter) -> list[str]:
        found = []
        for versions in self.items.values():
            item = versions[-1]
            if item.record_until == math.inf and item.vector is not None and fits(item, where):
                q, v = query.astype(np.float64), item.vector.astype(np.float64)
                norms = np.linalg.norm(q) * np.linalg.norm(v)
                found.append((-np.float32(q @ v / norms if norms else 0.0), item.id))
        return [item_id for _, item_id in sorted(found)[:k]]


def fits(item: Item, where: Filter) -> bool:
    sessions = (where.session,) if isinstance(where.session, str) else where.session
    return (
        (sessions is None or item.session in sessions)
        and (where.kappa is None or where.kappa[0] <= item.kappa <= where.kappa[1])
        and (where.importance is None or where.importance[0] <= item.importance <= where.importance[1])
        and (where.event_time is None or where.event_time[0] <= item.event_time < where.event_time[1])
        and (
            where.type is None or item.type in ((where.type,) if isinstance(where.type, str) else where.type)
        )
        and (where.ids is None or item.id in where.ids)
    )


def random_item(rng: random.Random, item_id: str) -> Item:
    values = [rng.choice((-1.0, 0.0, 0.5, 1.0)) for _ in range(DIM)]
    return Item(
        id=item_id,
        content=f"content {rng.randrange(1000)} ä",
        vector=np.array(values, np.float32) if rng.random() < 0.8 else None,
        type=rng.choice(("episodic", "semantic")),
        session=rng.choice(SESSIONS),
        kappa=rng.choice((0.0, 0.25, 1.0)),
        importance=rng.random(),
        event_time=float(rng.randrange(100)),
        valid_from=float(rng.randrange(900, 1100)),
        metadata={"tokens": [rng.randrange(9)]} if rng.random() < 0.5 else {},
    )


def random_filter(rng: random.Random) -> Filter:
    low = rng.random()
    choices = {
        "session": rng.choice((None, "a", ("a", "b"), "unknown")),
        "kappa": rng.choice((None, (0.2, 1.0))),
        "importance": rng.choice((None, None, (low / 2, low))),
        "event_time": rng.choice((None, (20, 70), (None, 50))),
        "type": rng.choice((None, "semantic")),
        "ids": rng.choice((None, None, None, tuple(IDS[:5]))),
    }
    return Filter(**choices)


def write_step(rng: random.Random, store, model: Model, clock: Ticks) -> str:
    """One random write on the store and the model; `store` may be a transaction. Returns its name."""
    alive = [item_id for item_id in IDS if model.current(item_id) is not None]
    edges = sorted(model.current_edges())
    kind = rng.choice(
        ("insert",) * 5 + ("kappa", "fields", "metadata", "weight", "rule", "some", "delete", "unedge")
    )
    if kind == "insert" or not alive or (kind in ("weight", "unedge") and not edges):
        item = random_item(rng, rng.choice(IDS))
        ends = rng.sample(IDS, rng.randrange(3))
        links = [Edge(item.id, end, rng.choice(KINDS), weight=rng.random(), valid_from=0.0) for end in ends]
        store.insert(item, links)
        model.insert(item, links, clock.now)
        return "insert"
    item_id = rng.choice(alive)
    if kind == "kappa":
        eta = rng.random()
        ids = sorted({item_id, rng.choice(alive)})
        store.merge_kappa(ids, eta)
        for name in ids:
            model.change(name, kappa=AffineClip(1 - eta, eta, 0.0, 1.0)(model.current(name).kappa))
    elif kind == "fields":
        fields = {"importance": rng.random(), "access_count": rng.randrange(50), "type": "procedural"}
        store.update_fields(item_id, **fields)
        model.change(item_id, **fields)
    elif kind == "metadata":
        meta = {"note": rng.randrange(9)}
        store.update_fields(item_id, metadata=meta)
        model.change(item_id, metadata=meta)
    elif kind == "weight":
        key, delta = rng.choice(edges), rng.uniform(-0.6, 0.6)
        store.update_edge_weight(key[0], key[1], delta, edge_type=key[2])
        model.weigh(key, AffineClip(1.0, delta, 0.0, 1.0))
    elif kind == "rule":
        name, op = rng.choice(KINDS), AffineClip(rng.uniform(0.5, 1.2), 0.01, 0.05, 1.0)
        store.batch_scale_weights(EdgeFilter(type=name), op)
        for key in edges:
            if key[2] == name:
                model.weigh(key, op)
    elif kind == "some":
        op = AffineClip(0.5, 0.1, 0.0, 1.0)
        store.batch_scale_weights(EdgeFilter(source=item_id), op)
        for key in edges:
            if key[0] == item_id:
                model.weigh(key, op)
    elif kind == "delete":
        store.delete(item_id)
        model.delete(item_id)
    else:
        key = rng.choice(edges)
        store.delete_edge(key[0], key[1], edge_type=key[2])
        del model.edges[key]
    return kind


def digest(store) -> tuple[object, ...]:
    """Everything a store holds now and held before, as one comparable value."""
    items = tuple(repr(item) for item in store.scan())
    edges = tuple(sorted(repr(edge) for edge in store.edges()))
    past = tuple(repr(item) for t in range(990, 1400, 40) for item in store.scan(as_of=float(t)))
    return items, edges, past


def assert_same(store, model: Model, rng: random.Random, clock: Ticks) -> None:
    """Every kind of read agrees with the model, to the last bit."""
    present = [item for name in IDS if (item := model.current(name)) is not None]
    assert sorted(store.scan(), key=lambda item: item.id) == sorted(present, key=lambda item: item.id)
    assert {(e.source, e.target, str(e.type)): e for e in store.edges()} == model.current_edges()
    assert [store.get(name) for name in IDS] == [model.current(name) for name in IDS]
    when = float(rng.randrange(1000, int(clock.now) + 2))
    assert list(store.scan(as_of=when)) == model.as_of(when)
    for _ in range(3):
        where, k = random_filter(rng), rng.randrange(1, 8)
        query = np.array([rng.uniform(-1, 1) for _ in range(DIM)], np.float32)
        assert store.search(query, k, where).ids == model.search(query, k, where)
        assert store.count(where) == sum(fits(item, where) for item in present)
