"""Search, filters, time travel, walks, scans: small stores with answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError
from t4dm.t4dx import BOTH, IN, T4DX, AsOf, Edge, EdgeFilter, Filter, Item, Options


def fresh(dim: int = 2, clock: object = None, **options: object) -> T4DX:
    chosen = Options(durability="os", **options)
    return T4DX.open("store", dim=dim, options=chosen, clock=clock or Ticks(0.0), fs=SimulatedFileSystem())


def test_search_ranks_by_cosine_whatever_the_length() -> None:
    store = fresh()
    for name, vector in {"right": (9, 0), "diagonal": (0.1, 0.1), "up": (0, 3), "left": (-1, 0)}.items():
        store.insert(Item(id=name, vector=np.array(vector, np.float32)))
    hits = store.search([2.0, 0.0], 3)
    assert hits.ids == ["right", "diagonal", "up"]
    assert [hit.score for hit in hits] == [1.0, pytest.approx(0.5**0.5, abs=1e-7), 0.0]
    assert hits[1].item.vector.tolist() == pytest.approx([0.1, 0.1])
    assert store.search(np.zeros(2), 2).ids == ["diagonal", "left"]  # no direction: all tie at 0


@pytest.mark.parametrize("flushed", [False, True])
def test_equal_vectors_tie_by_id_on_every_path(flushed: bool) -> None:
    rng, store = np.random.default_rng(0), fresh(dim=33)
    base = rng.standard_normal(33).astype(np.float32)
    rows = [base * length for length in (0.3, 0.7, 1.0, 1.1, 1.3, 7.0, 90.0)] * 100 + list(
        rng.standard_normal((700, 33))
    )
    names = [f"{n:04d}" for n in rng.permutation(1400)]
    store.insert_many([Item(id=i, vector=np.array(v, np.float32)) for i, v in zip(names, rows, strict=True)])
    if flushed:
        store.flush()
    same = sorted(names[:700])
    assert store.search(base, 50).ids == same[:50]  # the long way: a shortlist of 700
    assert store.search(base, 5, Filter(ids=tuple(same[10:40]))).ids == same[10:15]  # the short way
    assert store.search(np.stack([base, -base]), 3)[0].ids == same[:3]


def test_a_matrix_search_equals_single_searches_with_one_filter_each() -> None:
    rng, store = np.random.default_rng(1), fresh(dim=16)
    vectors = rng.standard_normal((900, 16)).astype(np.float32)
    store.insert_many([Item(id=f"{n}", vector=v, session=f"s{n % 3}") for n, v in enumerate(vectors[:500])])
    store.flush()
    store.insert_many(
        [Item(id=f"{n}", vector=v, session=f"s{n % 3}") for n, v in enumerate(vectors[500:], 500)]
    )
    queries = rng.standard_normal((6, 16)).astype(np.float32)
    wheres = [Filter(session=f"s{n % 3}") for n in range(6)]
    exact = queries @ vectors.T / np.linalg.norm(vectors, axis=1)
    for hits, scores, where, query in zip(
        store.search(queries, 7, wheres), exact, wheres, queries, strict=True
    ):
        own = [n for n in np.argsort(-scores) if f"s{n % 3}" == where.session]
        assert hits.ids == [str(n) for n in own[:7]] == store.search(query, 7, where).ids
        assert all(hit.item.session == where.session for hit in hits)


def test_search_gives_the_smaller_of_k_and_matches_and_explains_itself() -> None:
    store = fresh()
    store.insert_many(
        [Item(id=f"{n}", vector=np.ones(2), kappa=n / 10) for n in range(10)] + [Item(id="node")]
    )
    assert len(store.search(np.ones(2), 100)) == 10
    assert store.search(np.ones(2), 100, Filter(kappa=(0.75, None))).ids == ["8", "9"]
    assert len(store.search(np.ones(2), 0)) == 0
    assert len(store.search(np.ones(2), 5, Filter(session="nobody"))) == 0
    hits = store.search(np.ones(2), 5, Filter(kappa=(0.75, 1)), explain=True)
    line = dict(hits.plan[0])
    assert line.pop("seconds") > 0
    assert line == {"view": 0, "rows": 11, "matches": 2, "pruned": "", "path": "exact", "reason": "small"}
    assert store.search(np.ones(2), 5, Filter(kappa=(0.95, 1)), explain=True).plan[0]["pruned"] == "kappa"
    assert store.search(np.ones(2), 5).plan is None


def test_nearest_finds_what_search_finds_and_loads_nothing() -> None:
    store = fresh()
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]])
    store.insert_many([Item(id=f"{n}", vector=vector, kappa=n / 10) for n, vector in enumerate(vectors)])
    found = store.nearest([1.0, 0.0], 3)
    assert [item_id for item_id, _ in found] == ["0", "3", "2"]
    assert [score for _, score in found] == pytest.approx([1.0, 1.0, 0.6])
    both = store.nearest(vectors[:2], 1, [Filter(kappa=(0.1, None)), Filter(kappa=(None, 0.0))])
    assert both == [[("3", 1.0)], [("0", 0.0)]]
    for where in (Filter(), Filter(kappa=(0.15, None)), Filter(ids=("0", "2"))):
        hits = store.search([0.3, 0.4], 4, where)
        assert store.nearest([0.3, 0.4], 4, where) == [(hit.id, hit.score) for hit in hits]
    assert store.nearest([1.0, 0.0], 0) == store.nearest([1.0, 0.0], 5, Filter(session="nobody")) == []
    with pytest.raises(FilterError, match="ask for k=0 or more hits"):
        store.nearest([1.0, 0.0], -1)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(kappa=(0.2, 0.4)), "bcd"),  # both ends included
        (Filter(event_time=(1, 3)), "bc"),  # half open
        (Filter(event_time=(3, None)), "de"),
        (Filter(type=("semantic", "procedural")), "ae"),
        (Filter(session=("x", "y")), "abc"),
        (Filter(session=()), ""),
        (Filter(session="x", kappa=(0.15, 1)), "b"),
        (Filter(ids=("c", "a", "zz")), "ac"),
        (Filter(ids=("c", "a"), session="y"), "c"),
        (Filter(importance=(0.5, 0.5), record_time=(1.0, 2.0)), "abcde"),
        (Filter(record_time=(0.0, 1.0)), ""),
        (Filter(valid_at=2.0), "abc"),
    ],
)
def test_filters(where: Filter, expected: str) -> None:
    store = fresh()
    kinds = ["semantic", "episodic", "episodic", "episodic", "procedural"]
    store.insert_many(
        Item(
            id=name,
            kappa=(1 + n) / 10 if n < 4 else 0.9,
            event_time=float(n),
            type=kinds[n],
            session="xxyzz"[n],
            valid_until=2.0 + n if n > 2 else 100.0,
        )
        for n, name in enumerate("abcde")
    )
    for _ in range(2):
        found = [item.id for item in store.scan(where)]
        assert "".join(found) == expected
        assert store.count(where) == len(expected)
        store.flush()


def test_a_filter_sees_the_overlay_and_not_the_flushed_value() -> None:
    store = fresh()
    store.insert_many(
        [Item(id="a", kappa=0.1, vector=np.ones(2)), Item(id="b", kappa=0.9, vector=np.ones(2))]
    )
    store.flush()
    store.update_fields("a", kappa=0.8)
    store.update_fields("b", kappa=0.2)
    for _ in range(2):
        assert store.search(np.ones(2), 9, Filter(kappa=(0.5, 1))).ids == ["a"]
        store.flush()


def test_scan_sorts_and_limits() -> None:
    store = fresh()
    for name, kappa in (("c", 0.1), ("a", 0.3), ("b", 0.1)):
        store.insert(Item(id=name, kappa=kappa))
    store.flush()
    store.insert(Item(id="d", kappa=0.2))

    def ids(**kwargs: object) -> str:
        return "".join(item.id for item in store.scan(**kwargs))

    assert ids() == "abcd"
    assert ids(order="-id", limit=2) == "dc"
    assert ids(order="kappa") == "bcda"
    assert ids(order="-record_time", limit=3) == "dba"
    assert ids(limit=0) == ""
    assert sorted(store.column("kappa").tolist()) == [0.1, 0.1, 0.2, 0.3]


def test_as_of_on_both_axes() -> None:
    times = iter([10.0, 20.0, 30.0])
    store = fresh(clock=lambda: next(times))
    store.insert(Item(id="city", content="Bonn", valid_from=0.0, vector=np.ones(2)))
    store.insert(Item(id="city", content="Berlin", valid_from=5.0, valid_until=25.0, vector=np.ones(2)))
    store.flush()

    def content(when: object) -> str | None:
        item = store.get("city", as_of=when)
        return None if item is None else item.content

    assert store.get("city").content == "Berlin"
    assert content(AsOf(record=9.9)) is None
    assert content(AsOf(record=10.0)) == "Bonn"  # half open: the start belongs to it
    assert content(AsOf(record=19.9)) == "Bonn"
    assert content(AsOf(record=20.0)) == "Berlin"
    assert content(AsOf(record=50.0, valid=4.9)) is None
    assert content(AsOf(valid=24.9)) == "Berlin"
    assert content(25.0) is None
    assert content(15.0) == "Bonn"
    assert [hit.item.content for hit in store.search(np.ones(2), 5, as_of=15.0)] == ["Bonn"]
    assert [hit.item.content for hit in store.search(np.ones(2), 5)] == ["Berlin"]
    assert store.get("city", as_of=15.0).record_until == 20.0


def test_as_of_survives_compaction_and_delete_forgets_all_of_it() -> None:
    store = fresh()
    store.insert(Item(id="a", content="old"))
    store.insert(Item(id="a", content="new"))
    store.compact()
    assert store.get("a", as_of=1.5).content == "old"
    store.delete("a")
    assert store.get("a", as_of=1.5) is None
    store.compact()
    assert store.stats()["item_rows"] == 0
    store.insert(Item(id="a", content="again"))
    assert store.get("a").content == "again"
    assert store.get("a", as_of=1.5) is None


def test_closing_keeps_the_past() -> None:
    store = fresh()
    store.insert(Item(id="a", content="known"))
    store.close_item("a")
    assert store.get("a") is None
    assert store.get("a", as_of=AsOf(record=1.5)).content == "known"


def test_a_clock_that_runs_backwards_never_shows_two_versions() -> None:
    times = iter([50.0, 40.0, 45.0])
    store = fresh(clock=lambda: next(times))
    for content in ("first", "second", "third"):
        store.insert(Item(id="a", content=content, valid_from=0.0))
    for when in (39.0, 41.0, 46.0, 50.0, 60.0):
        assert len(list(store.scan(as_of=when))) <= 1
    assert store.get("a", as_of=60.0).content == "third"


def graph() -> T4DX:
    store = fresh()
    edges = [
        Edge("a", "b", "CAUSES", 0.5),
        Edge("a", "c", "RELATES_TO", 0.9),
        Edge("b", "d", "CAUSES", 0.5),
        Edge("c", "d", "CAUSES", 0.2),
        Edge("d", "a", "CAUSES", 0.1),
        Edge("d", "ghost", "PART_OF", 1.0),
    ]
    store.insert_many([Item(id=name) for name in "abcd"], edges[:3])
    store.flush()
    store.insert_many([], edges[3:])
    return store


def test_traverse_walks_breadth_first_and_heaviest_first() -> None:
    store = graph()
    assert [path.nodes for path in store.traverse("a")] == [("a", "c"), ("a", "b")]
    paths = store.traverse("a", depth=3)
    assert [path.nodes for path in paths] == [
        ("a", "c"),
        ("a", "b"),
        ("a", "c", "d"),
        ("a", "c", "d", "ghost"),
    ]
    assert paths[2].weight == pytest.approx(0.18)
    assert paths[2].depth == 2
    assert [edge.type for edge in paths[2].edges] == ["RELATES_TO", "CAUSES"]
    assert paths[3].item is None  # a dangling edge says so
    assert paths[2].item.id == "d"


def test_traverse_by_type_and_direction() -> None:
    store = graph()
    assert [path.nodes for path in store.traverse(["a"], edge_type="CAUSES", depth=2)] == [
        ("a", "b"),
        ("a", "b", "d"),
    ]
    assert [path.nodes for path in store.traverse("d", direction=IN)] == [("d", "b"), ("d", "c")]
    assert [path.nodes[-1] for path in store.traverse("b", direction=BOTH)] == ["a", "d"]
    assert store.traverse("ghost") == []
    assert store.traverse("unknown") == []


def test_traverse_as_of_sees_the_edges_of_that_time() -> None:
    store = fresh()
    store.insert_many([Item(id="a"), Item(id="b")], [Edge("a", "b", "CAUSES", 0.3)])  # at 1
    store.insert_many([], [Edge("a", "b", "CAUSES", 0.7)])  # at 2
    store.flush()
    assert [path.weight for path in store.traverse("a")] == [0.7]
    assert [path.weight for path in store.traverse("a", as_of=1.5)] == [0.3]
    assert store.traverse("a", as_of=0.5) == []


def test_edges_by_end_type_and_weight() -> None:
    store = graph()
    assert {(e.source, e.target) for e in store.edges(edge_type="CAUSES")} == {
        ("a", "b"),
        ("b", "d"),
        ("c", "d"),
        ("d", "a"),
    }
    assert [e.source for e in store.edges(target="b")] == ["a"]
    assert {e.target for e in store.edges(source=("a", "d"))} == {"a", "b", "c", "ghost"}
    assert {e.target for e in store.edges(where=EdgeFilter(weight=(0.9, None)))} == {"c", "ghost"}
    assert list(store.edges(source="zz")) == []


def test_deleting_an_item_takes_its_edges_and_a_new_one_does_not_bring_them_back() -> None:
    store = graph()
    store.delete("d")
    assert {(e.source, e.target) for e in store.edges()} == {("a", "b"), ("a", "c")}
    store.insert(Item(id="d"))
    store.compact()
    assert store.traverse("d", direction=BOTH) == []


def test_a_snapshot_stays_as_it_was() -> None:
    store = fresh()
    store.insert(
        Item(id="a", kappa=0.1, vector=np.ones(2), metadata={"n": 1}), [Edge("a", "b", "CAUSES", 0.5)]
    )
    before = store.snapshot()
    store.merge_kappa(["a"], 0.5)
    store.update_fields("a", metadata={"n": 2})
    store.update_edge_weight("a", "b", 0.2, edge_type="CAUSES")
    store.insert(Item(id="c", vector=np.ones(2)))
    store.flush()
    store.delete("a")
    store.compact()
    assert before.get("a").kappa == 0.1
    assert before.get("a").metadata == {"n": 1}
    assert [edge.weight for edge in before.edges()] == [0.5]
    assert before.search(np.ones(2), 5).ids == ["a"]
    assert before.lsn == 2
    assert store.search(np.ones(2), 5).ids == ["c"]


def test_each_of_several_snapshots_keeps_its_own_moment() -> None:
    store = fresh()
    store.insert(Item(id="a"), [Edge("a", "b", "CAUSES", 0.0)])
    kept = []
    for step in range(1, 5):
        store.update_fields("a", kappa=step / 4, metadata={"step": step})
        store.update_edge_weight("a", "b", 0.25, edge_type="CAUSES")
        kept.append(store.snapshot())
        if step == 2:
            store.flush()
    assert [seen.get("a").kappa for seen in kept] == [0.25, 0.5, 0.75, 1.0]
    assert [seen.get("a").metadata["step"] for seen in kept] == [1, 2, 3, 4]
    assert [next(seen.edges()).weight for seen in kept] == [0.25, 0.5, 0.75, 1.0]
