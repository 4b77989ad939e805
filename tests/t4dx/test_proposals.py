"""What codes and graphs propose is scored exactly: nothing better is left out, nothing else gets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Filter, Item, Options
from t4dm.t4dx.ann import Exact
from t4dm.t4dx.codes import FEWEST, CodedColumn
from t4dm.t4dx.metrics import Query
from t4dm.t4dx.proposals import FEW, Walked, by_codes, by_graph, loose_part, reach_of
from t4dm.t4dx.scoring import EVERY, Best, Part, column_of, part_of, score

METRICS = ("cosine", "dot", "l2")
DIM, ROWS = 48, 1300
SURE = 6.0  # standard deviations: a miss once in a thousand million rows
Vectors = NDArray[np.float32]
assert ROWS > FEWEST


def store_of(vectors: Vectors, metric: str) -> T4DX:
    """A memtable with the collection "c"; kappa is the share of the rows before. Where distances count, an
    item of another collection comes first, so that no row is where its vector is.
    """
    options = Options(durability="os", background=False)
    store = T4DX.open("s", dim=2, options=options, clock=Ticks(0.0), fs=SimulatedFileSystem())
    store.create_collection("c", dim=vectors.shape[1], metric=metric)
    if metric == "l2":
        store.insert(Item(id="before", vector=[1.0, 2.0]))
    count = len(vectors)
    store.insert_many(
        [Item(id=f"{n:04d}", vector=v, collection="c", kappa=n / count) for n, v in enumerate(vectors)]
    )
    return store


@pytest.fixture(scope="module")
def stores() -> dict[str, T4DX]:
    """40 clusters whose rows lie far apart in the column, lengths over a decade."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, DIM))[np.arange(ROWS) % 40] + 0.35 * rng.standard_normal((ROWS, DIM))
    vectors = (rows * rng.lognormal(sigma=0.5, size=(ROWS, 1))).astype(np.float32)
    return {metric: store_of(vectors, metric) for metric in METRICS}


def part_in(store: T4DX, where: Filter = EVERY) -> Part:
    version = store._present()
    code = version.collections.code("c")
    made = [part_of(view, n, code, where, None, version.collections) for n, view in enumerate(version.views)]
    (part,) = [part for part in made if len(part.rows)]
    return part


def queries_near(store: T4DX, metric: str, count: int = 3) -> Query:
    """A little beside some stored vectors."""
    block = part_in(store).vectors()[7 : 7 + count]
    noise = np.random.default_rng(5).standard_normal(block.shape).astype(np.float32)
    return Query(block + 0.05 * noise, metric)


def exact(part: Part, query: Query, asked: list[int], k: int) -> Best:
    best = Best(len(query.raw), k)
    score(part, query, asked, best)
    return best


