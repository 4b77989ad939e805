"""The whole night: one transaction, exactly once, all or nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.memory.memory import Memory
from t4dm.sleep.cycle import nightly, run_cycle
from t4dm.sleep.night import Night
from t4dm.sleep.nrem import Nrem
from t4dm.sleep.prune import Prune
from t4dm.sleep.rem import Rem
from t4dm.sleep.report import SAMPLE_KINDS, take_inventory
from t4dm.t4dx import T4DX, Filter, Options

NOW = 1000.0


def _fill(store: T4DX, make_item) -> None:
    items = [
        make_item(
            f"{axis}-{n}", axis=axis, noise=0.15, seed=n, kappa=0.3, event_time=float(n), importance=0.8
        )
        for axis in (1, 2, 3)
        for n in range(5)
    ]
    store.insert_many([*items, make_item("dull", axis=30, importance=0.01)])


def _phases() -> list[object]:
    return [Nrem(max_replays=15), Rem(), Prune(half_life=None)]


def _everything(store: T4DX) -> tuple[list[object], list[object]]:
    return list(store.scan()), sorted(
        (e.source, e.target, str(e.type), e.weight, json.dumps(dict(e.properties))) for e in store.edges()
    )


def _sleep(memory: Memory, stack, **options):
    options = {"phases": _phases(), "rng": np.random.default_rng(5)} | options
    return run_cycle(memory, stack, clock=lambda: NOW, **options)


def test_a_night_replays_merges_and_forgets(memory: Memory, make_item, stack) -> None:
    _fill(memory.store, make_item)
    report = _sleep(memory, stack)
    assert (report.replayed, report.prototypes, report.merged, report.pruned) == (15, 3, 15, 1)
    assert (report.before.items, report.after.items) == (16, 16 + 3 - 1)
    assert report.after.mean_kappa > report.before.mean_kappa
    kappas = [item.kappa for item in memory.store.scan(Filter(type="episodic"))]
    assert kappas == pytest.approx([1 - 0.7 * 0.85 * 0.8] * 15)


def test_a_night_is_one_transaction(memory: Memory, make_item, stack) -> None:
    """A snapshot of any moment shows the evening or the morning: the version changes once."""
    _fill(memory.store, make_item)
    evening = memory.store.lsn
    night = Night(
        store=memory.store,
        view=memory.store.snapshot(),
        stack=stack,
        now=NOW,
        rng=np.random.default_rng(5),
        cycle="c",
    )
    for phase in _phases():
        phase.decide(night)  # type: ignore[attr-defined]
        assert memory.store.lsn == evening
    before = _everything(memory.store)
    night.commit()
    assert _everything(memory.store) != before


def test_a_night_can_be_taken_back(memory: Memory, make_item, stack) -> None:
    _fill(memory.store, make_item)
    evening = _everything(memory.store)
    first = _sleep(memory, stack)
    morning = _everything(memory.store)
    second = _sleep(memory, stack)  # an rng that is seeded alike gives the same cycle
    assert second.cycle == first.cycle
    names = [known.id for known in memory.store.transactions()]
    assert [name.partition("-")[0] for name in names] == [first.cycle] * 2
    for name, expected in zip(names[::-1], (morning, evening), strict=True):
        memory.store.undo(name)
        assert _everything(memory.store) == expected


def test_a_refused_decision_leaves_the_evening(memory: Memory, make_item, stack) -> None:
    """An item that vanished between the decision and the commit: nothing of the night is applied."""

    class Vanish:
        def decide(self, night: Night) -> None:
            night.store.delete("1-0")

    _fill(memory.store, make_item)
    with pytest.raises(Exception, match="1-0"):
        _sleep(memory, stack, phases=[*_phases(), Vanish()])
    assert memory.store.count(Filter(type="semantic")) == 0
    assert {item.kappa for item in memory.store.scan(Filter(type="episodic"))} == {
        0.0,
        memory.store.get("1-1").kappa,  # type: ignore[union-attr]
    }
    assert memory.store.get("1-1").kappa == pytest.approx(0.3)  # type: ignore[union-attr]


def test_the_morning_survives_reopening_and_compaction(memory: Memory, make_item, stack) -> None:
    _fill(memory.store, make_item)
    _sleep(memory, stack, compact=False)
    morning = _everything(memory.store)
    memory.store.flush()
    memory.store.compact()
    assert _everything(memory.store) == morning
    path = memory.store.path
    memory.store.close()
    with T4DX.open(path, dim=32) as store:
        assert _everything(store) == morning


def test_the_same_seed_gives_the_same_night(tmp_path: Path, make_item, stack) -> None:
    mornings = []
    for folder in ("a", "b"):
        with T4DX.open(tmp_path / folder, dim=32, clock=lambda: NOW) as store:
            _fill(store, make_item)
            _sleep(Memory(store, clock=lambda: NOW, rng=np.random.default_rng(0)), stack)
            mornings.append(_everything(store))
    assert mornings[0] == mornings[1]


def test_a_quiet_night_writes_nothing(memory: Memory) -> None:
    before = memory.store.lsn
    report = run_cycle(memory, None, clock=lambda: NOW, rng=np.random.default_rng(0), compact=False)
    assert memory.store.lsn == before
    assert report.metrics()["sleep/replayed_items"] == 0.0


def test_many_nights_consolidate_without_bound_on_nothing_but_kappa(memory: Memory, make_item, stack) -> None:
    _fill(memory.store, make_item)
    for night in range(8):
        run_cycle(
            memory,
            stack,
            phases=nightly(),
            clock=lambda: NOW,
            rng=np.random.default_rng(night),
            compact=False,
        )
    inventory = take_inventory(memory.store)
    assert memory.store.count(Filter(type="semantic")) == 3
    assert inventory.mean_kappa > 0.5
    assert inventory.items <= 19


def test_the_report_is_plain_flat_and_complete(memory: Memory, make_item, stack) -> None:
    _fill(memory.store, make_item)
    line = json.loads(json.dumps(_sleep(memory, stack).to_json()))
    assert sum(line["kappa_before"]) == line["items_before"] == 16
    assert sum(line["kappa_after"]) == line["items_after"] == 18
    assert len(line["kappa_after"]) == 20
    assert line["seconds"] > 0.0
    assert line["bytes_after"] > 0
    assert len(line["replayed_ids"]) == 15
    assert {f"{kind}_samples" for kind in SAMPLE_KINDS} <= line.keys()
    assert line["cluster_samples"][0]["size"] == 5
    assert line["pruned_samples"][0]["content"] == "dull"


def test_the_kappa_histogram_has_twenty_bins_of_0_05(memory: Memory, make_item) -> None:
    memory.store.insert_many([make_item(f"k{k}", kappa=k) for k in (0.0, 0.049, 0.05, 0.99, 1.0)])
    counts = take_inventory(memory.store).kappa
    assert (counts[0], counts[1], counts[19], sum(counts)) == (2, 1, 2, 5)


def _evening(fs: SimulatedFileSystem, make_item) -> T4DX:
    # "sync" without a marker needs no background thread, which would outlive the crash.
    store = T4DX.open(
        "/s", dim=32, clock=lambda: NOW, fs=fs, options=Options(durability="sync", idle_marker=0)
    )
    _fill(store, make_item)
    store.flush()
    return store


def _decided(store: T4DX) -> Night:
    rng = np.random.default_rng(5)
    night = Night(store=store, view=store.snapshot(), stack=None, now=NOW, rng=rng, cycle="c")
    for phase in _phases():
        phase.decide(night)  # type: ignore[attr-defined]
    return night


def _sleep_on(store: T4DX, night: Night) -> None:
    replace(night, store=store).commit()
    store.compact()


def test_a_crash_at_a_call_to_the_disk_leaves_evening_or_morning(make_item) -> None:
    """Of commit and compaction: kappa is raised for all or for none, and prototypes are there or not."""
    fs = SimulatedFileSystem()
    store = _evening(fs, make_item)
    night, first, evening = _decided(store), fs.calls, _everything(store)
    _sleep_on(store, night)
    last, found = fs.calls, set()
    assert last - first > 10
    for call in range(first + 1, last + 1, 2):
        fs = SimulatedFileSystem(seed=call, crash_at=call)
        store = _evening(fs, make_item)
        with pytest.raises(Crash):
            _sleep_on(store, night)
        disk = fs.after_crash(("all", "synced", "some")[call // 2 % 3], seed=call)
        with T4DX.open("/s", clock=lambda: NOW, fs=disk) as again:
            if _everything(again) == evening:
                found.add("evening")
                continue
            found.add("morning")
            assert again.count(Filter(type="semantic")) == 3
            assert "dull" not in again
            kappas = [item.kappa for item in again.scan(Filter(type="episodic"))]
            assert kappas == pytest.approx([1 - 0.7 * 0.85 * 0.8] * 15)
    assert found == {"evening", "morning"}
