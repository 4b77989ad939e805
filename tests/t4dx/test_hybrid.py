"""Vector and text together, and scores that flow: every figure worked out by hand."""

from __future__ import annotations

import math

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import FilterError, FusionError, TextQueryError, UnknownCollectionError, VectorError
from t4dm.t4dx import IN, OUT, T4DX, Edge, Filter, Item, Options, Spread
from t4dm.t4dx.fusion import Both, Lists, flow, rank_scores, scaled_scores, total

HALF = {"vector": 0.5, "text": 0.5}


def fresh(clock: object = None) -> T4DX:
    options = Options(durability="os", background=False)
    return T4DX.open("s", dim=2, options=options, clock=clock or Ticks(0.0), fs=SimulatedFileSystem())


def three() -> T4DX:
    """Cosines with (1, 0): near 1, side 0, back -1. The word "dog" stands in side and back alike."""
    store = fresh()
    store.insert(Item(id="near", content="a cat", vector=[2.0, 0.0]))
    store.insert(Item(id="side", content="a dog", vector=[0.0, 1.0]))
    store.insert(Item(id="back", content="a dog", vector=[-1.0, 0.0]))
    return store


def scores(store: T4DX, text: str = "dog", **options: object) -> dict[str, float]:
    return {hit.id: hit.score for hit in store.search_hybrid([1.0, 0.0], text, 9, **options)}


def test_ranks_are_fused_by_hand() -> None:
    lists = Lists({"a": 0.9, "b": 0.5}, {"b": 3.0, "c": 3.0, "d": 1.0})
    exact = {
        "a": Both(0.9, 0.0),
        "b": Both(0.5, 3.0),
        "c": Both(0.1, 3.0),  # its vector lies behind the last of the list
        "d": Both(None, 1.0),
        "e": Both(0.7, 2.0),  # in neither list: second behind a, third behind b and c
    }
    made = rank_scores(lists, exact, {"vector": 1.0, "text": 2.0})
    assert {name: total(parts) for name, parts in made.items()} == pytest.approx(
        {"a": 1 / 61, "b": 1 / 62 + 2 / 61, "c": 2 / 62, "d": 2 / 63, "e": 1 / 62 + 2 / 63}
    )


def test_scores_are_scaled_by_hand() -> None:
    lists = Lists({"a": 0.9, "b": 0.5}, {"b": 4.0, "d": 1.0})
    exact = {
        "a": Both(0.9, 0.0),
        "b": Both(0.5, 4.0),
        "c": Both(0.7, 1.0),
        "d": Both(None, 1.0),
        "e": Both(0.1, 0.0),
    }
    made = scaled_scores(lists, exact, {"vector": 0.6, "text": 0.4})
    assert made["a"] == {"vector": 0.6}
    assert made["b"] == {"vector": 0.0, "text": 0.4}
    assert made["c"] == pytest.approx({"vector": 0.3, "text": 0.1})
    assert made["d"] == {"text": 0.1}
    assert made["e"] == {"vector": 0.0}


def test_a_store_is_searched_both_ways() -> None:
    assert scores(three()) == pytest.approx({"near": 0.5, "side": 0.25 + 0.5, "back": 0.5})
    assert three().search_hybrid([1.0, 0.0], "dog", 2).ids == ["side", "back"]  # back ties with near, by id
    assert scores(three(), fusion="rrf") == pytest.approx(
        {"near": 0.5 / 61, "side": 0.5 / 62 + 0.5 / 62, "back": 0.5 / 63 + 0.5 / 61}
    )
    told = scores(three(), weights={"vector": 1.0, "text": 0.0})
    assert told == pytest.approx({"near": 1.0, "side": 0.5, "back": 0.0})


def test_without_known_words_the_vectors_decide() -> None:
    for fusion in ("rrf", "weighted"):
        assert three().search_hybrid([1.0, 0.0], "unicorn", 9, fusion=fusion).ids == ["near", "side", "back"]
        assert three().search_hybrid([1.0, 0.0], "", 1, fusion=fusion).ids == ["near"]
    assert len(fresh().search_hybrid([1.0, 0.0], "dog", 9)) == 0
    assert len(three().search_hybrid([1.0, 0.0], "dog", 0)) == 0


def test_an_item_without_a_vector_is_found_by_its_words() -> None:
    store = three()
    store.insert(Item(id="bare", content="dog"))
    hits = store.search_hybrid([1.0, 0.0], "dog", 9)
    assert set(hits.ids) == {"near", "side", "back", "bare"}
    assert {hit.id: hit.score for hit in hits}["bare"] == 0.5  # the shortest text has the best score


def test_filters_and_collections_hold_for_both_searches() -> None:
    store = three()
    store.create_collection("other", dim=1)
    store.insert(Item(id="far", content="dog dog", vector=[1.0], collection="other"))
    assert set(scores(store)) == {"near", "side", "back"}
    assert set(scores(store, where=Filter(ids=("back", "near")))) == {"near", "back"}
    assert store.search_hybrid([1.0], "dog", 9, collection="other").ids == ["far"]
    with pytest.raises(UnknownCollectionError):
        store.search_hybrid([1.0], "dog", 9, collection="nowhere")


