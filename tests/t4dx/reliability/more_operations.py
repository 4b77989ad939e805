"""Writes that look at the store before they change it, and collections; entered into the same table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from reliability.model import Model, edge_key
from reliability.operations import KINDS, World, insert, random_item, write

from t4dm.t4dx import AffineClip, Edge, EdgeFilter

COLLECTIONS = {"flat": (3, "l2"), "loud": (4, "dot")}
CASCADE = ("DEPENDS_ON", "DERIVED_FROM")


@write(2)
def supersede_fields(world: World, target: Any) -> None:
    if world.in_transaction:
        return insert(world, target)
    [name] = world.alive()
    old = world.model.current(name)
    changes: dict[str, Any] = {"content": f"new {world.rng.randrange(99)}", "kappa": world.rng.random()}
    if world.rng.random() < 0.5:
        changes["valid_from"] = float(world.rng.randrange(900, 1100))
    target.supersede(name, **changes)
    fresh = {"valid_from": world.clock.now, "valid_until": np.inf, "record_until": np.inf} | changes
    return world.model.insert([replace(old, **fresh)], [], world.clock.now)


@write(1)
def supersede_by_another(world: World, target: Any) -> None:
    [name] = world.alive()
    fresh = [other for other in world.ids if world.model.current(other) is None]
    if world.in_transaction or not fresh:
        return insert(world, target)
    new = random_item(world, world.rng.choice(fresh))
    target.supersede(name, new)
    world.model.close_item(name, world.clock.now)
    return world.model.insert([new], [Edge(new.id, name, "SUPERSEDES", weight=1.0)], world.clock.now)


@write(1)
def invalidate(world: World, target: Any) -> None:
    if world.in_transaction:
        return insert(world, target)
    [name] = world.alive()
    at, cascade = world.clock.now - world.rng.randrange(3), world.rng.random() < 0.7
    expected = doomed(world.model, name, at, cascade=cascade)
    assert target.invalidate(name, at=at, cascade=cascade, dry_run=True) == expected
    assert target.invalidate(name, at=at, cascade=cascade) == expected
    for gone in expected:
        world.model.change(gone, valid_until=max(at, world.model.current(gone).valid_from))
    return None


def doomed(model: Model, name: str, at: float, *, cascade: bool) -> list[str]:
    """An item and what depends on it, nearest first and then by id, as far as it outlasts the moment."""
    found, frontier, reached = [name], [name], {name}
    while cascade and frontier:
        edges = model.present_edges()
        nearest = {key[0] for key in edges if key[2] in CASCADE and key[1] in frontier} - reached
        frontier = sorted(nearest)
        reached |= nearest
        found += frontier
    there = [item for one in found if (item := model.current(one)) is not None]
    return [item.id for item in there if item.valid_until > max(at, item.valid_from)]


@write(1)
def map_weights(world: World, target: Any) -> None:
    if world.in_transaction:
        return insert(world, target)
    kind = world.rng.choice(KINDS)
    target.batch_map_weights(EdgeFilter(type=kind), lambda weights: np.clip(weights * weights, 0.0, 1.0))
    for key, edge in world.model.present_edges().items():
        if key[2] == kind:
            world.model.edges[key][-1] = replace(edge, weight=float(np.clip(edge.weight * edge.weight, 0, 1)))
    return None


@write(1)
def scale_what_was_recorded_before(world: World, target: Any) -> None:
    """Rules may ask for what an edge never changes: when it was recorded."""
    before, op = world.clock.now - world.rng.randrange(10), AffineClip(0.75, 0.0, 0.0, 1.0)
    target.batch_scale_weights(EdgeFilter(record_time=(None, before)), op)
    for key, edge in world.model.present_edges().items():
        if edge.record_time < before:
            world.model.weigh(key, op)


@write(1)
def scale_by_properties(world: World, target: Any) -> None:
    """Resolved to edges at the commit."""
    if world.in_transaction:
        return insert(world, target)
    op = AffineClip(1.0, 0.125, 0.0, 1.0)
    target.batch_scale_weights(EdgeFilter(where={"why": {"lt": 5}}), op)
    for key, edge in world.model.present_edges().items():
        if edge.properties.get("why", 9) < 5:
            world.model.weigh(key, op)
    return None


@write(1)
def create_collection(world: World, target: Any) -> None:
    """A commit of its own; a second one of the same name and size does nothing."""
    name = world.rng.choice(sorted(COLLECTIONS))
    dim, metric = COLLECTIONS[name]
    if world.in_transaction:
        return insert(world, target)
    target.create_collection(name, dim=dim, metric=metric)
    world.model.collections[name] = (dim, metric)
    found = {row.name: (row.dim, row.metric) for row in target.collections().values()}
    assert found == {"default": (4, "cosine")} | world.model.collections
    return None


@write(1)
def register_edge_type(world: World, target: Any) -> None:
    """A new type is usable at once and for good."""
    if world.in_transaction:
        return insert(world, target)
    name = world.rng.choice(("MINE", "YOURS"))
    target.register_edge_type(name)
    ends = world.rng.sample(world.ids, 2)
    edge = Edge(ends[0], ends[1], name, weight=0.5, valid_from=1.0)
    target.insert_many((), [edge])
    world.model.insert([], [edge], world.clock.now)
    assert world.model.current_edge(edge_key(edge)) is not None
    return None
