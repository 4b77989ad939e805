"""The speed table's harness, at a tiny size and with the two stores that need no further package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"bench", "system", "metric", "value", "ratio", "target", "machine", "versions", "command"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import experiments.storage_bench as package
    from experiments.storage_bench import data, groups, report, systems, targets  # noqa: F401

    return package


@pytest.fixture
def content(bench: ModuleType) -> Any:
    return bench.data.make(100, 8, extra=60)


@pytest.fixture
def loaded(bench: ModuleType, content: Any, tmp_path: Path) -> Any:
    """A tiny run whose two stores are loaded."""
    setting = bench.groups.Setting(
        content, tmp_path / "stores", tmp_path / "scratch", 2, 12, 2.0, ("t4dx", "sqlite")
    )
    for label in ("t4dx", "sqlite normal"):
        bench.groups.load(label, setting)
    return setting


def test_edges_are_ten_different_ones_from_each_item(content: Any) -> None:
    assert all(len({*row, num}) == 11 for num, row in enumerate(content.targets.tolist()))
    assert np.allclose(np.linalg.norm(content.vectors, axis=1), 1.0, atol=1e-5)


def test_data_is_the_same_every_time(bench: ModuleType, content: Any) -> None:
    again = bench.data.make(100, 8, extra=60)
    assert np.array_equal(again.vectors, content.vectors)
    assert (again.ids, again.targets.tolist()) == (content.ids, content.targets.tolist())


def test_both_stores_answer_alike(bench: ModuleType, loaded: Any) -> None:
    """get, 2 hops, a changed weight, a scaling and the nearest, against numpy and against each other."""
    stores, _ = bench.groups.copies(bench.groups.POINT["two_hops"], loaded)
    data, ours, theirs = loaded.data, stores["t4dx os"], stores["sqlite normal"]
    target = int(data.targets[7][0])
    for store in (ours, theirs):
        store.bump((7, target, 0.0625))
        store.scale(0.5)
    assert ours.get(7)[:2] == theirs.get(7)[:2] == (data.row(7).text, data.kappas[7])
    assert np.array_equal(ours.get(7).vector, theirs.get(7).vector)
    assert ours.two_hops(7) == {data.ids[num] for num in theirs.two_hops(7)}
    wanted = 0.5 * min(data.weights[7][0] + 0.0625, 1.0)
    assert ours.weight(7, target) == pytest.approx(wanted, abs=1e-6)
    assert theirs.weight(7, target) == pytest.approx(wanted, abs=1e-6)
    nearest = [data.ids[num] for num in bench.data.nearest(data.vectors[:100], data.vectors[3], 5)]
    assert ours.search(data.vectors[3], 5) == theirs.search(data.vectors[3], 5) == nearest
    ours.close()
    theirs.close()


def test_a_store_that_answers_otherwise_has_no_times(
    bench: ModuleType, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.storage_bench.systems import sqlite_system

    monkeypatch.setattr(sqlite_system, "_HOPS", "SELECT target FROM edges WHERE source = ?1")
    with pytest.raises(bench.groups.Disagreement, match="sqlite normal answers 2 hops"):
        bench.groups.point("two_hops", loaded)


def test_a_package_that_is_absent_costs_its_rows_only(
    bench: ModuleType, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kuzu", None)
    found = bench.groups.load("kuzu", loaded)
    assert found["systems"] == {}
    assert found["missing"][0]["label"] == "kuzu"


def test_a_ratio_is_the_median_of_the_rounds(bench: ModuleType) -> None:
    """2/1, 3/6, 8/2: a load that slows one round of both does not move it."""
    from experiments.bench import measure

    assert measure.ratio([2.0, 3.0, 8.0], [1.0, 6.0, 2.0]) == 2.0


def test_p50_and_p99_are_medians_over_rounds(bench: ModuleType) -> None:
    from experiments.bench import measure

    found = measure.summary([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [4.0, 5.0, 6.0]])
    assert (found["p50"], found["worst"], found["calls"]) == (5.0, 30.0, 9)
    assert found["p99"] == pytest.approx(5.98)


def test_systems_take_turns_and_the_first_one_changes(bench: ModuleType) -> None:
    from experiments.bench import measure

    seen: list[str] = []
    runs = {name: lambda turn, name=name: [seen.append(name) or 1.0] for name in ("a", "b")}
    found = measure.interleave(runs, rounds=2)
    assert seen == ["a", "b", "b", "a"]
    assert found == {"a": [[1.0], [1.0]], "b": [[1.0], [1.0]]}


def entry(group: str, systems: dict[str, Any], *, speed: float = 1.0) -> dict[str, Any]:
    return {
        "name": group, "systems": systems, "missing": [], "others": 0.0, "machine": "m", "size": [10, 2],
        "calibration": [{"matvec10K_ms": speed}, {"matvec10K_ms": 1.0}],
        "versions": {}, "command": "make bench", "when": "2026-01-01",
    }  # fmt: skip


def times(*rounds: float) -> dict[str, Any]:
    return {
        "p50": rounds[0],
        "p99": 9.0,
        "rounds_p50": list(rounds),
        "durability": "no sync",
        "rounds": len(rounds),
    }


def test_a_time_below_its_target_is_met(bench: ModuleType) -> None:
    stored = [
        entry("get", {"t4dx os": times(0.5, 0.6), "qdrant-edge": times(1.0, 1.0), "kuzu": times(5.5, 5.5)})
    ]
    rows = {row["system"]: row for row in bench.report.rows_of(stored)}
    ours = rows["t4dx os"]
    assert (ours["ratio"], ours["target"], ours["met"]) == (pytest.approx(0.55), "<= 0.6", True)
    assert rows["kuzu"]["ratio"] == pytest.approx(0.1)
    assert rows["kuzu"]["target"] is None


def test_a_rate_is_judged_by_its_time(bench: ModuleType) -> None:
    """30 times LanceDB's rate is 1/30 of its time."""
    ours = {"rate": 3000.0, "seconds": 1.0, "durability": "", "rounds": 1}
    theirs = {"rate": 100.0, "seconds": 30.0, "durability": "", "rounds": 1}
    stored = [entry("load t4dx", {"t4dx": ours}), entry("load lancedb", {"lancedb": theirs})]
    row = bench.report.rows_of(stored)[0]
    assert (row["system"], row["value"], row["ratio"]) == ("t4dx", 3000.0, pytest.approx(1 / 30))
    assert (row["target"], row["met"]) == ("<= 0.05", True)


