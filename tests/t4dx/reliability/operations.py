"""The table of writes: each is made on the store (or a transaction) and on the model. A new operation is one
decorated function of (world, target)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from reliability.model import Key, Model, Ticks
from reliability.rows import Wrong

from t4dm.errors import T4DMError
from t4dm.t4dx import AffineClip, Edge, EdgeFilter, Filter, Item
from t4dm.t4dx.operators import add, assign, scale

DIM = 4
KINDS = ("RELATES_TO", "CAUSES", "MERGED_FROM", "DERIVED_FROM", "DEPENDS_ON", "CONSOLIDATED_INTO")
SESSIONS = ("", "a", "b")
Write = Callable[["World", Any], None]
WRITES: dict[str, tuple[Write, int]] = {}
"""Name -> (function, weight)."""


@dataclass
class World:
    """A store and a model that should hold the same, and the dice."""

    rng: random.Random
    ids: list[str]
    store: Any = None
    model: Model = field(default_factory=Model)
    clock: Ticks = field(default_factory=Ticks)
    in_transaction: bool = False

    def alive(self, count: int = 1) -> list[str]:
        """Some ids that live; the world must not be empty."""
        names = sorted(name for name in self.model.items if self.model.current(name) is not None)
        return self.rng.sample(names, min(count, len(names)))

    def edge(self) -> Key | None:
        """An edge that lives."""
        keys = list(self.model.present_edges())
        return self.rng.choice(keys) if keys else None


def write(weight: int, *, when: bool = True) -> Callable[[Write], Write]:
    """Put a write into the table; `when` leaves out what this engine does not have."""

    def enter(function: Write) -> Write:
        if when:
            WRITES[function.__name__] = function, weight
        return function

    return enter


def make_write(world: World, target: Any, allowed: list[str]) -> str:
    """One random write; where nothing lives yet, an insert."""
    lives = any(world.model.current(name) for name in world.model.items)
    names = allowed if lives else ["insert"]
    name = world.rng.choices(names, [WRITES[name][1] for name in names])[0]
    world.clock.now += 1.0
    WRITES[name][0](world, target)
    return name


def swarm(rng: random.Random) -> list[str]:
    """A random part of the table: a fault that one operation hides shows where that one is missing."""
    kept = [name for name in sorted(WRITES) if rng.random() < 0.7]
    return sorted({"insert", *kept})


def random_vector(rng: random.Random, dim: int = DIM) -> np.ndarray:
    """Few values, so that vectors repeat, oppose each other and vanish."""
    return np.array([rng.choice((-1.0, 0.0, 0.5, 1.0)) for _ in range(dim)], np.float32)


def random_item(world: World, item_id: str) -> Item:
    """An item with every field set one way or another."""
    rng, times = world.rng, {}
    old = world.model.current(item_id)
    home = rng.choice(("default", *sorted(world.model.collections))) if old is None else old.collection
    dim = world.model.collections.get(home, (DIM, ""))[0]
    if rng.random() < 0.7:
        times["event_time"] = float(rng.randrange(100))
    if rng.random() < 0.5:
        times["valid_from"] = float(rng.randrange(900, 1100))
        times["valid_until"] = times["valid_from"] + rng.randrange(200) if rng.random() < 0.5 else np.inf
    return Item(
        id=item_id,
        content=rng.choice(("", "ä ö", f"content {rng.randrange(1000)}")),
        vector=random_vector(rng, dim) if rng.random() < 0.8 else None,
        type=rng.choice(("episodic", "semantic", "procedural")),
        session=rng.choice(SESSIONS),
        kappa=rng.choice((0.0, 0.25, 1.0)),
        importance=rng.random(),
        access_count=rng.randrange(3),
        metadata=random_metadata(rng),
        collection=home,
        **times,
    )


def random_metadata(rng: random.Random) -> dict[str, Any]:
    """Typed fields that the filters know, some of them missing."""
    choices: dict[str, Any] = {
        "n": rng.randrange(5),
        "tag": rng.choice(("red", "green", "")),
        "tokens": [rng.randrange(4) for _ in range(rng.randrange(3))],
        "deep": {"x": rng.choice((0.5, None, True))},
    }
    return {name: value for name, value in choices.items() if rng.random() < 0.5}


def random_edge(world: World, source: str, target: str) -> Edge:
    """An edge with or without times and properties."""
    rng = world.rng
    since = float(rng.randrange(900, 1100))
    times = {} if rng.random() < 0.5 else {"valid_from": since, "valid_until": since + rng.randrange(300)}
    props = {"why": rng.randrange(9)} if rng.random() < 0.3 else {}
    return Edge(source, target, rng.choice(KINDS), weight=rng.random(), properties=props, **times)


@write(8)
def insert(world: World, target: Any) -> None:
    name = world.rng.choice(world.ids)
    item = random_item(world, name)
    ends = world.rng.sample(world.ids, world.rng.randrange(3))
    edges = [random_edge(world, name, end) for end in ends]
    target.insert(item, edges)
    world.model.insert([item], edges, world.clock.now)


@write(3)
def insert_many(world: World, target: Any) -> None:
    names = world.rng.sample(world.ids, world.rng.randrange(1, 6))
    items = [random_item(world, name) for name in names]
    edges = [random_edge(world, a, b) for a, b in pairwise(names)]
    target.insert_many(items, edges)
    world.model.insert(items, edges, world.clock.now)


@write(2)
def insert_edges(world: World, target: Any) -> None:
    ends = world.rng.sample(world.ids, 2)
    edges = [random_edge(world, ends[0], ends[1])]
    target.insert_many((), edges)
    world.model.insert([], edges, world.clock.now)


@write(2)
def update_learning(world: World, target: Any) -> None:
    [name] = world.alive()
    changes = {
        "importance": world.rng.random(),
        "access_count": world.rng.randrange(50),
        "type": "procedural",
    }
    target.update_fields(name, **changes)
    world.model.change(name, **changes)


@write(2)
def update_where(world: World, target: Any) -> None:
    """Resolved at the commit against what was committed before: in a transaction it comes alone."""
    if world.in_transaction:
        return update_learning(world, target)
    kind, importance = world.rng.choice(("episodic", "semantic")), world.rng.random()
    target.update_where(Filter(type=kind), importance=importance, access_count=3)
    for name in list(world.model.items):
        if (item := world.model.current(name)) is not None and item.type == kind:
            world.model.change(name, importance=importance, access_count=3)
    return None


@write(2)
def update_metadata(world: World, target: Any) -> None:
    [name] = world.alive()
    meta = random_metadata(world.rng)
    target.update_fields(name, metadata=meta)
    world.model.change(name, metadata=meta)


@write(1)
def update_validity(world: World, target: Any) -> None:
    [name] = world.alive()
    since = world.model.current(name).valid_from
    until = since + world.rng.randrange(100)
    target.update_fields(name, valid_until=until)
    world.model.change(name, valid_until=until)


@write(2)
def merge_kappa(world: World, target: Any) -> None:
    eta, names = world.rng.random(), world.alive(3)
    target.merge_kappa(names, eta)
    for name in names:
        old = world.model.current(name).kappa
        world.model.change(name, kappa=AffineClip(1.0 - eta, eta, 0.0, 1.0)(old))


@write(1)
def add_accesses(world: World, target: Any) -> None:
    counts = {name: world.rng.randrange(5) for name in world.alive(3)}
    target.add_accesses(counts)
    for name, count in counts.items():
        world.model.change(name, access_count=world.model.current(name).access_count + count)


@write(3)
def update_edge_weight(world: World, target: Any) -> None:
    if (key := world.edge()) is None:
        return insert_edges(world, target)
    delta = world.rng.uniform(-0.8, 0.8)
    target.update_edge_weight(key[0], key[1], delta, edge_type=key[2])
    return world.model.weigh(key, add(delta))


@write(1)
def update_only_edge(world: World, target: Any) -> None:
    """Without a type: fine where the two ends are joined by one, refused where by several."""
    if (key := world.edge()) is None:
        return insert_edges(world, target)
    joined = [k for k in world.model.present_edges() if k[:2] == key[:2]]
    if len(joined) == 1:
        target.update_edge_weight(key[0], key[1], 0.25, edge_type=None)
        world.model.weigh(key, add(0.25))
    elif not world.in_transaction:
        refuses(lambda: target.update_edge_weight(key[0], key[1], 0.25, edge_type=None))
    return None


@write(1)
def update_edge_weights(world: World, target: Any) -> None:
    changes = []
    for key in world.rng.sample(list(world.model.present_edges()), min(3, len(world.model.present_edges()))):
        op = world.rng.choice((add(0.3), scale(0.5), assign(0.75)))
        changes.append((*key, op))
        world.model.weigh(key, op)
    target.update_edge_weights(changes)


@write(2)
def scale_by_rule(world: World, target: Any) -> None:
    op = AffineClip(world.rng.uniform(0.5, 1.2), 0.01, 0.05, 1.0)
    names = world.rng.choice((None, KINDS[0], KINDS[:2]))
    target.batch_scale_weights(EdgeFilter(type=names), op)
    for key in world.model.present_edges():
        if names is None or key[2] in ((names,) if isinstance(names, str) else names):
            world.model.weigh(key, op)


@write(1)
def scale_by_ends(world: World, target: Any) -> None:
    side, end = world.rng.randrange(2), world.rng.choice(world.ids)
    op = AffineClip(0.5, 0.1, 0.0, 1.0)
    target.batch_scale_weights(EdgeFilter(source=end) if side == 0 else EdgeFilter(target=end), op)
    for key in world.model.present_edges():
        if key[side] == end:
            world.model.weigh(key, op)


@write(1)
def scale_by_weight(world: World, target: Any) -> None:
    """Resolved at the commit against what was committed before: in a transaction it comes alone."""
    if world.in_transaction:
        return scale_by_ends(world, target)
    op = AffineClip(0.5, 0.0, 0.0, 1.0)
    target.batch_scale_weights(EdgeFilter(weight=(0.6, None)), op)
    for key, edge in world.model.present_edges().items():
        if edge.weight >= 0.6:
            world.model.weigh(key, op)
    return None


@write(2)
def delete(world: World, target: Any) -> None:
    [name] = world.alive()
    target.delete(name)
    world.model.delete(name)


@write(1)
def delete_many(world: World, target: Any) -> None:
    names = world.alive(3)
    target.delete_many(names)
    for name in names:
        world.model.delete(name)


@write(1)
def close_item(world: World, target: Any) -> None:
    [name] = world.alive()
    target.close_item(name)
    world.model.close_item(name, world.clock.now)


@write(1)
def delete_edge(world: World, target: Any) -> None:
    if (key := world.edge()) is not None:
        target.delete_edge(key[0], key[1], edge_type=key[2])
        del world.model.edges[key]


@write(1)
def delete_edges(world: World, target: Any) -> None:
    keys = list(world.model.present_edges())[:2]
    target.delete_edges(keys)
    for key in keys:
        del world.model.edges[key]


@write(1)
def refused_write(world: World, target: Any) -> None:
    """What is wrong is refused by name and changes nothing, not even the half that was right."""
    if world.in_transaction:
        return
    good, lsn = random_item(world, world.ids[0]), world.store.lsn
    bad = world.rng.choice(
        (
            lambda: target.insert_many([good, Item(id="bad", vector=np.full(DIM, np.nan))]),
            lambda: target.insert(good, [Edge(good.id, "x", "NO_SUCH_TYPE")]),
            lambda: target.update_fields("never stored", kappa=0.5),
            lambda: target.update_edge_weight("never", "stored", 0.1, edge_type="CAUSES"),
            lambda: target.merge_kappa([*world.alive(1), "never stored"], 0.5),
            lambda: target.delete_many([*world.alive(1), "never stored"]),
            lambda: target.insert(Item(id="ms", event_time=1.7e12)),
        )
    )
    refuses(bad)
    if world.store.lsn != lsn:
        raise Wrong(f"a refused write moved the LSN from {lsn} to {world.store.lsn}")


def refuses(call: Callable[[], object]) -> None:
    """The call must raise one of the project's own errors."""
    try:
        call()
    except T4DMError:
        return
    raise Wrong("a wrong write was accepted")
