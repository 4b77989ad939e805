"""Which rows of a view are scored, and which of them are the best: by hand, and against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, AsOf, Filter, Item, Options
from t4dm.t4dx.metrics import Query
from t4dm.t4dx.scoring import EVERY, Best, Part, column_of, part_of, score, score_few

METRICS = ("cosine", "dot", "l2")
Vectors = NDArray[np.float32]


def fresh(dim: int, *, metric: str = "cosine", clock: object = None) -> T4DX:
    """A store whose collection "c" shares its views with the collection "default" of another size."""
    options = Options(durability="os", background=False)
    store = T4DX.open("s", dim=2, options=options, clock=clock or Ticks(0.0), fs=SimulatedFileSystem())
    store.create_collection("c", dim=dim, metric=metric)
    return store


def filled(
    vectors: Vectors,
    names: list[str],
    *,
    metric: str = "cosine",
    flushed: int = 0,
    kappas: NDArray[np.float64] | None = None,
    mixed: bool = True,
) -> T4DX:
    """The first `flushed` vectors in a segment, the others in the memtable; kappa is the share of the rows
    before unless it is given. Between them lie items of "default", and some without a vector, if `mixed`.
    """
    store = fresh(vectors.shape[1], metric=metric)
    items, kappa = [], np.arange(len(names)) / len(names) if kappas is None else kappas
    for n, (name, vector) in enumerate(zip(names, vectors, strict=True)):
        items.append(Item(id=name, vector=vector, collection="c", kappa=float(kappa[n])))
        if mixed and n % 5 == 0:
            items.append(Item(id=f"{name} elsewhere", vector=[1.0, n]))
            items.append(Item(id=f"{name} bare", collection="c"))
        if n + 1 == flushed:
            store.insert_many(items)
            store.flush()
            items = []
    store.insert_many(items)
    return store


def parts(store: T4DX, where: Filter = EVERY, as_of: AsOf | None = None, name: str = "c") -> list[Part]:
    version = store._present()
    code = version.collections.code(name)
    return [
        part_of(view, number, code, where, as_of, version.collections)
        for number, view in enumerate(version.views)
    ]


def only(store: T4DX, where: Filter = EVERY, as_of: AsOf | None = None, name: str = "c") -> Part:
    (part,) = [part for part in parts(store, where, as_of, name) if len(part.rows)]
    return part


def ids(part: Part) -> list[str]:
    return [part.view.source.id_at(row) for row in part.rows.tolist()]


def naive(metric: str, query: Vectors, vectors: Vectors, names: list[str], k: int) -> list[tuple[str, float]]:
    """Every score in float64, one row after the other; best first, ties by name."""
    q, found = query.astype(np.float64), []
    for name, row in zip(names, vectors.astype(np.float64), strict=True):
        if metric == "dot":
            value = float(row @ q)
        elif metric == "l2":
            value = -float(np.sqrt(((row - q) ** 2).sum()))
        else:
            value = float(row @ q) / float(np.linalg.norm(row) * np.linalg.norm(q))
        found.append((name, float(np.float32(value))))
    return sorted(found, key=lambda one: (-one[1], one[0]))[:k]


def found(best: Best, place: int = 0) -> list[tuple[str, float]]:
    return [(name, -falling) for falling, name, _, _ in best.ranked[place]]


@pytest.fixture
def four() -> Part:
    """Four rows named d, c, b, a, in this order."""
    return only(filled(np.eye(4, dtype=np.float32), list("dcba")))


def scores(*values: float) -> Vectors:
    return np.array(values, np.float32)


def test_the_k_best_stand_in_order_and_ties_go_by_id(four: Part) -> None:
    best = Best(1, 3)
    best.add(0, four, scores(0.5, 0.25, 0.5, 0.75))
    assert found(best) == [("a", 0.75), ("b", 0.5), ("d", 0.5)]


def test_what_comes_later_enters_where_it_is_better_or_ties_by_an_earlier_id(four: Part) -> None:
    best = Best(1, 2)
    best.add(0, four.take(np.array([0, 2])), scores(0.5, 0.25))  # d, b
    best.add(0, four.take(np.array([1])), scores(0.125))  # c
    assert found(best) == [("d", 0.5), ("b", 0.25)]
    best.add(0, four.take(np.array([3])), scores(0.25))  # a ties with b
    assert found(best) == [("d", 0.5), ("a", 0.25)]
    best.add(0, four.take(np.array([1])), scores(0.25))  # c ties with a
    assert found(best) == [("d", 0.5), ("a", 0.25)]
    best.add(0, four.take(np.array([1])), scores(1.0))
    assert found(best) == [("c", 1.0), ("d", 0.5)]


def test_the_edge_is_the_last_of_the_k_best_once_there_are_k(four: Part) -> None:
    best = Best(2, 2)
    assert best.edge(0) == -np.inf
    best.add(0, four.take(np.array([0])), scores(-3.0))
    assert best.edge(0) == -np.inf
    best.add(0, four, scores(-3.0, -5.0, -4.0, -6.0))
    assert (best.edge(0), best.edge(1)) == (-3.0, -np.inf)


def test_each_query_has_its_own_best(four: Part) -> None:
    best = Best(2, 1)
    best.add(1, four, scores(0.1, 0.2, 0.3, 0.0))
    assert (found(best, 0), [name for name, _ in found(best, 1)]) == ([], ["b"])


def test_any_order_of_offers_gives_the_same_best(four: Part) -> None:
    """300 offers of scores that often tie, in lots of 1 to 40, against one sort of all."""
    rng = np.random.default_rng(4)
    names = [f"{n:03d}" for n in rng.permutation(300)]
    part = only(filled(np.ones((300, 2), np.float32), names))
    values = (rng.integers(0, 40, 300) / 64).astype(np.float32)
    wanted = sorted(zip((-values).tolist(), names, strict=True))
    for seed in range(5):
        order, best, start = np.random.default_rng(seed).permutation(300), Best(1, 25), 0
        while start < 300:
            lot = order[start : start + 1 + 13 * seed % 40]
            best.add(0, part.take(lot), values[lot])
            start += len(lot)
        assert [(falling, name) for falling, name, _, _ in best.ranked[0]] == wanted[:25]


def test_scores_are_worked_out_by_hand() -> None:
    vectors, names = np.array([[3, 4], [0, 0], [-3, -4], [6, 8]], np.float32), list("abcd")
    wanted = {
        "cosine": [("a", 1.0), ("d", 1.0), ("b", 0.0), ("c", -1.0)],
        "dot": [("d", 50.0), ("a", 25.0), ("b", 0.0), ("c", -25.0)],
        "l2": [("a", 0.0), ("b", -5.0), ("d", -5.0), ("c", -10.0)],
    }
    for metric in METRICS:
        part, best, few = only(filled(vectors, names, metric=metric)), Best(1, 4), Best(1, 4)
        query = Query(np.array([[3, 4]], np.float32), metric)
        score(part, query, [0], best)
        score_few(part, query, 0, few)
        assert found(best) == found(few) == wanted[metric]


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("n", "k", "passing", "dim"),
    [
        (1, 1, None, 12),
        (5, 10, None, 12),
        (128, 3, None, 12),
        (129, 3, None, 12),
        (400, 7, None, 12),
        (400, 7, (0.3, None), 12),  # most rows of a view
        (800, 7, (0.0, 0.35), 12),  # less than half of them, and more than are scored one by one
        (800, 90, (0.1, 0.5), 12),
        (400, 250, None, 12),
        (400, 500, None, 12),
        (110, 7, None, 1200),  # few rows of many numbers: a shortlist of them
        (110, 60, None, 1200),  # no shortlist pays
        (800, 7, (0.0, 0.4), 1200),  # gathered in pieces
    ],
)
def test_score_finds_what_a_plain_loop_finds(
    metric: str, n: int, k: int, passing: tuple[float | None, float | None] | None, dim: int, mixed: bool
) -> None:
    rng = np.random.default_rng(n + k)
    vectors = (rng.standard_normal((n, dim)) * rng.lognormal(size=(n, 1))).astype(np.float32)
    names = [f"{number:04d}" for number in rng.permutation(n)]
    kappas = rng.permutation(n) / n
    store = filled(vectors, names, metric=metric, flushed=n // 3, kappas=kappas, mixed=mixed)
    queries = rng.standard_normal((2, dim)).astype(np.float32)
    best, few, query = Best(2, k), Best(2, k), Query(queries, metric)
    for part in parts(store, EVERY if passing is None else Filter(kappa=passing)):
        score(part, query, [0, 1], best)
        for place in range(2 if len(part.rows) else 0):
            score_few(part, query, place, few)
    low, high = passing or (None, None)
    keep = (kappas >= (low or 0.0)) & (kappas <= (1.0 if high is None else high))
    kept = [name for name, kept in zip(names, keep, strict=True) if kept]
    for place in range(2):
        wanted = naive(metric, queries[place], vectors[keep], kept, k)
        assert [name for name, _ in found(best, place)] == [name for name, _ in wanted]
        assert [value for _, value in found(best, place)] == pytest.approx([s for _, s in wanted], rel=2e-7)
        assert best.ranked[place] == few.ranked[place]  # to the bit, and where each row lies
        for _, name, number, row in best.ranked[place]:
            assert store._present().views[number].source.id_at(row) == name


@pytest.mark.parametrize("flushed", [0, 150, 300])
def test_equal_vectors_tie_by_id_over_all_views(flushed: int) -> None:
    names = [f"{n:03d}" for n in np.random.default_rng(0).permutation(300)]
    store = filled(np.full((300, 6), 0.3, np.float32), names, metric="l2", flushed=flushed)
    query = Query(np.full((1, 6), 0.1, np.float32), "l2")
    best = Best(1, 7)
    for part in reversed(parts(store)):
        score(part, query, [0], best)
    assert [name for name, _ in found(best)] == sorted(names)[:7]


def test_only_what_was_asked_is_scored_each_as_alone() -> None:
    rng = np.random.default_rng(8)
    for n in (20, 300):  # row by row, and by a shortlist
        part = only(filled(rng.standard_normal((n, 8)).astype(np.float32), [f"{i:03d}" for i in range(n)]))
        queries = rng.standard_normal((3, 8)).astype(np.float32)
        best = Best(3, 5)
        score(part, Query(queries, "cosine"), [2, 0], best)
        for place in (0, 2):
            alone = Best(1, 5)
            score(part, Query(queries[place : place + 1], "cosine"), [0], alone)
            assert best.ranked[place] == alone.ranked[0]
        assert best.ranked[1] == []


def test_a_part_without_rows_adds_nothing() -> None:
    store = filled(np.eye(3, dtype=np.float32), list("abc"))
    part = parts(store, Filter(ids=("nobody",)))[0]
    best = Best(1, 3)
    score(part, Query(np.ones((1, 3), np.float32), "cosine"), [0], best)
    assert (len(part.rows), best.ranked[0]) == (0, [])


@pytest.mark.parametrize("flushed", [0, 12])
def test_a_part_holds_the_rows_with_a_vector_in_one_collection(flushed: int) -> None:
    vectors = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
    vectors[4] = 0.0
    names = list("abcdefghijkl")
    store = filled(vectors, names, flushed=flushed)
    part = only(store)
    assert ids(part) == names
    assert np.array_equal(part.vectors(), vectors)
    assert np.array_equal(part.block[part.places], vectors)
    lengths = np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=1))
    lengths[4] = np.inf  # without a length there is no direction: its cosine is 0
    assert part.inverse.tolist() == pytest.approx((1.0 / lengths).tolist(), rel=1e-12)
    other = only(store, name="default")
    assert ids(other) == ["a elsewhere", "f elsewhere", "k elsewhere"]
    assert other.vectors().tolist() == [[1.0, 0.0], [1.0, 5.0], [1.0, 10.0]]


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("flushed", [0, 12])
def test_a_filter_leaves_a_part_with_the_rows_that_pass(flushed: int, mixed: bool) -> None:
    vectors = np.arange(24, dtype=np.float32).reshape(12, 2)
    store = filled(vectors, list("abcdefghijkl"), flushed=flushed, mixed=mixed)
    part = only(store, Filter(kappa=(0.5, 0.75)))
    assert ids(part) == list("ghij")
    assert np.array_equal(part.vectors(), vectors[6:10])
    assert (part.whole, only(store).whole) == (False, True)
    assert ids(only(store, Filter(ids=("c", "nobody", "a elsewhere", "b bare", "f bare", "h")))) == ["c", "h"]
    some = part.take(np.array([3, 1]))
    assert (ids(some), some.whole) == (["j", "h"], False)
    assert np.array_equal(some.vectors(), vectors[[9, 7]])
    assert some.inverse.tolist() == part.inverse[[3, 1]].tolist()


def test_a_part_is_of_its_moment() -> None:
    now = [10.0]
    store = fresh(2, clock=lambda: now[0])
    store.insert_many([Item(id=name, vector=[1.0, 2.0], collection="c") for name in "ab"])
    now[0] = 20.0
    before = parts(store)
    store.close_item("a")
    store.insert(Item(id="c", vector=[3.0, 4.0], collection="c"))
    now[0] = 30.0
    store.insert(Item(id="b", vector=[5.0, 6.0], collection="c"))
    for step in (lambda: None, store.flush):
        step()
        assert ids(only(store)) == ["c", "b"]
        assert only(store).vectors().tolist() == [[3.0, 4.0], [5.0, 6.0]]
        assert ids(only(store, as_of=AsOf(record=15.0))) == ["a", "b"]
        assert only(store, as_of=AsOf(record=25.0)).vectors().tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert [len(part.rows) for part in parts(store, as_of=AsOf(record=5.0))].count(0) == len(parts(store))
    assert [ids(part) for part in before if len(part.rows)] == [["a", "b"]]


def test_a_time_after_all_began_and_before_any_ended_is_the_present() -> None:
    now = [10.0]
    store = fresh(1, clock=lambda: now[0])
    store.insert(Item(id="a", vector=[1.0], collection="c"))
    now[0] = 20.0
    store.insert(Item(id="b", vector=[1.0], collection="c", valid_from=5.0, valid_until=100.0))
    told = {
        at: (only(store, as_of=at).whole, ids(only(store, as_of=at)))
        for at in (
            AsOf(record=20.0),
            AsOf(record=19.0),
            AsOf(record=20.0, valid=99.0),
            AsOf(record=20.0, valid=100.0),
            AsOf(valid=7.0),
        )
    }
    assert list(told.values()) == [
        (True, ["a", "b"]),
        (False, ["a"]),
        (True, ["a", "b"]),
        (False, ["a"]),
        (False, ["b"]),
    ]
    now[0] = 30.0
    store.close_item("b")
    assert not only(store, as_of=AsOf(record=25.0)).whole
    assert ids(only(store, as_of=AsOf(record=25.0))) == ["a", "b"]


def test_what_is_kept_of_the_present_follows_every_write() -> None:
    store = filled(np.eye(4, dtype=np.float32), list("abcd"), flushed=4)
    assert ids(only(store)) == ids(only(store)) == list("abcd")
    store.update_fields("a", kappa=1.0)
    assert ids(only(store)) == list("abcd")
    store.delete("b")
    assert ids(only(store)) == list("acd")
    store.close_item("d")
    assert ids(only(store)) == list("ac")
    store.insert(Item(id="e", vector=[1.0, 1.0, 1.0, 1.0], collection="c"))
    assert sorted(ids(part) for part in parts(store)) == [["a", "c"], ["e"]]


@pytest.mark.parametrize("flushed", [0, 6])
def test_a_column_knows_the_row_of_each_vector_ended_ones_too(flushed: int) -> None:
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    store = filled(vectors, list("abcdef"), flushed=flushed)
    store.close_item("b")
    part = only(store)
    assert ids(part) == list("acdef")
    column = column_of(part.view, part.code)
    assert column.size == len(column.rows) == 6
    assert [part.view.source.id_at(row) for row in column.rows.tolist()] == list("abcdef")
    assert np.array_equal(part.block[:6], vectors)
    assert column.rows[part.places].tolist() == part.rows.tolist()
    other = column_of(part.view, 0)
    assert [part.view.source.id_at(row) for row in other.rows.tolist()] == ["a elsewhere", "f elsewhere"]


def test_a_column_grows_with_the_memtable_and_not_for_a_reader_of_before() -> None:
    store = filled(np.eye(3, dtype=np.float32), list("abc"))
    before = only(store)
    assert column_of(before.view, before.code).size == 3
    store.insert(Item(id="d", vector=[1.0, 1.0, 1.0], collection="c"))
    after = only(store)
    assert column_of(after.view, after.code).size == 4
    assert column_of(before.view, before.code).size == 3
    store.create_collection("empty", dim=1)
    code = store._present().collections.code("empty")
    assert column_of(after.view, code).size == len(column_of(after.view, code).rows) == 0
