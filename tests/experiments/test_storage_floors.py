"""The leanest Python program of the storage bench: it does the work that it is timed for, and its table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"bench", "system", "metric", "value", "ratio", "target", "machine", "versions", "command"}


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        import experiments.storage_bench as package
        from experiments.storage_bench import (  # noqa: F401
            data,
            floors,
            floors_report,
            groups,
            leanest,
            report,
            targets,
        )

        yield package


@pytest.fixture(scope="module")
def content(bench: ModuleType) -> Any:
    return bench.data.make(100, 8, extra=160)


def opened(bench: ModuleType, folder: Path, content: Any, mode: str = "os") -> Any:
    store = bench.leanest.Leanest(f"leanest {mode}", mode)
    store.open(folder, content)
    return store


@pytest.fixture
def store(bench: ModuleType, content: Any, tmp_path: Path) -> Any:
    return opened(bench, tmp_path / "s", content)


def written(store: Any, content: Any) -> None:
    """One call of each kind of write."""
    store.insert(content.row(100))
    store.update(3, 0.25)
    store.update(100, 0.75)
    store.update_first(2, 0.5)
    store.bump((7, int(content.targets[7][0]), 0.0625))


def test_it_answers_what_numpy_and_the_data_say(store: Any, content: Any) -> None:
    written(store, content)
    kappas = {0: 0.5, 1: 0.5, 2: content.kappas[2], 3: 0.25, 100: 0.75}
    for num, kappa in kappas.items():
        text, found, vector = store.get(num)
        assert (text, found) == (content.row(num).text, kappa)
        assert np.array_equal(vector, content.vectors[num])
    assert store.weight(7, int(content.targets[7][0])) == min(content.weights[7][0] + 0.0625, 1.0)
    near = content.targets[5]
    hops = ({*near.tolist(), *content.targets[near].ravel().tolist()}) - {5}
    assert store.two_hops(5) == {content.ids[num] for num in hops}
    assert store.two_hops(100) == set()


def test_a_vector_is_the_callers_own(store: Any, content: Any) -> None:
    store.get(4).vector[:] = 0.0
    assert np.array_equal(store.get(4).vector, content.vectors[4])
    row = content.row(100)._replace(vector=content.vectors[100].copy())
    store.insert(row)
    row.vector[:] = 0.0
    assert np.array_equal(store.get(100).vector, content.vectors[100])


def test_weights_stay_between_0_and_1(store: Any, content: Any) -> None:
    target = int(content.targets[7][0])
    store.bump((7, target, 5.0))
    assert store.weight(7, target) == 1.0
    store.bump((7, target, -5.0))
    assert store.weight(7, target) == 0.0


def test_what_it_wrote_is_there_when_it_is_opened_anew(
    bench: ModuleType, store: Any, content: Any, tmp_path: Path
) -> None:
    """Without a close, as after a kill; more items than its columns held at first."""
    written(store, content)
    for row in content.rows(101, 240):
        store.insert(row)
    again = opened(bench, tmp_path / "s", content)
    assert again.state() == store.state()
    assert [again.get(num).kappa for num in (0, 50, 239)] == [0.5, content.kappas[50], content.kappas[239]]
    again.update(239, 0.125)
    assert opened(bench, tmp_path / "s", content).state() == again.state() != store.state()


def test_a_record_with_a_flipped_bit_ends_the_log(
    bench: ModuleType, store: Any, content: Any, tmp_path: Path
) -> None:
    places = []
    for kappa in (0.25, 0.5, 0.75):
        store.update(3, kappa)
        places.append(store._log._end)
    with (tmp_path / "s" / "log").open("r+b") as file:
        file.seek(places[1] - 1)
        last = file.read(1)
        file.seek(places[1] - 1)
        file.write(bytes([last[0] ^ 1]))
    again = opened(bench, tmp_path / "s", content)
    assert again.get(3).kappa == 0.25
    again.update(3, 1.0)  # where the damaged one lay
    assert opened(bench, tmp_path / "s", content).get(3).kappa == 1.0


@pytest.mark.parametrize(
    "change",
    [
        {"vector": np.ones(7, np.float32)},
        {"vector": np.full(8, np.nan, np.float32)},
        {"vector": np.array([np.inf, *[0.0] * 7], np.float32)},
        {"kappa": 1.5},
        {"kappa": float("nan")},
        {"time": float("inf")},
        {"id": ""},
    ],
)
def test_an_item_that_cannot_be_is_refused_before_it_is_logged(
    bench: ModuleType, store: Any, content: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="item"):
        store.insert(content.row(100)._replace(**change))
    assert opened(bench, tmp_path / "s", content).state() == store.state()
    assert not os.path.getsize(tmp_path / "s" / "log")


def test_changes_that_cannot_be_are_refused(store: Any, content: Any, tmp_path: Path) -> None:
    strange = next(num for num in range(100) if num not in content.targets[7])
    for call, error in (
        (lambda: store.update(3, 1.5), ValueError),
        (lambda: store.update(100, 0.5), KeyError),
        (lambda: store.update_first(3, -1.0), ValueError),
        (lambda: store.bump((7, strange, 0.5)), KeyError),
        (lambda: store.bump((7, int(content.targets[7][0]), float("nan"))), ValueError),
    ):
        with pytest.raises(error):
            call()
    assert not os.path.getsize(tmp_path / "s" / "log")


def test_each_synced_write_waits_for_the_disk_and_a_failure_ends_all(
    bench: ModuleType, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(bench.leanest, "_sync", seen.append)
    store = opened(bench, tmp_path / "s", content, "sync")
    written(store, content)
    assert len(seen) == 5
    kernel = bench.leanest.Kernel("kernel sync", "sync")
    kernel.open(tmp_path / "k", content)
    assert not kernel.is_written()
    kernel.insert(content.row(100))
    kernel.update(3, 0.5)
    assert len(seen) == 7
    assert kernel.is_written()
    assert kernel._log._end == len(kernel._item) + len(kernel._field)
    assert store._log._end > kernel._log._end

    def refuse(_: int) -> None:
        raise OSError("no such disk")

    monkeypatch.setattr(bench.leanest, "_sync", refuse)
    with pytest.raises(OSError, match="no such disk"):
        store.update(3, 0.5)
    monkeypatch.setattr(bench.leanest, "_sync", seen.append)
    with pytest.raises(OSError, match="Bad file descriptor"):
        store.update(3, 0.5)
    assert store.get(3).kappa == 0.25


def test_unsynced_writes_do_not_wait(
    bench: ModuleType, content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.leanest, "_sync", lambda _: pytest.fail("it waited"))
    written(opened(bench, tmp_path / "s", content), content)


@pytest.fixture(scope="module")
def loaded(bench: ModuleType, content: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny run whose two stores are loaded."""
    folder = tmp_path_factory.mktemp("floors")
    made = bench.groups.Setting(content, folder, folder, 2, 5, 2.0, ("t4dx", "sqlite"))
    for label in ("t4dx", "sqlite normal"):
        bench.groups.load(label, made)
    return made


