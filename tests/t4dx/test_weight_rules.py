"""Scalings by rule, by filter and by function give the weights of a plain loop, whatever is done to the
files.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm import errors
from t4dm.t4dx import T4DX, AffineClip, Edge, EdgeFilter, F, Options

NODES = ["a", "b", "c", "d", "e"]
KINDS = ["CAUSES", "RELATES_TO"]
TINY = Options(durability="os", memtable_items=8, max_deltas=2, max_segments=2)
Key = tuple[str, str, str]


def random_filter(rng: random.Random, lsn: int) -> EdgeFilter:
    return EdgeFilter(
        type=rng.choice((None, "CAUSES", ("CAUSES", "RELATES_TO"))),
        source=rng.choice((None, None, "a", ("a", "b", "zz"))),
        target=rng.choice((None, None, ("c", "d"))),
        record_time=rng.choice((None, None, (None, rng.uniform(0, 40)), (5, 25))),
        lsn=rng.choice((None, None, rng.randrange(lsn + 2))),
        weight=rng.choice((None, None, (0.3, 0.8))),
        where=rng.choice((None, None, F("n") > 1)),
    )


def fits(where: EdgeFilter, edge: Edge, lsn: int) -> bool:
    def named(names: object, value: str) -> bool:
        return names is None or value in ((names,) if isinstance(names, str) else names)  # type: ignore[operator]

    span = where.record_time or (-np.inf, np.inf)
    low, high = where.weight or (0.0, 1.0)  # type: ignore[misc]
    return (
        named(where.type, str(edge.type))
        and named(where.source, edge.source)
        and named(where.target, edge.target)
        and span[0] <= edge.record_time < span[1]  # type: ignore[operator]
        and (where.lsn is None or lsn <= where.lsn)
        and low <= edge.weight <= high  # type: ignore[operator]
        and (where.where is None or edge.properties["n"] > 1)
    )


def run(seed: int, steps: int) -> None:
    rng, clock, fs = random.Random(seed), Ticks(0.0), SimulatedFileSystem(seed=seed)
    store = T4DX.open("store", dim=2, options=TINY, clock=clock, fs=fs)
    model: dict[Key, tuple[Edge, int]] = {}
    for _ in range(steps):
        kind = rng.choice(
            ("insert",) * 4 + ("rule",) * 4 + ("map", "weight", "delete", "flush", "compact", "reopen")
        )
        if kind == "insert" or not model:
            ends, kind_of = (rng.choice(NODES), rng.choice(NODES)), rng.choice(KINDS)
            edge = Edge(*ends, kind_of, rng.random(), valid_from=0.0, properties={"n": rng.randrange(4)})
            lsn = store.insert_many([], [edge])
            model[edge.source, edge.target, str(edge.type)] = replace(edge, record_time=clock.now), lsn
        elif kind in ("rule", "map"):
            where, op = (
                random_filter(rng, store.lsn),
                AffineClip(rng.uniform(0.3, 1.3), rng.uniform(-0.1, 0.2), 0.05, 0.95),
            )
            chosen = {key for key, (edge, lsn) in model.items() if fits(where, edge, lsn)}
            if kind == "rule":
                store.batch_scale_weights(where, op)
            else:
                store.batch_map_weights(where, lambda w, op=op: np.clip(op.a * w + op.b, op.lo, op.hi))
            model = {
                key: (replace(edge, weight=op(edge.weight)) if key in chosen else edge, lsn)
                for key, (edge, lsn) in model.items()
            }
        elif kind == "weight":
            key = rng.choice(sorted(model))
            store.update_edge_weight(key[0], key[1], 0.125, edge_type=key[2])
            edge, lsn = model[key]
            model[key] = replace(edge, weight=min(1.0, edge.weight + 0.125)), lsn
        elif kind == "delete":
            key = rng.choice(sorted(model))
            store.delete_edge(key[0], key[1], edge_type=key[2])
            del model[key]
        elif kind == "reopen":
            store.close()
            store = T4DX.open("store", options=TINY, clock=clock, fs=fs)
        else:
            getattr(store, kind)()
        found = {(e.source, e.target, str(e.type)): e for e in store.edges()}
        assert found == {key: edge for key, (edge, _) in model.items()}, kind


@pytest.mark.parametrize("seed", range(3))
def test_lazy_rules_equal_eager_weights(seed: int) -> None:
    run(seed, 50)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_lazy_rules_equal_eager_weights_over_long_runs(seed: int) -> None:
    run(seed, 800)


def fan(count: int = 400) -> T4DX:
    store = T4DX.open(
        "store", dim=2, options=Options(durability="os"), clock=Ticks(0.0), fs=SimulatedFileSystem()
    )
    store.insert_many(
        [], [Edge("a", f"n{n:03d}", "CAUSES", n / 400, properties={"n": n}) for n in range(count)]
    )
    return store


@pytest.mark.parametrize(
    "where",
    [
        EdgeFilter(type="CAUSES"),
        EdgeFilter(record_time=(None, 50.0)),
        EdgeFilter(lsn=1),
        EdgeFilter(source="a"),
    ],
)
def test_a_scaling_by_what_never_changes_is_one_small_record(where: EdgeFilter) -> None:
    store = fan()
    assert where.immutable
    before = store.stats()["wal_bytes"]
    store.batch_scale_weights(where, (0.5, 0.25, 0.0, 1.0))
    assert store.stats()["wal_bytes"] - before < 150
    assert sorted(edge.weight for edge in store.edges()) == [n / 800 + 0.25 for n in range(400)]


@pytest.mark.parametrize(
    "where",
    [
        EdgeFilter(weight=(0.5, 1.0)),
        EdgeFilter(where=F("n") >= 200),
        EdgeFilter(valid_at=1e9, weight=(0.5, 1)),
    ],
)
def test_a_scaling_by_what_can_change_is_resolved_at_the_commit(where: EdgeFilter) -> None:
    store = fan()
    assert not where.immutable
    store.batch_scale_weights(where, (0.0, 0.0, 0.0, 0.0))
    assert sum(edge.weight == 0.0 for edge in store.edges()) == 201
    store.insert_many([], [Edge("new", "edge", "CAUSES", 0.75)])
    store.flush()
    assert [edge.weight for edge in store.edges("new")] == [0.75]


def test_a_function_is_called_once_and_its_weights_are_logged() -> None:
    store, calls = fan(4), list[int]()

    def fn(weights: np.ndarray) -> np.ndarray:
        calls.append(len(weights))
        return weights[::-1].copy()

    store.batch_map_weights(EdgeFilter(source="a"), fn)
    store.compact()
    assert calls == [4]
    assert [e.weight for e in sorted(store.edges(), key=lambda e: e.target)] == [
        3 / 400,
        2 / 400,
        1 / 400,
        0.0,
    ]


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (
            lambda w: w + 2.0,
            r"the function made 2\.0 of the weight 0\.0; keep weights in \[0, 1\], for example with",
        ),
        (lambda w: w * np.nan, "the function made nan of the weight"),
        (lambda w: w[:2], r"the function gave shape \(2,\) for 4 weights; return one weight for each"),
    ],
)
def test_a_function_that_makes_no_weights_changes_nothing(fn: object, message: str) -> None:
    store = fan(4)
    before = [edge.weight for edge in store.edges()]
    with pytest.raises(errors.EdgeError, match=message):
        store.batch_map_weights(EdgeFilter(), fn)
    assert [edge.weight for edge in store.edges()] == before
    assert store.lsn == 1
