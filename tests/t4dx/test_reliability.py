"""The reliability runners at the size of one change; the sizes of a night are behind `-m nightly`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reliability import recall, report
from reliability.mutants import killed_by
from reliability.rows import Runner, Wrong, run, runner_named
from reliability.sabotage import MUTANTS

SEED = 1


def share(name: str, part: int, parts: int) -> None:
    """A share of a runner's cases at the size of one change."""
    runner = runner_named(name)
    run(runner, seed=SEED, size=runner.sizes["pr"], part=(part, parts)).assert_clean()


@pytest.mark.parametrize("part", range(8))
def test_random_operations_agree_with_dicts_and_numpy(part: int) -> None:
    share("model_ops", part, 8)


@pytest.mark.parametrize("part", range(5))
def test_a_power_cut_anywhere_leaves_a_state_that_was_with_all_that_was_acknowledged(part: int) -> None:
    share("crash_states", part, 5)


@pytest.mark.parametrize("part", range(2))
def test_kill_9_amid_four_writers_loses_nothing_acknowledged(part: int) -> None:
    share("kill9", part, 2)


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_log_gives_its_whole_records_or_refuses(part: int) -> None:
    share("torn_wal_offsets", part, 4)


@pytest.mark.parametrize("part", range(3))
def test_damage_in_any_type_of_file_is_an_error_or_changes_no_answer(part: int) -> None:
    share("bit_flips_per_type", part, 3)


@pytest.mark.parametrize("part", range(5))
def test_a_failing_call_or_allocation_loses_nothing_acknowledged(part: int) -> None:
    share("io_errors", part, 5)


def test_readers_beside_a_writer_see_whole_transactions_only() -> None:
    share("concurrency", 0, 1)


def test_other_processes_read_beside_the_writer_and_do_not_write() -> None:
    share("processes", 0, 1)


def test_an_interrupted_night_is_slept_exactly_once() -> None:
    share("cycle_once", 0, 1)


def test_older_stores_open_and_newer_ones_are_refused() -> None:
    share("upgrade", 0, 1)


@pytest.mark.parametrize("shape", recall.SHAPES)
def test_the_default_search_finds_the_nearest_behind_any_filter(shape: str) -> None:
    size = recall.RUNNER.sizes["pr"]
    cases = [case for case in recall.RUNNER.cases(SEED, size) if shape in case]
    row = run(replace(recall.RUNNER, cases=lambda seed, size: cases), seed=SEED, size=size)
    row.assert_clean()
    assert row.tried == len(recall.SHARES) * 3 * 13  # queries, each in three ways


def test_five_sabotaged_engines_are_noticed() -> None:
    share("mutants", 0, 1)


def test_there_are_enough_mutants_and_each_still_finds_what_it_breaks() -> None:
    assert len(MUTANTS) >= 62
    for mutant in MUTANTS.values():
        with mutant.at_work():
            pass


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted(report.TESTS))
def test_a_night_of(name: str) -> None:
    runner = runner_named(name)
    run(runner, seed=SEED, size=runner.sizes["nightly"], jobs=2).assert_clean()


def failing(case: str) -> int:
    if case == "2":
        raise Wrong("two is wrong", case="2,narrow")
    return 5


def test_a_row_counts_what_was_tried_and_tells_how_to_see_a_failure_again() -> None:
    runner = Runner("sums", lambda seed, size: [str(n) for n in range(size)], failing, {"pr": 4})
    row = run(runner, seed=9, size=4)
    assert (row.tried, row.lost, row.wrong) == (16, 0, 1)
    assert row.failures[0].command == "PYTHONPATH=tests/t4dx python -m reliability sums --case '2,narrow'"
    with pytest.raises(AssertionError, match="two is wrong"):
        row.assert_clean()


def test_the_report_names_every_row_with_its_command(tmp_path: Path) -> None:
    runner = Runner("upgrade", lambda seed, size: ["1"], failing, {"pr": 1})
    report.write([run(runner, seed=3, size=1)], tier="pr", folder=tmp_path)
    [row] = json.loads((tmp_path / "reliability.json").read_text())["rows"]
    assert (row["test"], row["tried"], row["lost"], row["wrong"], row["seed"]) == ("upgrade", 5, 0, 0, 3)
    command = "PYTHONPATH=tests/t4dx python -m reliability upgrade --seed 3 --size 1"
    assert row["command"] == command
    assert f"`{command}`" in (tmp_path / "reliability.md").read_text()


def test_the_row_of_a_test_is_that_of_its_larger_run(tmp_path: Path) -> None:
    runner = Runner("upgrade", lambda seed, size: ["1"] * size, failing, {"pr": 1, "nightly": 3})
    for tier in ("nightly", "pr"):
        report.write([run(runner, seed=3, size=runner.sizes[tier])], tier=tier, folder=tmp_path)
    written = json.loads((tmp_path / "reliability.json").read_text())
    assert [row["tried"] for row in written["rows"]] == [15]
    assert {name: rows[0]["tried"] for name, rows in written["tiers"].items()} == {"pr": 5, "nightly": 15}


def test_a_mutant_that_only_one_runner_sees_is_seen() -> None:
    found = killed_by("tombstones_are_lost_at_a_flush")
    assert found is not None
    assert "model_ops" in found.command