@pytest.fixture
def setting(loaded: Any, tmp_path: Path) -> Any:
    """The same with a place of its own to work in."""
    return loaded._replace(scratch=tmp_path / "scratch")


def test_every_row_has_its_times_and_the_synced_ones_the_kernels_too(bench: ModuleType, setting: Any) -> None:
    found = bench.floors.floors(setting)
    assert {row["operation"]: sorted(row["systems"]) for row in found["floors"]} == {
        "insert_sync": ["kernel sync", "leanest sync", "sqlite full", "t4dx sync"],
        "insert_nosync": ["leanest os", "t4dx os"],
        "update_sync": ["kernel sync", "leanest sync", "sqlite full", "t4dx sync"],
        "update_nosync": ["leanest os", "t4dx os"],
        "bulk_update": ["leanest os", "t4dx os"],
        "get": ["leanest os", "t4dx os"],
        "two_hops": ["leanest os", "sqlite normal", "t4dx os"],
        "edge_update_nosync": ["leanest os", "sqlite normal", "t4dx os"],
    }
    figures = [figure for row in found["floors"] for figure in row["systems"].values()]
    assert all(figure["p50"] > 0 and figure["rounds"] == 2 and figure["durability"] for figure in figures)
    assert {"t4dx os", "sqlite full", "leanest sync"} <= set(found["systems"])


