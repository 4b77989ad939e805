"""REM: clusters, prototypes, and no more of them than there are clusters."""

from __future__ import annotations

import numpy as np
import pytest

from t4dm.memory.memory import Memory
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.nrem import Nrem
from t4dm.sleep.rem import Rem, cluster
from t4dm.sleep.report import SleepReport
from t4dm.t4dx import EdgeType, Filter, Item

NOW = 1000.0
PROTOTYPES = Filter(type="semantic")


def _sleep(memory: Memory, *phases: object, seed: int = 0) -> SleepReport:
    return run_cycle(
        memory,
        None,
        phases=phases,
        clock=lambda: NOW,
        rng=np.random.default_rng(seed),
        compact=False,  # type: ignore[arg-type]
    )


def _three_groups(make_item, *, kappa: float = 0.4, session: str = "s", size: int = 6) -> list[Item]:
    return [
        make_item(
            f"{session}{axis}-{n}",
            axis=axis,
            noise=0.15,
            seed=n,
            kappa=kappa,
            session=session,
            event_time=float(n),
        )
        for axis in (1, 2, 3)
        for n in range(size)
    ]


def test_clusters_are_the_directions(make_item) -> None:
    vectors = np.stack([item.vector for item in _three_groups(make_item)])
    assert [rows.tolist() for rows in cluster(vectors)] == [list(range(i, i + 6)) for i in (0, 6, 12)]


def test_clusters_ignore_length(make_item) -> None:
    vectors = np.stack([item.vector for item in _three_groups(make_item)])
    scaled = vectors * np.random.default_rng(0).uniform(0.1, 50.0, size=(len(vectors), 1)).astype(np.float32)
    assert [len(rows) for rows in cluster(scaled)] == [6, 6, 6]


def test_noise_is_no_cluster() -> None:
    """Three random directions lie at 0.58 from their own centroid, but at 0 from each other."""
    vectors = np.random.default_rng(1).normal(size=(60, 64)).astype(np.float32)
    assert cluster(vectors, cohesion=-1.0) != []
    assert cluster(vectors) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_vectors_are_no_cluster(count: int) -> None:
    assert cluster(np.ones((count, 4), dtype=np.float32)) == []


def test_identical_vectors_do_not_break_it() -> None:
    assert all(len(rows) >= 3 for rows in cluster(np.ones((10, 4), dtype=np.float32)))


def test_a_prototype_is_centroid_medoid_and_provenance(memory: Memory, make_item) -> None:
    items = _three_groups(make_item)
    items[3] = make_item(
        "s1-3", axis=1, kappa=0.4, event_time=3.0, importance=0.9, metadata={"tokens": [7, 8]}
    )
    memory.store.insert_many(items)
    report = _sleep(memory, Rem(eta=0.2))
    prototypes = {item.content: item for item in memory.store.scan(PROTOTYPES)}
    assert report.prototypes == 3
    assert report.merged == 18
    made = prototypes["s1-3"]  # the untilted member lies nearest to the mean
    unit = np.stack([i.vector / np.linalg.norm(i.vector) for i in items[:6]])
    mean = unit.mean(axis=0)
    np.testing.assert_allclose(made.vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert (made.type, made.session, made.importance) == ("semantic", "s", 0.9)
    assert made.kappa == pytest.approx(0.4 + 0.2 * 0.6)
    assert made.metadata == {"tokens": [7, 8], "cycle": report.cycle, "members": [i.id for i in items[:6]]}
    edges = list(memory.store.edges(source=made.id))
    assert {edge.target for edge in edges} == {item.id for item in items[:6]}
    assert {edge.type for edge in edges} == {EdgeType.MERGED_FROM}
    weights = {edge.target: edge.weight for edge in edges}
    assert weights["s1-3"] == pytest.approx(unit[3] @ made.vector, abs=1e-6)
    assert memory.store.get("s1-0").kappa == pytest.approx(0.52)  # type: ignore[union-attr]


def test_sessions_are_never_merged(memory: Memory, make_item) -> None:
    """Two items of each session point the same way: four in all, but two are too few."""
    for session in ("anna", "ben"):
        memory.store.insert_many(
            make_item(f"{session}{axis}{n}", axis=axis, noise=0.1, seed=n, kappa=0.4, session=session)
            for axis in (1, 2)
            for n in range(2)
        )
    assert _sleep(memory, Rem(min_size=3)).prototypes == 0
    memory.store.insert_many(
        [*_three_groups(make_item, session="carl"), *_three_groups(make_item, session="dora")]
    )
    _sleep(memory, Rem(min_size=3))
    for item in memory.store.scan(PROTOTYPES):
        assert all(member.startswith(item.session) for member in item.metadata["members"])
    assert memory.store.count(PROTOTYPES) == 6


def test_repeated_nights_make_no_new_prototypes(memory: Memory, make_item) -> None:
    """An earlier implementation made them anew every night, without bound."""
    memory.store.insert_many(_three_groups(make_item))
    made = [_sleep(memory, Rem(eta=0.01), seed=night).prototypes for night in range(10)]
    assert made == [3] + [0] * 9
    assert memory.store.count() == 18 + 3
    assert memory.store.stats()["edges"] == 18


def test_a_newcomer_joins_the_known_prototype(memory: Memory, make_item) -> None:
    memory.store.insert_many(_three_groups(make_item))
    _sleep(memory, Rem(eta=0.01))
    memory.store.insert(make_item("late", axis=2, noise=0.1, seed=77, kappa=0.4, event_time=99.0))
    report = _sleep(memory, Rem(eta=0.01), seed=1)
    assert report.prototypes == 0
    (edge,) = memory.store.edges(target="late", edge_type=EdgeType.MERGED_FROM)
    prototype = memory.store.get(edge.source)
    assert prototype is not None
    assert prototype.metadata["members"] == [*sorted(f"s2-{n}" for n in range(6)), "late"]
    assert memory.store.count(PROTOTYPES) == 3


def test_the_nights_replay_lifts_items_into_reach(memory: Memory, make_item) -> None:
    """kappa 0.25 rises to 0.3625 in NREM; REM of the same night already sees that."""
    memory.store.insert_many(_three_groups(make_item, kappa=0.25))
    assert _sleep(memory, Rem()).prototypes == 0
    report = _sleep(memory, Nrem(eta=0.15), Rem(eta=0.2))
    assert report.prototypes == 3
    kappas = [item.kappa for item in memory.store.scan(Filter(type="episodic"))]
    assert kappas == pytest.approx([1 - 0.75 * 0.85 * 0.8] * 18)


def test_what_is_fresh_stable_or_semantic_is_left_alone(memory: Memory, make_item) -> None:
    memory.store.insert_many(_three_groups(make_item, kappa=0.1, session="fresh"))
    memory.store.insert_many(_three_groups(make_item, kappa=0.7, session="stable"))
    assert _sleep(memory, Rem()).prototypes == 0


def test_the_same_night_twice_is_the_same_night(tmp_path, make_item) -> None:
    from t4dm.t4dx import T4DX

    made = []
    for folder in ("a", "b"):
        with T4DX.open(tmp_path / folder, dim=32, clock=lambda: NOW) as store:
            store.insert_many(_three_groups(make_item))
            _sleep(Memory(store, clock=lambda: NOW, rng=np.random.default_rng(0)), Rem())
            made.append([item.id for item in store.scan()])
    assert made[0] == made[1]


def test_a_night_reads_only_the_latest_of_a_huge_session(memory: Memory, make_item) -> None:
    memory.store.insert_many(_three_groups(make_item))
    assert _sleep(memory, Rem(max_items=2)).prototypes == 0
