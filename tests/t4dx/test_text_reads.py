"""What searches by words, and by words and vectors, pass on and hand back; scores are tested beside these."""

from __future__ import annotations

import math
from typing import Any

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError, FusionError, ItemError, TextQueryError, VectorError
from t4dm.t4dx import T4DX, Analyzer, AsOf, Bm25, Filter, Item, Options
from t4dm.t4dx.hybrid import DEPTH

TEXT, VECTOR = {"vector": 0.0, "text": 1.0}, {"vector": 1.0, "text": 0.0}
READ = [1.0, 0.5]


def fresh(clock: object = None) -> T4DX:
    options = Options(durability="os", background=False)
    return T4DX.open("s", dim=2, options=options, clock=clock or Ticks(0.0), fs=SimulatedFileSystem())


def diary() -> T4DX:
    """Of two authors; "dog" is in most texts of one and in one of the other. The first is valid to 200."""
    now = [100.0]
    store = fresh(lambda: now[0])
    store.insert_many(
        [
            Item(id="a1", content="the dog ran", session="ann", vector=[1.0, 0.0], valid_until=200.0),
            Item(id="a2", content="a dog and the cat", session="ann", vector=[0.0, 1.0], metadata={"n": 2}),
            Item(id="a3", content="dog", session="ann", vector=[1.0, 1.0]),
            Item(id="b1", content="the cat the cat", session="ben", vector=[-1.0, 0.0]),
            Item(id="b2", content="running to a dog", session="ben", vector=[0.5, 1.0]),
        ]
    )
    now[0] = 300.0
    store.flush()
    store.insert(Item(id="b3", content="a bird", session="ben", vector=[0.2, 0.4]))
    return store


def pairs(hits: Any) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in hits]


def test_a_hit_brings_its_whole_item() -> None:
    store = diary()
    for hit in (store.search_text("cat and", 1)[0], store.search_hybrid(READ, "cat and", 1, weights=TEXT)[0]):
        assert (hit.id, hit.item.content, hit.item.session, hit.item.metadata["n"]) == (
            "a2",
            "a dog and the cat",
            "ann",
            2,
        )
        assert hit.item.vector.tolist() == [0.0, 1.0]


def test_a_number_is_a_time_on_both_axes() -> None:
    store = diary()
    for as_of in (150.0, 150, AsOf(record=150.0, valid=150.0)):
        assert set(store.search_text("the dog", 9, as_of=as_of).ids) == {"a1", "a2", "a3", "b1", "b2"}
        assert set(store.search_hybrid(READ, "the dog", 9, as_of=as_of).ids) == {"a1", "a2", "a3", "b1", "b2"}
    for as_of in (250.0, AsOf(valid=250.0)):
        assert "a1" not in store.search_text("the dog", 9, as_of=as_of).ids
        assert "a1" not in store.search_hybrid(READ, "the dog", 9, as_of=as_of).ids
    assert "b3" in store.search_hybrid(READ, "the dog", 9, as_of=300.0).ids
    assert "b3" not in store.search_hybrid(READ, "the dog", 9, as_of=AsOf(record=299.0)).ids
    plan = store.search_text("dog", 9, as_of=250.0, explain=True).plan
    assert plan[0] == {"search": "text", "documents": 4, "average": 14 / 4, "frequency": {"dog": 3}}


@pytest.mark.parametrize("when", [math.nan, "yesterday", True, 1_700_000_000_000.0])
def test_a_time_that_is_none_is_refused(when: Any) -> None:
    store = diary()
    with pytest.raises(ItemError):
        store.search_text("dog", 1, as_of=when)
    with pytest.raises(ItemError):
        store.search_hybrid(READ, "dog", 1, as_of=when)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"where": Filter(session="ann")},
        {"corpus": Filter(session="ben")},
        {"bm25": Bm25(k1=0.4, b=1.0)},
        {"bm25": Bm25(variant="plus", delta=2.0)},
        {"analyzer": Analyzer(stop=("the", "dog"))},
        {"as_of": 150.0},
        {"as_of": AsOf(valid=250.0), "corpus": Filter(session="ann")},
    ],
)
def test_the_words_of_a_hybrid_search_score_as_a_text_search_does(options: dict[str, Any]) -> None:
    """With all the weight on the text a score is that of the text search over its best one."""
    store, words = diary(), "the dog and the cat"
    alone = store.search_text(words, 9, **options)
    both = store.search_hybrid(READ, words, 9, weights=TEXT, **options)
    assert pairs(both)[: len(alone)] == [
        (name, pytest.approx(score / alone[0].score, abs=1e-12)) for name, score in pairs(alone)
    ]
    assert all(score == 0.0 for _, score in pairs(both)[len(alone) :])
    assert len(alone) >= 2


