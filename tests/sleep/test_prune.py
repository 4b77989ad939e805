"""PRUNE: one predicate, and provenance is never lost in silence."""

from __future__ import annotations

import numpy as np
import pytest

from t4dm.memory.memory import Memory
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.nrem import Nrem
from t4dm.sleep.prune import Prune
from t4dm.sleep.report import SleepReport
from t4dm.t4dx import Edge, EdgeType

NOW = 1000.0
DAY = 86_400.0


def _sleep(memory: Memory, *phases: object, now: float = NOW) -> SleepReport:
    rng = np.random.default_rng(0)
    return run_cycle(memory, None, phases=phases, clock=lambda: now, rng=rng, compact=False)  # type: ignore[arg-type]


def _ids(memory: Memory) -> list[str]:
    return [item.id for item in memory.store.scan()]


def test_only_the_weak_the_faint_and_the_unused_go(memory: Memory, make_item) -> None:
    memory.store.insert_many(
        [
            make_item("doomed", importance=0.05),
            make_item("strong", importance=0.05, kappa=0.1),
            make_item("vivid", importance=0.1),
            make_item("used", importance=0.05, access_count=1),
            make_item("concept", importance=0.0, type="semantic"),
        ]
    )
    report = _sleep(memory, Prune(half_life=None))
    assert _ids(memory) == ["concept", "strong", "used", "vivid"]
    assert report.pruned == 1
    assert report.samples["pruned"] == [
        {"id": "doomed", "content": "doomed", "reason": "forgotten", "importance": 0.05}
    ]


def test_importance_halves_with_age(make_item) -> None:
    """0.8 falls below 0.1 after three half-lives, not before."""
    prune, item = Prune(half_life=7 * DAY), make_item("a", importance=0.8, event_time=0.0)
    assert not prune.faint(item, kappa=0.0, now=20.9 * DAY)
    assert prune.faint(item, kappa=0.0, now=21.1 * DAY)
    assert not prune.faint(item, kappa=0.1, now=1e9)


def test_a_replay_of_the_same_night_saves(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("a", importance=0.05))
    _sleep(memory, Nrem(eta=0.15), Prune(half_life=None))
    assert _ids(memory) == ["a"]


def test_a_recall_of_the_day_saves(memory: Memory, make_item) -> None:
    """Accesses are counted in RAM; the night logs them before it asks."""
    memory.store.insert_many([make_item("a", importance=0.05), make_item("b", axis=9, importance=0.05)])
    memory.read(np.asarray([make_item("a").vector]), k=1)
    _sleep(memory, Prune(half_life=None))
    assert _ids(memory) == ["a"]


def test_a_dry_run_reports_and_deletes_nothing(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("a", importance=0.01))
    before = memory.store.lsn
    report = _sleep(memory, Prune(half_life=None, dry_run=True))
    assert report.pruned == 0
    assert [sample["id"] for sample in report.samples["pruned"]] == ["a"]
    assert memory.store.lsn == before


def test_the_superseded_go_whatever_their_strength(memory: Memory, make_item) -> None:
    old = make_item("old", kappa=0.6, importance=1.0, valid_until=500.0)
    coming = make_item("coming", valid_until=NOW + 1)
    ended = make_item("ended", valid_until=500.0)
    memory.store.insert_many(
        [old, coming, ended, make_item("new")],
        [Edge("new", "old", EdgeType.SUPERSEDES), Edge("new", "coming", EdgeType.SUPERSEDES)],
    )
    keep = _sleep(memory, Prune(superseded=False))
    assert keep.pruned == 0
    _sleep(memory, Prune())
    assert _ids(memory) == ["coming", "ended", "new"]


def test_what_is_superseded_tonight_can_go_tonight(memory: Memory, make_item) -> None:
    memory.store.insert_many([make_item("v1", event_time=1.0), make_item("v2", event_time=2.0)])
    report = _sleep(memory, Nrem(supersede_threshold=0.9), Prune())
    assert (report.superseded, report.pruned) == (1, 1)
    assert _ids(memory) == ["v2"]
    assert list(memory.store.edges()) == []


def test_the_last_member_of_a_prototype_is_spared_and_counted(memory: Memory, make_item) -> None:
    names = ["m1", "m2", "m3"]
    members = [make_item(n, importance=i) for n, i in zip(names, (0.01, 0.03, 0.02), strict=True)]
    edges = [Edge("p", name, EdgeType.MERGED_FROM) for name in names]
    memory.store.insert_many([*members, make_item("p", type="semantic")], edges)
    report = _sleep(memory, Prune(half_life=None))
    assert _ids(memory) == ["m2", "p"]
    assert (report.pruned, report.spared) == (2, 1)
    assert [edge.target for edge in memory.store.edges(source="p")] == ["m2"]


def test_a_shared_member_spares_for_both_prototypes(memory: Memory, make_item) -> None:
    members = [make_item("m1", importance=0.05), make_item("m2", importance=0.01)]
    edges = [Edge(p, m, EdgeType.MERGED_FROM) for p, m in (("p", "m1"), ("p", "m2"), ("q", "m1"))]
    memory.store.insert_many(
        [*members, make_item("p", type="semantic"), make_item("q", type="semantic")], edges
    )
    report = _sleep(memory, Prune(half_life=None))
    assert _ids(memory) == ["m1", "p", "q"]
    assert report.spared == 1


def test_members_beside_a_living_one_go(memory: Memory, make_item) -> None:
    members = [make_item("m1", importance=0.01), make_item("alive", importance=0.9)]
    edges = [Edge("p", item.id, EdgeType.MERGED_FROM) for item in members]
    memory.store.insert_many([*members, make_item("p", type="semantic")], edges)
    report = _sleep(memory, Prune(half_life=None))
    assert (report.pruned, report.spared) == (1, 0)


@pytest.mark.parametrize("nights", [1, 3])
def test_a_second_night_forgets_nothing_more(memory: Memory, make_item, nights: int) -> None:
    memory.store.insert_many([make_item(f"i{n}", axis=n, importance=n / 100) for n in range(20)])
    for _ in range(nights):
        _sleep(memory, Prune(theta_importance=0.095, half_life=None))
    assert memory.store.count() == 10