def odd(store: T4DX) -> Filter:
    """Every second row: nothing of it lies beside another."""
    return Filter(ids=tuple(f"{n:04d}" for n in range(1, ROWS, 2)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("narrow", ["all", "odd", "range"])
@pytest.mark.parametrize("k", [1, 10])
def test_codes_leave_out_only_what_is_worse(
    stores: dict[str, T4DX], metric: str, narrow: str, k: int
) -> None:
    store = stores[metric]
    where = {"all": EVERY, "odd": odd(store), "range": Filter(kappa=(0.5, None))}[narrow]
    part, query, best = part_in(store, where), queries_near(store, metric), Best(3, k)
    scored = by_codes(part, CodedColumn(DIM), query, [0, 1, 2], best, sureness=SURE)
    assert best.ranked == exact(part, query, [0, 1, 2], k).ranked
    assert 3 * k <= scored <= 3 * len(part.rows)
    if metric == "cosine":  # lengths do not blur what codes know
        assert scored < len(part.rows)


def test_only_queries_that_were_asked_are_searched_by_codes(stores: dict[str, T4DX]) -> None:
    part, query, best = part_in(stores["dot"]), queries_near(stores["dot"], "dot"), Best(3, 5)
    by_codes(part, CodedColumn(DIM), query, [2, 0], best, sureness=SURE)
    assert best.ranked == exact(part, query, [0, 2], 5).ranked
    assert best.ranked[1] == []


def test_what_cannot_reach_the_edge_is_not_scored(stores: dict[str, T4DX]) -> None:
    """The best of another part stand already: a row opposite to the query has no chance beside them."""
    part, query = part_in(stores["cosine"]), queries_near(stores["cosine"], "cosine", 1)
    twins = part_in(store_of(np.repeat(query.raw, 40, axis=0), "cosine"))
    best, coded = Best(1, 30), CodedColumn(DIM)
    score(twins, query, [0], best)
    before = list(best.ranked[0])
    assert best.edge(0) == pytest.approx(1.0)
    assert by_codes(part, coded, query, [0], best, sureness=1.0) < 10
    assert best.ranked[0] == before
    fresh = Best(1, 30)
    assert by_codes(part, coded, query, [0], fresh, sureness=1.0) >= 30


def test_more_sureness_scores_more_rows(stores: dict[str, T4DX]) -> None:
    part, query, coded = part_in(stores["cosine"]), queries_near(stores["cosine"], "cosine"), CodedColumn(DIM)
    told = [
        by_codes(part, coded, query, [0, 1, 2], Best(3, 10), sureness=sure) for sure in (0.0, 1.0, 3.0, 9.0)
    ]
    assert told == sorted(told)
    assert told[0] < told[-1]


def test_of_few_rows_every_one_is_scored(stores: dict[str, T4DX]) -> None:
    names = ("0003", "0700", "1299")
    part, query = part_in(stores["l2"], Filter(ids=names)), queries_near(stores["l2"], "l2")
    best = Best(3, 2)
    assert by_codes(part, CodedColumn(DIM), query, [1], best, sureness=0.0) == 3
    assert best.ranked == exact(part, query, [1], 2).ranked


def test_equal_rows_tie_by_id_behind_codes() -> None:
    store = store_of(np.ones((ROWS, DIM), np.float32), "cosine")
    query, best = Query(np.ones((1, DIM), np.float32), "cosine"), Best(1, 4)
    by_codes(part_in(store), CodedColumn(DIM), query, [0], best, sureness=1.0)
    assert [name for _, name, _, _ in best.ranked[0]] == ["0000", "0001", "0002", "0003"]


class Told:
    """A graph that reaches all of its places and answers what it is told to, whatever may pass."""

    def __init__(self, answers: list[list[int]], rows: int, unreached: Any = ()) -> None:
        self.answers, self.rows, self.width, self.ladder = answers, rows, 1 << 20, None
        self.unreached = np.array(unreached, np.int64)
        self.seen: dict[str, Any] = {}

    def search(self, queries: Vectors, k: int, *, ef: int, allowed: Any = None) -> Any:
        self.seen = {"queries": queries, "k": k, "ef": ef, "allowed": allowed}
        places = np.full((len(queries), max(map(len, self.answers))), -1, np.int64)
        for row, answer in zip(places, self.answers, strict=True):
            row[: len(answer)] = answer
        return np.zeros(places.shape, np.float32), places


def walked(part: Part, graph: Any, query: Query, asked: list[int], best: Best, *, ef: int = 64) -> Walked:
    column = column_of(part.view, part.code)
    return by_graph(part, column, graph, reach_of(part, column, graph), query, asked, best, ef=ef)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("narrow", ["all", "odd", "range"])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_what_an_exact_graph_proposes_are_the_best(
    stores: dict[str, T4DX], metric: str, narrow: str, k: int
) -> None:
    store = stores[metric]
    where = {"all": EVERY, "odd": odd(store), "range": Filter(kappa=(0.5, None))}[narrow]
    part, query, best = part_in(store, where), queries_near(store, metric), Best(3, k)
    told = walked(part, Exact(part.block[:ROWS], metric), query, [2, 0], best)
    assert best.ranked == exact(part, query, [0, 2], k).ranked
    assert (told.short, told.scored) == ([], 2 * max(32, 2 * k))


def test_a_graph_is_asked_for_twice_the_hits_among_what_may_pass(stores: dict[str, T4DX]) -> None:
    store = stores["l2"]
    query, part = queries_near(store, "l2"), part_in(store, Filter(kappa=(None, 0.1)))
    graph = Told([list(range(100))], ROWS)
    for k, ef, wanted in ((3, 200, (32, 200)), (3, 7, (32, 32)), (40, 64, (80, 80))):
        walked(part, graph, query, [1], Best(3, k), ef=ef)
        assert (graph.seen["k"], graph.seen["ef"]) == wanted
        assert np.array_equal(graph.seen["queries"], query.raw[1:2])
        passed = np.unpackbits(graph.seen["allowed"], bitorder="little", count=ROWS)
        assert np.flatnonzero(passed).tolist() == list(range(131))  # 130 / 1300 is 0.1
    walked(part_in(store), graph, query, [1], Best(3, 3))
    assert graph.seen["allowed"] is None  # nothing is left out


def test_what_may_not_pass_is_dropped_and_what_is_told_twice_counts_once(stores: dict[str, T4DX]) -> None:
    part = part_in(stores["dot"], Filter(kappa=(None, 0.1)))  # places 0 to 130
    query, best = queries_near(stores["dot"], "dot", 1), Best(1, 16)
    told = walked(part, Told([[*range(40), *range(40), 500, 1299]], ROWS), query, [0], best)
    assert told == Walked(40, [])
    first = part_in(stores["dot"], Filter(ids=tuple(f"{n:04d}" for n in range(40))))
    assert best.ranked == exact(first, query, [0], 16).ranked


@pytest.mark.parametrize(
    "answer",
    [
        lambda: [],
        lambda: [-1] * 40,
        lambda: [3] * 40,
        lambda: list(range(31)),
        lambda: list(range(131, 300)),  # none of these may pass
        lambda: [ROWS, ROWS + 1, 2**40, -7, *range(20)],
    ],
    ids=["nothing", "padding", "one again and again", "one too few", "others", "nonsense"],
)
def test_a_query_that_got_too_little_is_named_and_nothing_scored_for_it(
    stores: dict[str, T4DX], answer: Callable[[], list[int]]
) -> None:
    part = part_in(stores["cosine"], Filter(kappa=(None, 0.1)))
    query, best = queries_near(stores["cosine"], "cosine"), Best(3, 16)
    told = walked(part, Told([answer(), list(range(32))], ROWS), query, [2, 0], best)
    assert told == Walked(32, [2])
    assert best.ranked[1] == best.ranked[2] == []
    assert len(best.ranked[0]) == 16


def test_a_part_of_less_than_that_is_enough_when_all_of_it_is_found(stores: dict[str, T4DX]) -> None:
    names = ("0003", "0700", "1299")
    part, query, best = (
        part_in(stores["l2"], Filter(ids=names)),
        queries_near(stores["l2"], "l2", 1),
        Best(1, 16),
    )
    assert walked(part, Told([[3, 700]], ROWS), query, [0], best) == Walked(0, [0])
    assert walked(part, Told([[1299, 3, 700]], ROWS), query, [0], best) == Walked(3, [])
    assert best.ranked == exact(part, query, [0], 16).ranked


def test_a_few_rows_that_a_graph_does_not_reach_are_scored_with_its_own(stores: dict[str, T4DX]) -> None:
    """It holds 1290 of 1300 rows and reaches 5 of these not."""
    part, query, best = part_in(stores["dot"]), queries_near(stores["dot"], "dot", 1), Best(1, 100)
    lonely, behind = [2, 4, 8, 16, 32], list(range(1290, ROWS))
    graph = Told([[*range(100, 300), 2, 4]], 1290, lonely)  # two of these it brings back all the same
    assert walked(part, graph, query, [0], best) == Walked(215, [])
    names = tuple(f"{n:04d}" for n in (*lonely, *range(100, 300), *behind))
    assert best.ranked == exact(part_in(stores["dot"], Filter(ids=names)), query, [0], 100).ranked
    assert graph.seen["allowed"] is None


def test_many_rows_that_a_graph_does_not_reach_are_left_to_the_caller(stores: dict[str, T4DX]) -> None:
    part, query, best = (
        part_in(stores["l2"], odd(stores["l2"])),
        queries_near(stores["l2"], "l2", 1),
        Best(1, 9),
    )
    graph = Told([list(range(1, 81, 2))], ROWS - 2 * (FEW + 1))
    column = column_of(part.view, part.code)
    reach = reach_of(part, column, graph)
    assert walked(part, graph, query, [0], best) == Walked(40, [])
    assert all(int(name) < 81 for _, name, _, _ in best.ranked[0])
    loose = loose_part(part, column, reach)
    assert [loose.view.source.id_at(row) for row in loose.rows.tolist()] == [
        f"{n:04d}" for n in range(ROWS - 2 * (FEW + 1) + 1, ROWS, 2)
    ]
    assert np.array_equal(loose.vectors(), part.vectors()[-(FEW + 1) :])


def test_a_graph_knows_rows_that_ended_and_they_are_not_returned() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((60, 6)).astype(np.float32)
    store = store_of(vectors, "l2")
    store.close_item("0007")
    store.delete("0009")
    part, query, best = part_in(store), Query(vectors[[7, 9]], "l2"), Best(2, 5)
    graph = Exact(vectors, "l2")
    told = walked(part, graph, query, [0, 1], best)
    assert told.short == []
    assert best.ranked == exact(part, query, [0, 1], 5).ranked
    assert not {"0007", "0009"} & {name for ranked in best.ranked for _, name, _, _ in ranked}
    store.insert(Item(id="0007", vector=vectors[7], collection="c"))  # at a new place, which it does not hold
    part, best = part_in(store), Best(2, 5)
    assert walked(part, graph, query, [0, 1], best).short == []
    assert best.ranked == exact(part, query, [0, 1], 5).ranked
    assert best.ranked[0][0][:2] == (0.0, "0007")
