"""NREM: who is replayed, and what replay changes."""

from __future__ import annotations

import numpy as np
import pytest

from t4dm.memory.memory import Memory
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.night import Night
from t4dm.sleep.nrem import Nrem, by_session, priority
from t4dm.sleep.report import SleepReport
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX, Edge, EdgeType, Item

NOW = 1000.0


def _sleep(memory: Memory, phase: Nrem, stack: CorticalStack | None = None, seed: int = 0) -> SleepReport:
    return run_cycle(memory, stack, phases=[phase], clock=lambda: NOW, rng=np.random.default_rng(seed))


def _kappas(store: T4DX) -> dict[str, float]:
    return {item.id: item.kappa for item in store.scan()}


def test_priority_is_error_times_importance_times_freshness(make_item) -> None:
    item = make_item("a", importance=0.5, metadata={"prediction_error": 4.0})
    assert priority(item, kappa=0.25) == pytest.approx(4.0 * 0.5 * 0.75)
    assert priority(make_item("b", importance=0.0), kappa=0.0) > 0.0


def test_the_most_surprising_and_important_are_replayed(memory: Memory, make_item) -> None:
    for name, error, importance in [
        ("dull", 0.1, 0.9),
        ("faint", 5.0, 0.01),
        ("vivid", 2.0, 0.8),
        ("good", 1.0, 0.9),
    ]:
        memory.store.insert(make_item(name, importance=importance, metadata={"prediction_error": error}))
    report = _sleep(memory, Nrem(max_replays=2))
    assert report.replayed_ids == ("vivid", "good")
    assert _kappas(memory.store) == pytest.approx({"dull": 0.0, "faint": 0.0, "good": 0.15, "vivid": 0.15})


def test_replay_raises_kappa_exactly_once_and_it_survives_reopening(memory: Memory, make_item, stack) -> None:
    """An earlier engine's compaction raised it a second time; another lost it at the next flush."""
    memory.store.insert_many([make_item(f"i{n}", axis=n) for n in range(5)])
    report = _sleep(memory, Nrem(eta=0.15), stack)
    assert sorted(report.replayed_ids) == [f"i{n}" for n in range(5)]
    path = memory.store.path
    memory.store.flush()
    memory.store.compact()
    memory.store.close()
    with T4DX.open(path, dim=32) as store:
        assert list(_kappas(store).values()) == pytest.approx([0.15] * 5)


def test_kappa_passes_0_3_and_follows_the_geometric_law(memory: Memory, make_item) -> None:
    """kappa after n nights = 1 - (1 - eta)^n; a fixed step on items below 0.3 stalls there."""
    memory.store.insert(make_item("a"))
    seen = []
    for night in range(1, 5):
        _sleep(memory, Nrem(eta=0.15))
        seen.append(_kappas(memory.store)["a"])
        assert seen[-1] == pytest.approx(1 - 0.85**night)
    assert seen[-1] > 0.3


def test_consolidated_items_rest(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("done", kappa=0.7))
    memory.store.insert(make_item("concept", type="semantic"))
    memory.store.insert(make_item("ended", valid_until=500.0))
    assert _sleep(memory, Nrem()).replayed == 0


def _night(memory: Memory, seed: int) -> Night:
    rng = np.random.default_rng(seed)
    return Night(store=memory.store, view=memory.store.snapshot(), stack=None, now=NOW, rng=rng, cycle="c")


def test_a_warm_choice_follows_the_generator_and_favours_priority(memory: Memory, make_item) -> None:
    """Two items of priority 3 : 1 at temperature 1: the first is drawn in 3 of 4 nights."""
    memory.store.insert(make_item("high", importance=0.9, metadata={"prediction_error": 1.0}))
    memory.store.insert(make_item("low", importance=0.3, metadata={"prediction_error": 1.0}))
    phase = Nrem(max_replays=1, temperature=1.0)

    def draw(seed: int) -> str:
        night = _night(memory, seed)
        phase.decide(night)
        return night.replayed[0]

    drawn = [draw(seed) for seed in range(200)]
    assert drawn == [draw(seed) for seed in range(200)]
    assert drawn.count("high") / 200 == pytest.approx(0.75, abs=0.08)


def test_replay_strengthens_the_links_of_what_is_alike(memory: Memory, make_item, stack) -> None:
    """Alike items evoke the same channels one after the other, unlike ones others."""
    items = [make_item(f"alike{n}", axis=1, event_time=n, session="a") for n in range(8)]
    items += [make_item(f"unlike{n}", axis=n, event_time=n, session="u") for n in range(8)]
    pairs = [(items[n + 1].id, items[n].id) for n in (*range(7), *range(8, 15))]
    memory.store.insert_many(items, [Edge(a, b, EdgeType.TEMPORAL_AFTER, 0.4) for a, b in pairs])
    report = _sleep(memory, Nrem(), stack)
    gains = {(e.source, e.target): e.weight - 0.4 for e in memory.store.edges()}
    assert report.edges_strengthened == len(gains) == 14
    alike, unlike = (float(np.mean([gains[pair] for pair in part])) for part in (pairs[:7], pairs[7:]))
    assert alike > 0.03
    assert alike > 2 * unlike