def test_rows_are_those_that_the_plan_names(bench: ModuleType) -> None:
    assert set(bench.floors.ROWS) <= {target.bench for target in bench.targets.STORE}
    assert set(bench.floors.BARE) <= set(bench.floors.ROWS)


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("update", "update_nosync", "leanest os answers item 0"),
        ("bump", "edge_update_nosync", "leanest os answers edge_update_nosync"),
    ],
)
def test_a_program_that_does_not_work_has_no_times(
    bench: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, what: str
) -> None:
    monkeypatch.setattr(bench.floors, "ROWS", (kind,))
    monkeypatch.setattr(bench.leanest.Leanest, name, lambda self, *args: None)
    with pytest.raises(bench.groups.Disagreement, match=what):
        bench.floors.floors(setting)


def test_a_program_that_logs_nothing_has_no_times(
    bench: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.floors, "ROWS", ("update_nosync",))
    monkeypatch.setattr(bench.leanest.Log, "write", lambda self, record: None)
    with pytest.raises(bench.groups.Disagreement, match="leanest os answers a reopening"):
        bench.floors.floors(setting)


def test_without_t4dx_there_are_no_floors(bench: ModuleType, setting: Any) -> None:
    found = bench.floors.floors(setting._replace(engines=("sqlite",)))
    assert (found["floors"], found["systems"]) == ([], {})


def times(*rounds: float) -> dict[str, Any]:
    return {
        "p50": rounds[0],
        "p99": 9.0,
        "rounds_p50": list(rounds),
        "durability": "-",
        "rounds": len(rounds),
    }


def entry(*rows: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "floors", "systems": {}, "missing": [], "others": 0.0, "machine": "m", "size": [10, 2],
        "calibration": [{"matvec10K_ms": 1.0, "python_loop_ms": 1.0, "append_fdatasync_ms": 1.0}] * 2,
        "versions": {}, "command": "make bench", "when": "2026-01-01",
        "floors": [{"operation": name, "systems": systems} for name, systems in rows],
    }  # fmt: skip


def row_of(ours: float, lean: float, kernel: float | None = None) -> tuple[str, dict[str, Any]]:
    """One row of synced inserts (at most 0.6 is wanted) whose peer takes 1.0."""
    bare = {} if kernel is None else {"kernel sync": times(kernel)}
    own = {"t4dx sync": times(ours), "leanest sync": times(lean), "sqlite full": times(1.0)}
    return "insert_sync", own | bare


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((0.6, 0.5, 0.4), "met"),
        ((0.9, 0.5, 0.4), "missed by T4DX alone"),
        ((0.9, 0.7, 0.4), "**missed even by the leanest program**"),
        ((0.9, 0.7), "**missed even by the leanest program**"),
        ((0.9, 0.8, 0.7), "**missed even by the kernel alone**"),
        ((0.5, 0.8, 0.7), "met"),
    ],
)
def test_a_target_is_missed_by_t4dx_by_python_or_by_all(
    bench: ModuleType, figures: tuple[float, ...], verdict: str
) -> None:
    (floor,) = bench.floors_report.floors_of(entry(row_of(*figures)))
    assert floor.verdict() == verdict