def test_each_option_of_the_words_changes_something() -> None:
    """Otherwise the facts above would hold of options that are dropped."""
    store, words = diary(), "the dog and the cat"
    plain = pairs(store.search_text(words, 9))
    for options in (
        {"corpus": Filter(session="ben")},
        {"bm25": Bm25(k1=0.4, b=1.0)},
        {"analyzer": Analyzer(stop=("the", "dog"))},
        {"as_of": 150.0},
        {"where": Filter(session="ann")},
    ):
        assert pairs(store.search_text(words, 9, **options)) != plain


@pytest.mark.parametrize("options", [{}, {"where": Filter(session="ben")}, {"as_of": 150.0}])
def test_the_vectors_of_a_hybrid_search_stand_as_in_a_vector_search(options: dict[str, Any]) -> None:
    store = diary()
    alone = store.search(READ, 9, **options)
    both = store.search_hybrid(READ, "unicorn", 9, weights=VECTOR, **options)
    assert both.ids == alone.ids
    low, high = alone[-1].score, alone[0].score
    assert [score for _, score in pairs(both)] == pytest.approx(
        [(score - low) / (high - low) for _, score in pairs(alone)], abs=1e-6
    )


def test_all_collections_are_read_by_words_and_one_by_words_and_vectors() -> None:
    store = diary()
    store.create_collection("notes", dim=1)
    store.insert(Item(id="note", content="a dog", vector=[1.0], collection="notes"))
    assert {"note", "a3"} <= set(store.search_text("dog", 9).ids)
    assert store.search_text("dog", 9, Filter(collection="notes")).ids == ["note"]
    assert store.search_hybrid([1.0], "dog", 9, collection="notes").ids == ["note"]
    assert "note" not in store.search_hybrid(READ, "dog", 9).ids
    assert (
        store.search_hybrid([1.0], "dog", 9, Filter(collection="notes"), collection="notes").ids
        == store.search_hybrid([1.0], "dog", 9, collection="notes").ids
    )


def many(n: int) -> T4DX:
    """The text of "000" is the shortest and its vector the farthest; the last one the other way round."""
    store = fresh()
    store.insert_many(
        [
            Item(
                id=f"{i:03d}",
                content="dog" + " cat" * i,
                vector=[math.cos(3 * (n - i) / n), math.sin(3 * (n - i) / n)],
            )
            for i in range(n)
        ]
    )
    return store


def named(store: T4DX, k: int, **options: Any) -> tuple[int, int, int]:
    """How many candidates both searches named, and how many hits came back."""
    hits = store.search_hybrid([1.0, 0.0], "dog", k, explain=True, **options)
    (line,) = [line for line in hits.plan if "fusion" in line]
    return line["vectors"], line["texts"], len(hits)


def test_each_search_names_200_candidates_or_four_times_the_hits() -> None:
    store = many(260)
    assert DEPTH == 200
    assert named(store, 1) == (200, 200, 1)
    assert named(store, 50) == (200, 200, 50)
    assert named(store, 60) == (240, 240, 60)
    assert named(store, 100) == (260, 260, 100)
    assert named(store, 300) == (260, 260, 260)
    assert named(store, 0) == (200, 200, 0)


