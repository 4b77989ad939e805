"""Reads on metadata, collections, paths and origins; entered into the same table."""

from __future__ import annotations

from typing import Any

import numpy as np
from reliability.model import edge_key, fits, item_key
from reliability.operations import KINDS, World
from reliability.questions import check_hits, plain, question, random_filter, random_query, random_time, same

from t4dm.t4dx import OUT, F, Filter

MISSING = object()
BACK = ("DERIVED_FROM", "MERGED_FROM", "SUPERSEDES")
CONDITIONS: tuple[dict[str, Any], ...] = (
    {"n": 3},
    {"n": {"gte": 2}},
    {"n": {"lt": 2.5}},
    {"tag": {"in": ["red", ""]}},
    {"tag": {"empty": True}},
    {"tokens": {"contains": 2}},
    {"deep.x": 0.5},
    {"deep.x": {"exists": True}},
    {"deep.x": {"ne": True}},
    {"not": {"tag": "green"}},
)


def random_condition(world: World) -> dict[str, Any]:
    """One condition, or two joined."""
    one, two = world.rng.choice(CONDITIONS), world.rng.choice(CONDITIONS)
    return world.rng.choice((one, {"and": [one, two]}, {"or": [one, two]}, {"not": {"or": [one, two]}}))


def holds(meta: Any, condition: dict[str, Any]) -> bool:
    """What a condition means, read from its own words."""
    [(name, value)] = condition.items()
    if name == "and":
        return all(holds(meta, part) for part in value)
    if name == "or":
        return any(holds(meta, part) for part in value)
    if name == "not":
        return not holds(meta, value)
    found = meta
    for part in name.split("."):
        found = found.get(part, MISSING) if isinstance(found, dict) else MISSING
    [(test, wanted)] = value.items() if isinstance(value, dict) else [("eq", value)]
    return compared(found, test, wanted)


def compared(found: Any, test: str, wanted: Any) -> bool:
    """One comparison; a field that is missing or of another type fails all but "ne", "empty" and "exists"."""
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if test in ("gte", "lt"):
        return number and (found >= wanted if test == "gte" else found < wanted)
    if test == "exists":
        return (found is not MISSING) == wanted
    if test == "empty":
        return (found is MISSING or found is None or found in ("", [], {})) == wanted
    if test == "contains":
        return isinstance(found, list) and wanted in found
    if test == "in":
        return any(compared(found, "eq", one) for one in wanted)
    equal = found is not MISSING and isinstance(found, bool) == isinstance(wanted, bool) and found == wanted
    return equal if test == "eq" else not equal


@question
def metadata_filter(world: World) -> None:
    condition = random_condition(world)
    pool = [item for item in world.model.present() if holds(dict(item.metadata), condition)]
    found = sorted(item.id for item in world.store.scan(Filter(where=condition)))
    same(found, [item.id for item in pool], f"scan where {condition}")
    same(world.store.count(Filter(where=condition)), len(pool), f"count where {condition}")
    query = random_query(world)
    near = [item for item in pool if item.vector is not None and item.collection == "default"]
    check_hits(world.store.search(query, 4, Filter(where=condition)), near, query, 4, f"search {condition}")
    same(
        world.store.count(Filter(where=(F("n") >= 2) & ~(F("tag") == "red"))),
        sum(
            holds(i.metadata, {"and": [{"n": {"gte": 2}}, {"not": {"tag": "red"}}]})
            for i in world.model.present()
        ),
        "count by a condition in Python",
    )


@question
def search_in_a_collection(world: World) -> None:
    if not world.model.collections:
        return
    name = world.rng.choice(sorted(world.model.collections))
    dim, metric = world.model.collections[name]
    query = np.array([world.rng.uniform(-1, 1) for _ in range(dim)], np.float32)
    where = random_filter(world)
    there = [item for item in world.model.present() if item.collection == name and fits(item, where)]
    pool = [item for item in there if item.vector is not None]
    found = world.store.search(query, 4, where, collection=name)
    check_hits(found, pool, query, 4, f"search {where} in {name}", metric=metric)


