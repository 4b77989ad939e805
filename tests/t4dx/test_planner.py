"""Every path of a search against a plain loop: what it finds, how many, in which order, what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError
from t4dm.t4dx import T4DX, AsOf, Filter, Item, Options
from t4dm.t4dx.ann import Exact
from t4dm.t4dx.costs import Costs
from t4dm.t4dx.segment import Segment

DIM = 192
ROWS = 2600  # 1500 in a segment, 1100 in the memtable
FLUSHED = 1500
METRICS = ("cosine", "dot", "l2")
SHAPES = ("random", "clustered", "duplicated", "all equal", "few distinct", "one-hot", "correlated")
SHARES = (1.0, 0.5, 0.1, 0.03, 0.01, 0.001)
BY_CODES = Costs(small=0, scan=1.0, gather=1.0, walk=1e9, enter=1e9, encode=0.0)
BY_GRAPH = Costs(small=0, scan=1.0, gather=1.0, signs=1e9, probe=1e9, walk=0.0, enter=0.0)
Vectors = NDArray[np.float32]


def vectors_of(shape: str, rng: np.random.Generator) -> Vectors:
    rows = rng.standard_normal((ROWS, DIM))
    if shape in ("clustered", "correlated"):
        rows = rng.standard_normal((30, DIM))[np.arange(ROWS) * 30 // ROWS] + 0.5 * rows
    elif shape == "duplicated":
        rows[ROWS // 2 :] = rows[: ROWS - ROWS // 2]
    elif shape == "all equal":
        rows[:] = rows[0]
    elif shape == "few distinct":
        rows = rows[:5][rng.integers(0, 5, ROWS)]
    elif shape == "one-hot":
        rows = np.eye(DIM)[rng.integers(0, DIM, ROWS)]
    return rows.astype(np.float32)


def metrics_of(shape: str) -> tuple[str, ...]:
    return METRICS if shape in ("random", "clustered") else METRICS[:1]


class World(NamedTuple):
    """A store with a collection of the same vectors for each metric, and what it holds."""

    store: T4DX
    vectors: Vectors
    kappas: NDArray[np.float64]


def world_of(shape: str) -> World:
    rng = np.random.default_rng(SHAPES.index(shape))
    vectors = vectors_of(shape, rng)
    kappas = np.arange(ROWS) / ROWS if shape == "correlated" else rng.permutation(ROWS) / ROWS
    options = Options(durability="os", memtable_items=10**6, memtable_bytes=2**40)
    store = T4DX.open("store", dim=DIM, options=options, clock=Ticks(0.0), fs=SimulatedFileSystem())
    for metric in metrics_of(shape):
        store.create_collection(metric, dim=DIM, metric=metric)
    items = [
        [
            Item(id=f"{metric}{n:05d}", vector=vectors[n], kappa=float(kappas[n]), collection=metric)
            for n in range(ROWS)
        ]
        for metric in metrics_of(shape)
    ]
    for lot in items:
        store.insert_many(lot[:FLUSHED])
    store.flush()
    for lot in items:
        store.insert_many(lot[FLUSHED:])
    return World(store, vectors, kappas)


@pytest.fixture(scope="module")
def worlds() -> Callable[[str], World]:
    known: dict[str, World] = {}

    def make(shape: str) -> World:
        if shape not in known:
            known[shape] = world_of(shape)
        return known[shape]

    return make


def segment_of(store: T4DX) -> Segment:
    found = [view.source for view in store._present().views if isinstance(view.source, Segment)]
    assert len(found) == 1
    return found[0]


def give_graph(store: T4DX, make: Callable[[Vectors, str], Any]) -> None:
    """Graphs over the vectors of the segment, in place of what the store would build."""
    segment = segment_of(store)
    for code, row in enumerate(store._present().collections.rows):
        block = segment.vectors(code)
        segment.graphs[code] = make(np.array(block), row.metric) if len(block) else None


def plain(hits: Any) -> list[tuple[float, str]]:
    return [(-hit.score, hit.id) for hit in hits]


def naive(world: World, metric: str, query: Vectors, alive: NDArray[np.bool_]) -> list[float]:
    """All scores that count, best first: float64 over every row."""
    rows, q = world.vectors[alive].astype(np.float64), query.astype(np.float64)
    if metric == "dot":
        scores = (rows * q).sum(axis=1)
    elif metric == "l2":
        scores = -np.sqrt(((rows - q) ** 2).sum(axis=1))
    else:
        scores = (rows * q).sum(axis=1) / np.sqrt((rows**2).sum(axis=1) * (q @ q))
    return sorted(scores.tolist(), reverse=True)


def agreement(found: Any, expected: Any) -> float:
    """Share of the k best that were found, by their scores: an equal score is as good."""
    assert len(found) == len(expected)
    if not len(expected):
        return 1.0
    assert plain(found) == sorted(plain(found))
    if {hit.id for hit in found} == {hit.id for hit in expected}:
        assert plain(found) == plain(expected)  # to the bit, ties by id
    return float(np.mean([hit.score >= expected[-1].score for hit in found]))


@pytest.mark.parametrize("costs", [BY_CODES, BY_GRAPH], ids=["codes", "graph"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_path_finds_what_an_exact_search_finds(
    worlds: Callable[[str], World], shape: str, costs: Costs
) -> None:
    """0.99 of the best on average and never fewer than min(k, matches); exactly them with recall=1."""
    world, rng = worlds(shape), np.random.default_rng(8)
    store, shares, paths = world.store, list[float](), set[Any]()
    give_graph(store, Exact)
    store.costs = costs
    queries = np.stack([world.vectors[3], rng.standard_normal(DIM).astype(np.float32)])
    for metric in metrics_of(shape):
        for share in SHARES:
            where, alive = Filter(kappa=(None, share - 0.5 / ROWS)), world.kappas < share - 0.5 / ROWS
            exact = store.search(queries, 10, where, collection=metric, recall=1.0)
            found = store.search(queries, 10, where, collection=metric, explain=True)
            for query, own, other in zip(queries, exact, found, strict=True):
                best = naive(world, metric, query, alive)[:10]
                assert [hit.score for hit in own] == pytest.approx(best, rel=1e-5, abs=1e-5)
                shares.append(agreement(other, own))
            paths |= {line["path"] for line in found[0].plan}
    assert np.mean(shares) >= 0.99
    assert paths - {"skipped"} == ({"codes"} if costs is BY_CODES else {"graph", "exact"})


def test_many_queries_get_what_each_gets_alone(worlds: Callable[[str], World]) -> None:
    store = worlds("clustered").store
    give_graph(store, Exact)
    queries = worlds("clustered").vectors[::200] + np.float32(0.1)
    wheres = [Filter(kappa=(None, 0.5 if n % 2 else 1.0)) for n in range(len(queries))]
    for costs in (BY_CODES, BY_GRAPH, Costs(small=0)):
        store.costs = costs
        for collection in METRICS:
            together = store.search(queries, 7, wheres, collection=collection)
            alone = [
                store.search(query, 7, where, collection=collection)
                for query, where in zip(queries, wheres, strict=True)
            ]
            assert [plain(hits) for hits in together] == [plain(hits) for hits in alone]


def test_k_may_be_nothing_or_everything(worlds: Callable[[str], World]) -> None:
    world = worlds("random")
    give_graph(world.store, Exact)
    for costs in (BY_CODES, BY_GRAPH):
        world.store.costs = costs
        for k, expected in ((0, 0), (1, 1), (ROWS, ROWS), (ROWS + 9, ROWS)):
            hits = world.store.search(world.vectors[0], k, collection="l2")
            assert len(hits) == len(set(hits.ids)) == expected
        assert agreement(hits, world.store.search(world.vectors[0], ROWS, collection="l2", recall=1)) == 1.0


def test_a_graph_whose_longest_walk_finds_too_little_is_not_walked(worlds: Callable[[str], World]) -> None:
    """Unless the size of the walk is given, or less is asked for."""

    class Poor(Exact):
        def __init__(self, vectors: Vectors, metric: str) -> None:
            super().__init__(vectors, metric)
            self.ladder = (0.4, *[0.85] * 8)

    world = worlds("random")
    store, query = world.store, world.vectors[9]
    give_graph(store, Poor)
    store.costs = BY_GRAPH
    line = store.search(query, 10, collection="l2", explain=True).plan[1]
    assert (line["path"], line["longest_walk"]) == ("exact", 0.85)
    for knob in ({"recall": 0.8}, {"ef": 40}):
        assert store.search(query, 10, collection="l2", explain=True, **knob).plan[1]["path"] == "graph"


class Lost:
    """A graph whose walks lose their way: they bring back too few, dead ends, and what was not allowed."""

    def __init__(self, vectors: Vectors, metric: str, *, answer: Callable[[int, int], list[int]]) -> None:
        (self.rows, self.width), self.unreached = vectors.shape, np.zeros(0, np.int64)
        self.ladder = (1.0,) * 9
        self._answer = answer

    def search(
        self, queries: Vectors, k: int, *, ef: int, allowed: NDArray[np.uint8] | None = None
    ) -> tuple[Vectors, NDArray[np.int64]]:
        found = np.array([(self._answer(k, self.rows) + [-1] * k)[:k] for _ in queries], np.int64)
        return np.zeros(found.shape, np.float32), found


@pytest.mark.parametrize(
    "answer",
    [
        lambda k, rows: [],
        lambda k, rows: [0] * k,
        lambda k, rows: [rows + 5] * k,
        lambda k, rows: list(range(5)),
        lambda k, rows: [-7, 2**40, *range(20)],
    ],
    ids=["nothing", "one again and again", "beyond its rows", "too few", "nonsense"],
)
def test_a_view_is_searched_again_where_its_graph_finds_too_little(
    worlds: Callable[[str], World], answer: Callable[[int, int], list[int]]
) -> None:
    world = worlds("random")
    store, query = world.store, world.vectors[1600]
    give_graph(store, lambda vectors, metric: Lost(vectors, metric, answer=answer))
    store.costs = BY_GRAPH
    before = store.searched["fallback"]
    for where in (Filter(), Filter(kappa=(0.2, 0.9))):
        for metric in METRICS:
            hits = store.search(query, 10, where, collection=metric, explain=True)
            exact = store.search(query, 10, where, collection=metric, recall=1)
            assert plain(hits) == plain(exact)
            line = next(line for line in hits.plan if line["path"] == "graph")
            assert (line["fallback"], line["fallback_path"]) == (1, "exact")
    assert store.searched["fallback"] == before + 6


def test_a_graph_that_brings_back_what_may_not_pass_is_not_believed(worlds: Callable[[str], World]) -> None:
    """It looks at no bitmap: two thirds of what it proposes pass, which is too little to go by."""

    class Blind(Exact):
        def search(self, queries: Vectors, k: int, *, ef: int = 0, allowed: Any = None) -> Any:
            return super().search(queries, k, ef=ef)

    world = worlds("random")
    give_graph(world.store, Blind)
    world.store.costs = BY_GRAPH
    where = Filter(kappa=(0.2, 0.9))
    for place in (0, 700, 2000):
        hits = world.store.search(world.vectors[place], 10, where, collection="dot", explain=True)
        assert plain(hits) == plain(
            world.store.search(world.vectors[place], 10, where, collection="dot", recall=1)
        )
        assert (hits.plan[1]["path"], hits.plan[1]["fallback"]) == ("graph", 1)


def test_what_a_graph_does_not_hold_or_reach_is_scored(worlds: Callable[[str], World]) -> None:
    """A graph over the first 1200 of 1500 places that reaches every third of them only."""

    class Partial(Lost):
        def __init__(self, vectors: Vectors, metric: str) -> None:
            super().__init__(vectors, metric, answer=lambda k, rows: [])
            self.rows = 1200
            self.unreached = np.flatnonzero(np.arange(1200) % 3)
            self._whole = Exact(vectors, metric)

        def search(self, queries: Vectors, k: int, *, ef: int, allowed: Any = None) -> Any:
            mask = np.arange(1500) % 3 == 0
            mask[1200:] = False
            if allowed is not None:
                mask[:1200] &= np.unpackbits(allowed, bitorder="little", count=1200).astype(bool)
            return self._whole.search(queries, k, ef=ef, allowed=np.packbits(mask, bitorder="little"))

    world = worlds("random")
    give_graph(world.store, Partial)
    world.store.costs = BY_GRAPH
    for place in (0, 1, 1199, 1300, 2000):
        for where in (Filter(), Filter(kappa=(0.1, None))):
            query = world.vectors[place]
            hits = world.store.search(query, 10, where, collection="cosine", explain=True)
            assert plain(hits) == plain(world.store.search(query, 10, where, collection="cosine", recall=1))
            assert hits.plan[1]["loose"] == "exact"
            assert "fallback" not in hits.plan[1]


def test_deleted_ended_and_changed_rows_count_as_they_are_read() -> None:
    """Overlays and two time axes decide what passes, on every path alike; a reader of before sees before."""
    world = world_of("clustered")
    store, query = world.store, world.vectors[10]
    give_graph(store, Exact)
    was = plain(store.search(query, 20, collection="cosine", recall=1))
    snapshot, then = store.snapshot(), store._clock()
    nearest = [name for _, name in was]
    store.delete(nearest[0])
    store.close_item(nearest[1])
    store.update_fields(nearest[2], kappa=1.0)
    store.insert(Item(id=nearest[3], vector=-query, collection="cosine"))
    for costs in (BY_CODES, BY_GRAPH):
        store.costs = costs
        for where in (Filter(), Filter(kappa=(None, 0.9)), Filter(kappa=(1.0, None))):
            for when in (None, then, AsOf(record=then)):
                hits = store.search(query, 20, where, collection="cosine", as_of=when)
                exact = store.search(query, 20, where, collection="cosine", as_of=when, recall=1)
                assert agreement(hits, exact) == 1.0
        now = store.search(query, 20, collection="cosine").ids
        assert not {nearest[0], nearest[1], nearest[3]} & set(now)
        assert now[0] == nearest[2]
        assert store.search(query, 20, Filter(kappa=(1.0, None)), collection="cosine").ids == [nearest[2]]
        past = store.search(query, 4, collection="cosine", as_of=then).ids
        assert past == nearest[1:5]  # what was deleted never was; what ended or was replaced still is, then
        snapshot.costs = costs
        assert plain(snapshot.search(query, 20, collection="cosine")) == was


def test_a_time_after_all_rows_began_and_before_any_ended_is_the_present() -> None:
    """All rows are then taken as those of the present; an end, a beginning and a validity each forbid it."""
    world = world_of("few distinct")
    store, query = world.store, world.vectors[0]
    later = store._clock() + 100.0
    now = plain(store.search(query, 30, collection="cosine"))
    assert plain(store.search(query, 30, collection="cosine", as_of=later)) == now
    assert plain(store.search(query, 30, collection="cosine", as_of=AsOf(valid=later))) == now
    assert len(store.search(query, 30, collection="cosine", as_of=-1.0)) == 0
    first, second = now[0][1], now[1][1]
    store.insert(Item(id="past", vector=query, collection="cosine", valid_until=later))
    store.insert(Item(id="future", vector=query, collection="cosine", valid_from=later + 50.0))
    ids = store.search(query, ROWS + 2, collection="cosine", as_of=later).ids
    assert "past" not in ids
    assert "future" not in ids
    assert {"past", "future"} <= set(store.search(query, ROWS + 2, collection="cosine").ids)
    store.close_item(first)
    store.delete(second)
    assert first not in store.search(query, ROWS, collection="cosine", as_of=later).ids
    assert len(store.search(query, ROWS + 2, collection="cosine", as_of=AsOf(record=later))) == ROWS


def test_a_plan_tells_what_was_done_and_why(worlds: Callable[[str], World]) -> None:
    world = worlds("random")
    store, query = world.store, world.vectors[0]
    give_graph(store, Exact)
    store.costs = BY_GRAPH
    front, segment = store.search(query, 5, collection="cosine", explain=True, ef=77).plan
    assert [front["view"], segment["view"]] == [0, 1]
    assert {name: segment[name] for name in ("path", "reason", "matches", "recall", "ef", "share")} == {
        "path": "graph", "reason": "cheapest", "matches": 1500, "recall": 0.99, "ef": 77, "share": 1.0
    }  # fmt: skip
    assert segment["expected_seconds"] >= 0 < segment["seconds"]
    assert segment["scored"] == 32
    assert front["path"] == "exact"
    narrow = store.search(query, 5, Filter(kappa=(None, 0.05)), collection="cosine", explain=True).plan[1]
    assert (narrow["path"], narrow["share"] < 0.1) == ("exact", True)
    store.costs = BY_CODES
    line = store.search(query, 5, collection="cosine", explain=True, recall=0.9).plan[1]
    assert (line["path"], line["recall"]) == ("codes", 0.9)
    assert 32 <= line["scored"] < 1500
    store.costs = None
    assert [line["reason"] for line in store.search(query, 5, collection="dot", explain=True).plan] == [
        "small", "small"
    ]  # fmt: skip
    plan = store.search(query, 5, collection="dot", explain=True, recall=1.0).plan
    assert [line["reason"] for line in plan] == ["recall=1", "recall=1"]


def test_searches_are_counted_by_their_path(worlds: Callable[[str], World]) -> None:
    world = worlds("random")
    store, counted = world.store, world.store.searched
    give_graph(store, Exact)
    counted.clear()
    store.costs = BY_GRAPH
    store.search(world.vectors[:3], 5, collection="cosine")
    store.costs = BY_CODES
    store.search(world.vectors[0], 5, collection="cosine")
    store.search(world.vectors[0], 5, Filter(kappa=(2.0, None)), collection="cosine")
    store.snapshot().search(world.vectors[0], 5, collection="cosine")
    expected = {"graph": 3, "exact": 3 + 2, "codes": 2, "skipped": 2}
    assert {name: count for name, count in counted.items() if count} == expected
    assert {name: count for name, count in store.stats()["searched"].items() if count} == expected


def test_codes_are_made_when_exact_searches_have_cost_as_much() -> None:
    world = world_of("random")
    making = Costs(
        small=0, gather=1.0, scan=1.0, sort=0.0, signs=0.0, bounds=0.0, probe=0.0, near=0.0, encode=3.5
    )
    world.store.costs = making
    paths = []
    for _ in range(5):
        plan = world.store.search(world.vectors[0], 5, collection="cosine", explain=True).plan
        paths.append([line["path"] for line in plan])
    assert paths == [["exact", "exact"]] * 3 + [["codes", "codes"]] * 2
    world.store.insert(Item(id="new", vector=world.vectors[0], collection="cosine"))
    hits = world.store.search(world.vectors[0], 2, collection="cosine", explain=True)
    assert [line["path"] for line in hits.plan] == ["codes", "codes"]  # one more code is soon made
    assert hits.ids == ["cosine00000", "new"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_search_agrees_with_a_plain_loop(worlds: Callable[[str], World], data: Any) -> None:
    """The graph here is exact and the codes are sure to 5 deviations, so nothing may be missing."""
    shape = data.draw(st.sampled_from(SHAPES))
    world, metric = worlds(shape), data.draw(st.sampled_from(metrics_of(shape)))
    low, high = sorted((data.draw(st.integers(0, ROWS)), data.draw(st.integers(0, ROWS))))
    k, place = data.draw(st.integers(0, 40)), data.draw(st.integers(0, ROWS - 1))
    noise = data.draw(st.sampled_from((0.0, 0.3, 3.0)))
    rng = np.random.default_rng(place)
    query = (world.vectors[place] + noise * rng.standard_normal(DIM)).astype(np.float32)
    give_graph(world.store, Exact)
    world.store.costs = data.draw(st.sampled_from((BY_CODES, BY_GRAPH, Costs(small=0), None)))
    where = Filter(kappa=((low - 0.5) / ROWS, (high - 0.5) / ROWS))
    alive = (world.kappas >= (low - 0.5) / ROWS) & (world.kappas <= (high - 0.5) / ROWS)
    hits = world.store.search(query, k, where, collection=metric, recall=0.9999997)
    best = naive(world, metric, query, alive)[:k]
    assert [hit.score for hit in hits] == pytest.approx(best, rel=2e-5, abs=2e-5)
    assert {int(name.removeprefix(metric)) for name in hits.ids} <= set(np.flatnonzero(alive).tolist())


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"recall": 0.0}, "recall is 0.0; ask for recall=0.99, or for recall=1 to be exact"),
        ({"recall": 1.5}, "recall is 1.5; ask for recall=0.99"),
        ({"recall": float("nan")}, "recall is nan; ask for recall=0.99"),
        ({"ef": 0}, "ef is 0; ask for ef=64, or leave it out"),
    ],
)
def test_a_knob_out_of_range_is_refused(
    worlds: Callable[[str], World], knob: dict[str, Any], message: str
) -> None:
    with pytest.raises(FilterError, match=message):
        worlds("random").store.search(np.ones(DIM), 3, collection="dot", **knob)