def test_neighbours_without_an_edge_get_one_when_they_fire_together(memory: Memory, make_item, stack) -> None:
    memory.store.insert_many([make_item("x", axis=1, event_time=1.0), make_item("y", axis=1, event_time=2.0)])
    report = _sleep(memory, Nrem(), stack)
    (edge,) = memory.store.edges()
    assert (edge.source, edge.target, edge.type) == ("y", "x", EdgeType.RELATES_TO)
    assert 0.0 < edge.weight < 1.0
    assert edge.properties == {"cycle": report.cycle}


def test_facts_have_no_strength(memory: Memory, make_item, stack) -> None:
    items = [make_item("x", axis=1, event_time=1.0), make_item("y", axis=1, event_time=2.0)]
    memory.store.insert_many(items, [Edge("y", "x", EdgeType.MERGED_FROM, 0.4)])
    _sleep(memory, Nrem(), stack)
    assert next(iter(memory.store.edges(edge_type=EdgeType.MERGED_FROM))).weight == 0.4


def test_sessions_are_replayed_apart(memory: Memory, make_item, stack) -> None:
    memory.store.insert_many([make_item("x", session="a"), make_item("y", session="b")])
    _sleep(memory, Nrem(), stack)
    assert list(memory.store.edges()) == []


def test_sequences_follow_the_event_times(make_item) -> None:
    items = [
        make_item(n, session=s, event_time=t) for n, s, t in [("c", "a", 3), ("z", "b", 1), ("d", "a", 1)]
    ]
    assert [[item.id for item in sequence] for sequence in by_session(items)] == [["d", "c"], ["z"]]


def test_without_a_stack_kappa_rises_and_edges_stay(memory: Memory, make_item) -> None:
    memory.store.insert_many([make_item("x"), make_item("y")], [Edge("y", "x", EdgeType.RELATES_TO, 0.5)])
    report = _sleep(memory, Nrem(), None)
    assert (report.replayed, report.edges_strengthened) == (2, 0)
    assert next(iter(memory.store.edges())).weight == 0.5


def test_a_newer_item_supersedes_an_older_one(memory: Memory) -> None:
    """The cosine of (3, 4) and (4, 3) is 24 / 25 = 0.96; of (3, 4) and (1, 0) it is 0.6."""
    vectors = np.zeros((4, 32), dtype=np.float32)
    vectors[:, :2] = [(3, 4), (4, 3), (3, 4), (1, 0)]
    rows = [("cellar", 1.0, "s"), ("kitchen", 5.0, "s"), ("elsewhere", 9.0, "other"), ("unrelated", 7.0, "s")]
    memory.store.insert_many(
        Item(id=name, content=name, vector=vector, event_time=time, session=session)
        for (name, time, session), vector in zip(rows, vectors, strict=True)
    )
    report = _sleep(memory, Nrem(supersede_threshold=0.95))
    (edge,) = memory.store.edges()
    assert (edge.source, edge.target, edge.type) == ("kitchen", "cellar", EdgeType.SUPERSEDES)
    assert edge.weight == pytest.approx(0.96)
    old = memory.store.get("cellar")
    assert old is not None
    assert old.valid_until == 5.0
    assert report.superseded == 1
    assert sorted(report.replayed_ids) == ["elsewhere", "kitchen", "unrelated"]
    assert _sleep(memory, Nrem(supersede_threshold=0.95)).superseded == 0


def test_supersession_is_off_by_default(memory: Memory, make_item) -> None:
    memory.store.insert_many([make_item("a", event_time=1.0), make_item("b", event_time=2.0)])
    assert _sleep(memory, Nrem()).superseded == 0


def test_a_chain_of_updates_closes_each_by_its_successor(memory: Memory, make_item) -> None:
    memory.store.insert_many([make_item(n, event_time=t) for n, t in (("v1", 1.0), ("v2", 4.0), ("v3", 9.0))])
    _sleep(memory, Nrem(supersede_threshold=0.9))
    until = {item.id: item.valid_until for item in memory.store.scan()}
    assert until == {"v1": 4.0, "v2": 9.0, "v3": float("inf")}
    assert {(e.source, e.target) for e in memory.store.edges()} == {("v2", "v1"), ("v3", "v2")}


def test_repetition_is_not_supersession(memory: Memory, make_item) -> None:
    memory.store.insert_many(
        [make_item(n, content="same", event_time=t) for n, t in (("v1", 1.0), ("v2", 4.0))]
    )
    assert _sleep(memory, Nrem(supersede_threshold=0.5)).superseded == 0