@question
def pages(world: World) -> None:
    where, size = random_filter(world), world.rng.randrange(1, 4)
    matches = [item for item in world.model.present() if fits(item, where)]
    matches.sort(key=lambda item: -item.record_time)
    found: list[str] = []
    while True:
        page = list(world.store.scan(where, order="-record_time", limit=size, offset=len(found)))
        found += [item.id for item in page]
        if len(page) < size:
            break
    same(found, [item.id for item in matches], f"pages of {size}, newest first, {where}")


@question
def history(world: World) -> None:
    name = world.rng.choice(world.ids)
    versions = [item_key(item) for item in reversed(world.model.items.get(name, []))]
    same([item_key(item) for item in world.store.history(name)], versions, f"history of {name}")


@question
def neighbours(world: World) -> None:
    name, least = world.rng.choice(world.ids), world.rng.choice((0.0, 0.4))
    there = world.model.present_edges().items()
    rows = sorted((-e.weight, key[2], key[1]) for key, e in there if key[0] == name and e.weight >= least)
    found = [(-n.edge.weight, str(n.edge.type), n.id) for n in world.store.neighbours(name, min_weight=least)]
    same(found, rows, f"neighbours of {name}")


@question
def shortest_path(world: World) -> None:
    source, target = world.rng.sample(world.ids, 2)
    when = world.rng.choice((None, random_time(world)))
    there = world.model.present_edges() if when is None else world.model.edges_as_of(when)
    steps, frontier, reached = 0, {source}, {source}
    while frontier and target not in reached:
        frontier = {key[1] for key in there if key[0] in frontier} - reached
        reached |= frontier
        steps += 1
    path = world.store.shortest_path(source, target, max_depth=50, as_of=when)
    what = f"shortest path {source} -> {target} as of {when}"
    same(path is not None, target in reached, what)
    if path is not None:
        same(path.depth, steps, what)
        same([edge_key(edge) in there for edge in path.edges], [True] * steps, what)
        same((path.nodes[0], path.nodes[-1]), (source, target), what)


@question
def heaviest_path(world: World) -> None:
    source, target = world.rng.sample(world.ids, 2)
    best, there, rising = {source: 1.0}, world.model.present_edges(), True
    while rising:  # Bellman and Ford, for products
        rising = False
        for key, edge in there.items():
            if key[0] in best and best[key[0]] * edge.weight > best.get(key[1], -1.0):
                best[key[1]], rising = best[key[0]] * edge.weight, True
    path = world.store.shortest_path(source, target, max_depth=50, weighted=True)
    if path is None:
        same(best.get(target, 0.0), 0.0, f"heaviest path {source} -> {target}")
    elif abs(path.weight - best.get(target, -1.0)) > 1e-12:
        same(path.weight, best.get(target), f"heaviest path {source} -> {target}")


@question
def provenance(world: World) -> None:
    name = world.rng.choice(world.ids)
    for direction, end in (("back", 0), ("forward", 1)):
        there = world.model.present_edges()
        reached, frontier = {name}, {name}
        while frontier:
            along = {key[1 - end] for key in there if key[2] in BACK and key[end] in frontier}
            against = {k[end] for k in there if k[2] == "CONSOLIDATED_INTO" and k[1 - end] in frontier}
            frontier = (along | against) - reached
            reached |= frontier
        found = [path.nodes[-1] for path in world.store.provenance(name, direction)]
        same(sorted(found), sorted(reached - {name}), f"provenance {direction} of {name}")


@question
def traverse_ids(world: World) -> None:
    start, depth, kind = world.rng.choice(world.ids), world.rng.randrange(1, 4), world.rng.choice(KINDS)
    reached, frontier = {start}, {start}
    for _ in range(depth):
        frontier = {k[1] for k in world.model.present_edges() if k[0] in frontier and k[2] == kind} - reached
        reached |= frontier
    found = world.store.traverse_ids(start, edge_type=kind, direction=OUT, depth=depth)
    same(sorted(found), sorted(reached - {start}), f"traverse_ids {start} {kind} {depth}")
    found = world.store.reachable(start, edge_type=kind, direction=OUT, depth=depth)
    same(found, reached - {start}, f"reachable {start} {kind} {depth}")


@question
def content_filter(world: World) -> None:
    part = world.rng.choice(("content", "ä", "9"))
    expected = [plain(item) for item in world.model.present() if part in item.content]
    found = [plain(item) for item in world.store.scan(Filter(content=part))]
    same(found, expected, f"content {part!r}")