def test_few_candidates_get_exact_scores_of_both_searches() -> None:
    store = three()
    for depth in (1, 2, 3):
        hits = store.search_hybrid(
            [1.0, 0.0], "dog", 1, depth=depth, weights={"vector": 0.1, "text": 0.9}, explain=True
        )
        line = next(line for line in hits.plan if "hit" in line)
        assert line["text"] == pytest.approx(0.9)
    both = store.search_hybrid([1.0, 0.0], "dog", 9, depth=9, explain=True)
    assert both.plan[-1] == {"hit": "near", "score": 0.5, "vector": 0.5}


def linked() -> T4DX:
    """A talk in two sessions; "sum" has no vector and is part of nothing, the turns of session one are part
    of it.
    """
    store = fresh()
    for n, (name, text, session) in enumerate(
        [("t1", "hello", "one"), ("t2", "a dog", "one"), ("t3", "yes", "one"), ("t4", "no", "two")]
    ):
        store.insert(Item(id=name, content=text, session=session, event_time=float(n), vector=[1.0, n]))
    edges = [Edge(name, "sum", "PART_OF", weight=0.5) for name in ("t1", "t2", "t3")]
    store.insert(Item(id="sum", content="dog", type="semantic"), edges)
    return store


TEXT = {"vector": 0.0, "text": 1.0}


def parts(store: T4DX, spread: Spread | None, **options: object) -> dict[str, dict[str, float]]:
    hits = store.search_hybrid(
        [1.0, 0.0],
        "dog",
        9,
        weights=TEXT,
        spread=spread,
        explain=True,
        **{"where": Filter(type="episodic")} | options,
    )
    lines = [dict(line) for line in hits.plan if "hit" in line]
    assert [line.pop("hit") for line in lines] == hits.ids
    assert [line.pop("score") for line in lines] == [hit.score for hit in hits]
    return {
        hit.id: {name: value for name, value in line.items() if value}
        for hit, line in zip(hits, lines, strict=True)
    }


def test_a_summary_lends_its_score_to_its_parts() -> None:
    store = linked()
    hits = store.search_text("dog", 9)
    assert hits.ids == ["sum", "t2"]
    own, lent = 1.0, hits[0].score / hits[1].score  # scaled by the best text that passes the filter: t2's
    for direction in (OUT,):
        assert parts(store, Spread(edge_types="PART_OF", weight=0.4, direction=direction)) == {
            "t2": {"text": own, "edge PART_OF": pytest.approx(0.4 * lent)},
            "t1": {"edge PART_OF": pytest.approx(0.4 * lent)},
            "t3": {"edge PART_OF": pytest.approx(0.4 * lent)},
            "t4": {},
        }
    assert parts(store, Spread(edge_types={"PART_OF": 0.4}, direction=OUT, edge_weights=True))["t1"] == {
        "edge PART_OF": pytest.approx(0.2 * lent)
    }
    assert parts(store, Spread(edge_types="PART_OF", direction=IN))["t1"] == {}
    assert parts(store, Spread(edge_types=("CAUSES", "UNHEARD_OF")))["t1"] == {}


def test_the_mean_the_max_or_the_sum_of_several_neighbours_counts() -> None:
    store = linked()
    # of t1, t2 and t3 only t2 has the word
    for combine, expected in (("mean", 1 / 3), ("max", 1.0), ("sum", 1.0)):
        spread = Spread(edge_types="PART_OF", weight=0.3, direction=IN, combine=combine)
        lent = parts(store, spread, where=Filter())["sum"]
        best = store.search_text("dog", 2)
        assert lent["edge PART_OF"] == pytest.approx(0.3 * expected * best[1].score / best[0].score)
    only = Spread(edge_types="PART_OF", direction=IN, combine="sum", fan=1)
    assert "edge PART_OF" not in parts(store, only, where=Filter())["sum"]  # t1 comes first of equal weights


def test_scores_flow_to_neighbours_in_time_within_a_session() -> None:
    store, spread = linked(), Spread(time_neighbours=1, time_weight=0.25)
    first = {"t2": {"text": 1.0}, "t1": {"time": 0.25}, "t3": {"time": 0.25}, "t4": {}}
    assert parts(store, spread) == first
    store.insert(Item(id="t5", content="yes", session="one", event_time=9.0, vector=[1.0, 1.0]))
    assert parts(store, spread) == first | {"t3": {"time": 0.125}, "t5": {}}  # t5 has nothing to lend


def test_neighbours_in_time_are_found_wherever_they_lie() -> None:
    spread = Spread(time_neighbours=1, time_weight=0.25, combine="sum")
    store = linked()
    store.insert(Item(id="t25", content="later told", session="one", event_time=1.5, vector=[1.0, 1.0]))
    for step in (lambda: None, store.flush, store.compact):
        step()
        found = parts(store, spread)
        assert found["t25"] == {"time": 0.25}
        assert found["t3"] == {}