def test_three_ratios_are_medians_over_rounds_worked_out_by_hand(bench: ModuleType) -> None:
    """T4DX / peer 2, 4, 3; leanest / peer 0.5, 1, 0.75; T4DX / leanest 4, 4, 4."""
    systems = {
        "t4dx os": times(4.0, 4.0, 6.0),
        "leanest os": times(1.0, 1.0, 1.5),
        "qdrant-edge": times(2.0, 1.0, 2.0),
    }
    stored = [entry(("get", systems))]
    rows = {row["system"]: row for row in bench.floors_report.rows_of(stored)}
    assert all(row.keys() >= COLUMNS and row["bench"] == "floor_get" for row in rows.values())
    ours, lean, peer = rows["t4dx os"], rows["leanest os"], rows["qdrant-edge"]
    assert (ours["ratio"], ours["over_peer"], ours["met"], ours["target"]) == (3.0, 3.0, False, "<= 0.6")
    assert (lean["ratio"], lean["over_peer"], lean["met"], lean["target"]) == (4.0, 0.75, False, "<= 0.6")
    assert (peer["ratio"], peer["over_peer"], peer["met"], peer["target"]) == (3.0, 1.0, None, None)
    line = bench.floors_report.lines_of(stored)[-1]
    assert line == (
        "| get one item with its vector | qdrant-edge: 2 ms | 4 ms | 1 ms | - | 3 | 0.75 | - | 4 "
        "| <= 0.6x qdrant-edge | **missed even by the leanest program** |"
    )


def test_without_the_peer_no_verdict_is_given(bench: ModuleType) -> None:
    stored = [entry(("get", {"t4dx os": times(4.0), "leanest os": times(1.0)}))]
    line = bench.floors_report.lines_of(stored)[-1]
    assert line.endswith("| 4 ms | 1 ms | - | - | - | - | 4 | <= 0.6x qdrant-edge | not measured |")
    rows = bench.floors_report.rows_of(stored)
    assert [(row["met"], row["against"], row["target"]) for row in rows] == [(None, None, None)] * 2


def test_the_page_counts_what_cannot_be_met(bench: ModuleType) -> None:
    stored = [entry(row_of(0.5, 0.4, 0.3), row_of(0.9, 0.5), row_of(0.9, 0.8), row_of(0.9, 0.8, 0.7))]
    page = bench.report.page([], stored)
    assert "## How far a Python program can go" in page
    assert (
        "Of 4 targets T4DX misses 3 here; the leanest program misses 2 of these as well, 1 of them by the "
        "kernel's time alone." in page
    )
    assert "How far a Python program can go" not in bench.report.page([], [{**entry(), "floors": []}])


def test_a_run_writes_the_table_and_its_rows(bench: ModuleType, tmp_path: Path) -> None:
    from experiments.storage_bench import __main__ as command

    run = ["--n", "100", "--dim", "8", "--rounds", "2", "--calls", "3", "--budget", "0.03"]
    run += ["--only", "load,floors", "--systems", "t4dx,sqlite"]
    run += ["--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    for name in ("load t4dx", "load sqlite normal", "floors"):
        assert command.main([*run, "--child", name]) == 0
    for _ in range(2):  # the second one puts its rows where the first one's stood
        assert command.main([*run, "--report"]) == 0
    rows = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())["rows"]
    floors = [row for row in rows if row["bench"].startswith("floor_")]
    assert len(floors) == 22
    assert all(row.keys() >= COLUMNS and row["value"] > 0 for row in floors)
    assert floors[0]["command"].endswith("--only floors --rounds 2 --calls 3 --budget 0.03'")
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert page.count("| T4DX / leanest |") == 1


def test_the_leanest_program_is_measured_anew_when_it_changes(bench: ModuleType) -> None:
    """Its source is part of the key under which a result is stored, and of no other group's."""
    from experiments.storage_bench import __main__ as command

    options = command.parse(["--n", "100"])
    file = ROOT / "experiments" / "storage_bench" / "leanest.py"
    assert command.key_of("floors", options) != command.key_of("get", options)
    assert file in command.sources_of("floors", options)
    assert file not in command.sources_of("get", options)