def test_a_depth_is_the_number_of_candidates_and_never_less_than_the_hits() -> None:
    store = many(20)
    assert named(store, 3, depth=7) == (7, 7, 3)
    assert named(store, 3, depth=1) == (3, 3, 3)
    assert named(store, 20, depth=0) == (20, 20, 20)
    near, far = store.search_hybrid([1.0, 0.0], "dog", 2, depth=1, weights={"vector": 0.6, "text": 0.4}).ids
    assert (near, far) == ("019", "000")


def test_a_plan_is_kept_where_it_is_asked_for() -> None:
    store = diary()
    assert store.search_text("dog", 2).plan is None
    assert store.search_hybrid(READ, "dog", 2).plan is None
    told, plain = store.search_hybrid(READ, "dog", 2, explain=True), store.search_hybrid(READ, "dog", 2)
    assert pairs(told) == pairs(plain)
    searches = [line["search"] for line in told.plan if "search" in line]
    assert searches == sorted(searches, reverse=True)  # those for vectors, then those for texts
    assert set(searches) == {"vector", "text"}
    assert {"fusion": "weighted", "vectors": 6, "texts": 4}.items() <= told.plan[-3].items()
    assert [line["hit"] for line in told.plan[-2:]] == told.ids
    lines = store.search_text("dog", 2, explain=True).plan[-2:]
    assert [(line["hit"], line["score"], line["dog"]) for line in lines] == [
        (name, score, pytest.approx(score)) for name, score in pairs(store.search_text("dog", 2))
    ]


def test_a_snapshot_is_searched_as_it_was() -> None:
    store = diary()
    snapshot = store.snapshot()
    before = pairs(snapshot.search_hybrid(READ, "dog bird", 9))
    store.delete("b3")
    store.insert(Item(id="a1", content="a bird", vector=[1.0, 0.5]))
    assert pairs(snapshot.search_hybrid(READ, "dog bird", 9)) == before
    assert pairs(store.search_hybrid(READ, "dog bird", 9)) != before
    assert snapshot.search_text("bird", 9).ids == ["b3"]
    assert store.search_text("bird", 9).ids == ["a1"]


def test_what_cannot_be_asked_is_refused_before_anything_is_read() -> None:
    store = fresh()
    with pytest.raises(FusionError, match="no fusion 'sum'; write fusion='rrf' or fusion='weighted'"):
        store.search_hybrid(READ, "dog", 1, fusion="sum")
    with pytest.raises(FilterError, match=r"k is -2; ask for k=0 or more hits"):
        store.search_text("dog", -2)
    with pytest.raises(FilterError, match=r"k is -2; ask for k=0 or more hits"):
        store.search_hybrid(READ, "dog", -2)
    with pytest.raises(FilterError, match=r"depth is -1; ask for depth=0 or more hits"):
        store.search_hybrid(READ, "dog", 1, depth=-1)
    with pytest.raises(
        VectorError, match=r"not an array of shape \(2, 2\); call search_hybrid once for each"
    ):
        store.search_hybrid([READ, READ], "dog", 1)
    store.create_collection("notes", dim=2)
    with pytest.raises(FilterError, match=r"no item of 'default' pass; search with collection='notes'"):
        store.search_hybrid(READ, "dog", 1, Filter(collection="notes"))
    with pytest.raises(TextQueryError, match=r"a text search was given \['dog'\]; pass a string"):
        store.search_text(["dog"], 1)  # type: ignore[arg-type]
    assert pairs(store.search_hybrid(READ, "dog", 5)) == pairs(store.search_text("dog", 5)) == []


def test_of_several_collections_in_a_filter_a_hybrid_search_takes_its_own() -> None:
    store = fresh()
    store.create_collection("notes", dim=2)
    store.insert_many(
        [
            Item(id="mine", content="dog", vector=[1.0, 0.0]),
            Item(id="theirs", content="dog", vector=[1.0, 0.0], collection="notes"),
        ]
    )
    assert store.search_hybrid(READ, "dog", 5, Filter(collection=("default", "notes"))).ids == ["mine"]
    assert store.search_hybrid(READ, "dog", 5, Filter(collection="notes"), collection="notes").ids == [
        "theirs"
    ]
