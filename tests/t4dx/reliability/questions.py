"""The table of reads: each asks the store and the model, and compares to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from reliability.model import Key, edge_key, edge_plain, fits, item_key, score
from reliability.operations import DIM, KINDS, SESSIONS, World
from reliability.rows import Wrong

from t4dm.t4dx import BOTH, IN, OUT, AsOf, EdgeFilter, Filter

Question = Callable[[World], None]
QUESTIONS: dict[str, Question] = {}


def question(function: Question) -> Question:
    """Put a read into the table."""
    QUESTIONS[function.__name__] = function
    return function


def ask(world: World, count: int) -> None:
    """Some random reads."""
    for name in world.rng.sample(sorted(QUESTIONS), min(count, len(QUESTIONS))):
        QUESTIONS[name](world)


def same(found: Any, expected: Any, what: str) -> None:
    """Raise Wrong where two answers differ."""
    if found != expected:
        raise Wrong(f"{what}: the store says {str(found)[:300]}, the model {str(expected)[:300]}")


def random_filter(world: World) -> Filter:
    """Any mixture of conditions."""
    rng, low = world.rng, world.rng.random()
    return Filter(
        session=rng.choice((None, None, SESSIONS[1], SESSIONS[1:], "unknown")),
        kappa=rng.choice((None, None, (0.2, 1.0), (None, 0.25))),
        importance=rng.choice((None, None, (low / 2, low))),
        event_time=rng.choice((None, None, (20, 70), (None, 50))),
        record_time=rng.choice((None, None, None, (1000, world.clock.now - 5))),
        type=rng.choice((None, None, "semantic", ("semantic", "procedural"))),
        ids=rng.choice((None, None, None, tuple(rng.sample(world.ids, 4)))),
        valid_at=rng.choice((None, None, None, float(rng.randrange(900, 1200)))),
    )


def random_time(world: World) -> AsOf:
    """A moment on one axis or both."""
    rng = world.rng
    now = int(world.clock.now)
    record = rng.choice((None, float(rng.randrange(1000, now + 2)), now - rng.random() * 9))
    return AsOf(record=record, valid=rng.choice((None, float(rng.randrange(900, 1200)))))


@question
def get(world: World) -> None:
    names = world.rng.sample(world.ids, 5)
    for name, found in zip(names, world.store.get_many(names), strict=True):
        same(plain(found), plain(world.model.current(name)), f"get {name}")
        same(name in world.store, world.model.current(name) is not None, f"{name} in store")


@question
def get_as_of(world: World) -> None:
    when = random_time(world)
    there = {item.id: item for item in world.model.items_as_of(when)}
    for name in world.rng.sample(world.ids, 4):
        same(plain(world.store.get(name, as_of=when)), plain(there.get(name)), f"get {name} as of {when}")


@question
def scan(world: World) -> None:
    where, limit = random_filter(world), world.rng.choice((None, 3))
    field = world.rng.choice(("id", "event_time", "record_time", "kappa", "importance", "access_count"))
    falling = world.rng.random() < 0.5
    matches = [item for item in world.model.present() if fits(item, where)]
    matches.sort(key=lambda item: item.id, reverse=falling and field == "id")
    if field != "id":
        matches.sort(key=lambda item: getattr(item, field), reverse=False)
        if falling:
            matches.sort(key=lambda item: -getattr(item, field))
    found = world.store.scan(where, limit=limit, order=("-" if falling else "") + field)
    same([item.id for item in found], [item.id for item in matches][:limit], f"scan {where} by {field}")


@question
def scan_as_of(world: World) -> None:
    when, where = random_time(world), random_filter(world)
    expected = [item_key(item) for item in world.model.items_as_of(when) if fits(item, where)]
    found = sorted(world.store.scan(where, as_of=when), key=lambda item: item.id)
    same([item_key(item) for item in found], sorted(expected), f"scan {where} as of {when}")


@question
def count(world: World) -> None:
    where = random_filter(world)
    expected = [item for item in world.model.present() if fits(item, where)]
    same(world.store.count(where), len(expected), f"count {where}")
    kappas = sorted(item.kappa for item in expected)
    same(sorted(world.store.column("kappa", where).tolist()), kappas, f"column {where}")


@question
def search(world: World) -> None:
    where, k = random_filter(world), world.rng.randrange(12)
    query = random_query(world)
    pool = [item for item in world.model.present() if searchable(item) and fits(item, where)]
    check_hits(world.store.search(query, k, where), pool, query, k, f"search {where}")


@question
def search_as_of(world: World) -> None:
    when, where, query = random_time(world), random_filter(world), random_query(world)
    then = world.model.items_as_of(when)
    pool = [item for item in then if searchable(item) and fits(item, where)]
    check_hits(
        world.store.search(query, 5, where, as_of=when), pool, query, 5, f"search {where} as of {when}"
    )


@question
def search_matrix(world: World) -> None:
    wheres = [random_filter(world) for _ in range(3)]
    queries = np.stack([random_query(world) for _ in range(3)])
    found = world.store.search(queries, 4, wheres, explain=True)
    for hits, where, query in zip(found, wheres, queries, strict=True):
        pool = [item for item in world.model.present() if searchable(item) and fits(item, where)]
        check_hits(hits, pool, query, 4, f"matrix search {where}")
        if hits.plan is None:
            raise Wrong("explain=True left no plan")


@question
def edges(world: World) -> None:
    rng = world.rng
    source, target = (rng.choice((None, None, *world.ids[:4])) for _ in range(2))
    name, span = rng.choice((None, *KINDS, KINDS[:2])), rng.choice((None, (0.3, 0.8)))
    where = EdgeFilter(source=source, target=target, type=name, weight=span)
    names = (name,) if isinstance(name, str) else name
    when = rng.choice((None, random_time(world)))
    there = world.model.present_edges() if when is None else world.model.edges_as_of(when)
    expected = [
        edge_plain(edge)
        for key, edge in there.items()
        if source in (None, key[0])
        and target in (None, key[1])
        and (names is None or key[2] in names)
        and (span is None or span[0] <= edge.weight <= span[1])
    ]
    found = [edge_plain(edge) for edge in world.store.edges(where=where, as_of=when)]
    same(sorted(found), sorted(expected), f"edges {where} as of {when}")


@question
def traverse(world: World) -> None:
    start, depth = world.rng.choice(world.ids), world.rng.randrange(1, 4)
    direction, kinds = world.rng.choice((OUT, IN, BOTH)), world.rng.choice((None, KINDS[0], KINDS[:3]))
    when = world.rng.choice((None, random_time(world)))
    there = world.model.present_edges() if when is None else world.model.edges_as_of(when)
    now = world.model.present() if when is None else world.model.items_as_of(when)
    items = {item.id: item for item in now}
    expected = walks(there, start, depth, direction, kinds)
    found = []
    for path in world.store.traverse(start, depth=depth, direction=direction, edge_type=kinds, as_of=when):
        found.append((path.nodes, tuple(edge_key(edge) for edge in path.edges)))
        same(plain(path.item), plain(items.get(path.nodes[-1])), f"item at the end of {path.nodes}")
        weight = 1.0
        for edge in path.edges:
            same(edge_plain(edge), edge_plain(there[edge_key(edge)]), "edge of a path")
            weight *= edge.weight
        same(path.weight, weight, f"weight of {path.nodes}")
    same(found, expected, f"traverse {start} {direction} {kinds} depth {depth} as of {when}")


@question
def totals(world: World) -> None:
    stats = world.store.stats() if hasattr(world.store, "stats") else None
    if stats is not None:
        same(stats["items"], len(world.model.present()), "stats of items")
        same(stats["edges"], len(world.model.present_edges()), "stats of edges")


def walks(
    there: dict[Key, Any], start: str, depth: int, direction: Any, kinds: Any
) -> list[tuple[tuple[str, ...], tuple[Key, ...]]]:
    """Breadth first, heaviest edge first, then by type and node, outgoing before incoming; each node once."""
    names = (kinds,) if isinstance(kinds, str) else kinds
    found, reached, frontier = [], {start}, [((start,), ())]
    for _ in range(depth):
        following = []
        for nodes, path in frontier:
            steps = []
            for key, edge in there.items():
                if names is not None and key[2] not in names:
                    continue
                if direction is not IN and key[0] == nodes[-1]:
                    steps.append((-edge.weight, key[2], key[1], False, key))
                if direction is not OUT and key[1] == nodes[-1]:
                    steps.append((-edge.weight, key[2], key[0], True, key))
            for _, _, node, _, key in sorted(steps):
                if node not in reached:
                    reached.add(node)
                    following.append(((*nodes, node), (*path, key)))
        found += following
        frontier = following
    return found


def check_hits(
    hits: Any, pool: list[Any], query: np.ndarray, k: int, what: str, *, metric: str = "cosine"
) -> None:
    """min(k, matches) hits, the best ones, best first, ties by id. Scores may part in the last bit of a
    float32.
    """
    by_id = {item.id: item for item in pool}
    scores = {item.id: score(item, query, metric) for item in pool}
    best = sorted((-value, name) for name, value in scores.items())[:k]
    same(len(hits), min(k, len(pool)), f"{what}: number of hits")
    if hits.ids != [name for _, name in best]:
        for hit, (value, _) in zip(hits, best, strict=True):
            if hit.id not in scores or abs(scores[hit.id] + value) > 1e-6 * max(1.0, abs(value)):
                raise Wrong(f"{what}: {hits}, the model says {best}")
        ranked = [(-hit.score, hit.id) for hit in hits]
        same(ranked, sorted(ranked), f"{what}: order")
    for hit in hits:
        if abs(hit.score - scores[hit.id]) > 1e-6 * max(1.0, abs(hit.score)):
            raise Wrong(f"{what}: {hit.id} scores {hit.score}, the model says {scores[hit.id]}")
        same(item_key(hit.item), item_key(by_id[hit.id]), f"{what}: item of the hit")


def searchable(item: Any) -> bool:
    """Whether a search of the first collection may find it."""
    return item.vector is not None and item.collection == "default"


def random_query(world: World) -> np.ndarray:
    """A direction, sometimes none."""
    if world.rng.random() < 0.05:
        return np.zeros(DIM, np.float32)
    return np.array([world.rng.uniform(-1, 1) for _ in range(DIM)], np.float32)


def plain(item: Any) -> Any:
    """An item or None, comparable."""
    return None if item is None else item_key(item)