def test_items_without_a_session_have_no_neighbours_in_time() -> None:
    store = fresh()
    for n, text in enumerate(("hello", "dog")):
        store.insert(Item(id=f"{n}", content=text, event_time=float(n)))
    assert store.search_hybrid([1.0, 0.0], "dog", 9, spread=Spread(time_neighbours=1)).ids == ["1"]


def test_spreading_brings_in_what_no_search_found_if_it_passes_the_filter() -> None:
    store = fresh()
    store.insert(Item(id="word", content="dog"))
    store.insert(Item(id="friend", content="cat"), [Edge("friend", "word", "RELATES_TO")])
    store.insert(Item(id="stranger", content="cat"))
    spread = Spread(edge_types="RELATES_TO", weight=0.5)
    hits = store.search_hybrid([1.0, 0.0], "dog", 9, weights=TEXT, spread=spread)
    assert [(hit.id, hit.score) for hit in hits] == [("word", 1.0), ("friend", 0.5)]
    kept = store.search_hybrid(
        [1.0, 0.0], "dog", 9, Filter(ids=("word", "stranger")), weights=TEXT, spread=spread
    )
    assert kept.ids == ["word"]


def test_edges_and_items_of_the_past_spread_in_the_past() -> None:
    now = [100.0]
    store = fresh(clock=lambda: now[0])
    store.insert(Item(id="word", content="dog"))
    store.insert(Item(id="friend", content="cat"), [Edge("friend", "word", "RELATES_TO")])
    now[0] = 200.0
    store.close_item("word")
    spread = Spread(edge_types="RELATES_TO", weight=0.5)
    assert len(store.search_hybrid([1.0, 0.0], "dog", 9, spread=spread)) == 0
    past = store.search_hybrid([1.0, 0.0], "dog", 9, weights=TEXT, spread=spread, as_of=150.0)
    assert [(hit.id, hit.score) for hit in past] == [("word", 1.0), ("friend", 0.5)]


def test_two_hops_reach_further_at_the_square_of_the_weight() -> None:
    chain = {"a": {"b": 1.0}, "b": {"c": 1.0}, "c": {}}

    def links(nodes: object) -> dict[str, dict[str, dict[str, float]]]:
        return {"edge NEXT": {name: chain[name] for name in nodes}}  # type: ignore[attr-defined]

    def base(ids: object) -> dict[str, dict[str, float]]:
        return {name: {"text": 1.0} if name == "c" else {} for name in ids}  # type: ignore[attr-defined]

    for hops, expected in ((1, 0.0), (2, 0.25), (3, 0.25)):
        made = flow({"a"}, links, base, Spread(edge_types={"NEXT": 0.5}, hops=hops))
        assert total(made["a"]) == expected
        assert total(made["b"]) == 0.5


def test_hybrid_is_the_same_before_and_after_a_flush_and_a_merge() -> None:
    store, spread = linked(), Spread(edge_types="PART_OF", time_neighbours=1, hops=2)
    before = store.search_hybrid([1.0, 0.0], "dog yes", 9, spread=spread)
    for step in (store.flush, store.compact):
        step()
        after = store.search_hybrid([1.0, 0.0], "dog yes", 9, spread=spread)
        assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
        assert after.plan is None


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"combine": "median"}, "mean, max, sum"),
        ({"direction": "out"}, "OUT, IN or BOTH"),
        ({"hops": 0}, "from 1 to 3"),
        ({"time_neighbours": -1}, "from 0"),
        ({"time_weight": math.nan}, "from 0 on"),
        ({"edge_types": {"PART_OF": -1.0}}, "'PART_OF' is -1.0"),
        ({"fan": 0}, "fan=1"),
    ],
)
def test_a_spread_that_cannot_be_is_refused(made: dict[str, object], message: str) -> None:
    with pytest.raises(FusionError, match=message):
        Spread(**made)  # type: ignore[arg-type]


def test_a_hybrid_search_that_cannot_be_is_refused() -> None:
    store = three()
    with pytest.raises(FusionError, match="fusion='rrf'"):
        store.search_hybrid([1.0, 0.0], "dog", 1, fusion="borda")
    with pytest.raises(FusionError, match=r"weights=\{'vector'"):
        store.search_hybrid([1.0, 0.0], "dog", 1, weights={"text": 1.0})
    with pytest.raises(FusionError, match="from 0 on"):
        store.search_hybrid([1.0, 0.0], "dog", 1, weights={"text": 1.0, "vector": -1.0})
    with pytest.raises(FilterError, match="k=0"):
        store.search_hybrid([1.0, 0.0], "dog", -1)
    with pytest.raises(VectorError):
        store.search_hybrid([1.0], "dog", 1)
    with pytest.raises(TextQueryError):
        store.search_hybrid([1.0, 0.0], None, 1)  # type: ignore[arg-type]