def test_loads_at_uneven_speed_are_not_judged(bench: ModuleType) -> None:
    figure = {"rate": 3000.0, "seconds": 1.0, "durability": "", "rounds": 1}
    slow = {"rate": 100.0, "seconds": 30.0, "durability": "", "rounds": 1}
    stored = [entry("load t4dx", {"t4dx": figure}), entry("load lancedb", {"lancedb": slow}, speed=1.6)]
    row = bench.report.rows_of(stored)[0]
    assert (row["ratio"], row["met"]) == (pytest.approx(1 / 30), None)


def test_without_the_peer_nothing_is_claimed(bench: ModuleType) -> None:
    (row,) = bench.report.rows_of([entry("get", {"t4dx os": times(0.5)})])
    assert (row["ratio"], row["met"]) == (None, None)


def test_every_wish_of_the_plan_has_a_group(bench: ModuleType) -> None:
    from experiments.storage_bench import __main__ as command

    unjudged = {"search", "scaling"}  # a bundle, rows without a target
    unjudged |= {"shares", "floors", "search_shares", "search_floors"}  # profiles and limits
    assert {target.group for target in bench.targets.TARGETS} == set(command.names()) - unjudged


def test_every_part_of_a_call_is_counted_once(bench: ModuleType, loaded: Any) -> None:
    from experiments.storage_bench import shares, shares_report

    found = shares.shares(loaded)
    assert [(row["operation"], row["system"]) for row in found["shares"]][:2] == [
        ("insert", "t4dx sync"),
        ("update", "t4dx sync"),
    ]
    for row in found["shares"]:
        assert sum(row["parts"].values()) == pytest.approx(row["micros"], abs=0.1)
        assert (row["python_calls"] > 10) != (row["operation"] == "bulk_update")
    assert [row["operation"] for row in found["shares"]][-2:] == ["bulk_update", "bulk_load"]
    assert [row["operation"] for row in found["shares"] if row["parts"]["flush"]] == ["bulk_load"]
    kernel = {row["operation"]: row["parts"]["kernel"] for row in found["shares"]}
    assert kernel["get"] < kernel["update"]
    table = shares_report.lines_of([found])
    assert sum(line.startswith("| ") for line in table) == 2 + len(found["shares"])


def test_a_run_writes_its_report_and_goes_on_where_it_stopped(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.storage_bench import __main__ as command

    run = [
        "--n",
        "100",
        "--dim",
        "8",
        "--rounds",
        "2",
        "--calls",
        "10",
        "--budget",
        "0.1",
        "--only",
        "load,get",
    ]
    run += ["--systems", "t4dx,sqlite", "--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    for name in ("load t4dx", "load sqlite normal", "get"):
        assert command.main([*run, "--child", name]) == 0
    assert command.main(run) == 0
    assert "get: stored" in capsys.readouterr().out
    rows = json.loads((tmp_path / "docs" / "benchmarks.json").read_text())["rows"]
    assert all(row.keys() >= COLUMNS and row["value"] > 0 for row in rows)
    assert {(row["bench"], row["system"]) for row in rows} == {
        ("bulk_load", "t4dx"), ("bulk_load", "sqlite normal"), ("get", "t4dx os"), ("get", "sqlite normal")
    }  # fmt: skip
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "| get one item with its vector |" in page
    assert "## Calibration" in page


def test_the_command_repeats_what_was_not_default(bench: ModuleType) -> None:
    from experiments.storage_bench import __main__ as command

    options = command.parse(["--n", "500", "--dim", "8", "--rounds", "2", "--budget", "3"])
    assert command.repeat(options, "get") == "make bench N=500 DIM=8 ARGS='--only get --rounds 2'"


def test_an_unknown_row_group_is_named(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    from experiments.storage_bench import __main__ as command

    with pytest.raises(SystemExit):
        command.parse(["--only", "gett"])
    assert "no row group gett; choose from load, insert_sync" in capsys.readouterr().err
