from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.run_tables import diff_table, runs_table
from t4dm.viz.runs import Change, diff_runs, list_runs

RunMaker = Callable[..., Path]


def printed(table: object, *, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().replace("\u00a0", " ")


def test_every_run_is_listed_with_its_result(make_run: RunMaker, tmp_path: Path) -> None:
    folder = make_run(seed=3)
    (row,) = list_runs(tmp_path / "outputs")
    assert row.path == folder
    assert (row.app, row.experiment, row.status, row.seed, row.nights) == (
        "train",
        "first_night",
        "done",
        3,
        4,
    )
    assert row.memory == pytest.approx(0.95, abs=0.03)
    assert row.no_memory == pytest.approx(0.03, abs=0.03)
    assert row.seconds == pytest.approx(236.9)


def test_a_broken_run_does_not_hide_the_others(make_run: RunMaker, tmp_path: Path) -> None:
    make_run("2026-03-01_120000-000001")
    broken = make_run("2026-03-02_120000-000001")
    (broken / "summary.json").write_text("{", encoding="utf-8")
    make_run("2026-03-03_120000-000001", without=("summary.json",), status="interrupted")
    rows = {row.path.name[:10]: row for row in list_runs(tmp_path / "outputs")}
    assert [row.status for _, row in sorted(rows.items())] == ["done", "broken", "interrupted"]
    assert rows["2026-03-03"].memory is None
    assert rows["2026-03-03"].seconds == pytest.approx(237.1)


def test_a_folder_without_runs_lists_none(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_two_runs_differ_in_what_was_changed(make_run: RunMaker) -> None:
    one = make_run("a", config="seed: 1\nmodel:\n  blocks: 4\n  sizes: [1, 2]\nold: true\n")
    other = make_run("b", config="seed: 2\nmodel:\n  blocks: 4\n  sizes: [1, 3]\nnew: null\n")
    diff = diff_runs(one, other)
    assert diff.config == (
        Change("model.sizes", "1, 2", "1, 3"),
        Change("new", None, "none"),
        Change("old", "yes", None),
        Change("seed", "1", "2"),
    )
    assert diff.summary == ()


def test_results_that_differ_are_listed_by_their_path(make_run: RunMaker) -> None:
    diff = diff_runs(make_run("a", seed=1), make_run("b", seed=2))
    keys = [change.key for change in diff.summary]
    assert "recall.memory.1.mean" in keys
    assert "chance" not in keys


def test_a_diff_needs_two_run_folders(make_run: RunMaker, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="t4dm runs ls"):
        diff_runs(make_run(), tmp_path / "nowhere")


def test_a_config_that_is_no_yaml_is_named(make_run: RunMaker) -> None:
    one, other = make_run("a"), make_run("b", config="a: [1\nb: 2")
    with pytest.raises(BrokenRunFileError, match=r"b/config\.yaml is broken: it is not YAML .*line 2"):
        diff_runs(one, other)


def test_the_tables_print_runs_and_differences(make_run: RunMaker, tmp_path: Path) -> None:
    one, other = make_run("a", seed=1), make_run("b[x]", seed=2, status="failed")
    text = printed(runs_table(list_runs(tmp_path / "outputs")))
    assert "2 runs" in text
    assert "failed" in text
    text = printed(diff_table(diff_runs(one, other), left="a", right="b[x]"))
    assert "b[x]" in text
    assert "seed" in text
    assert "the same settings" in printed(diff_table(diff_runs(one, one), left="a", right="b"))


def test_80_columns_hold_the_whole_path_of_a_run(make_run: RunMaker, tmp_path: Path) -> None:
    make_run(status="interrupted")
    root = tmp_path / "outputs"
    rows = [row._replace(path=row.path.relative_to(tmp_path)) for row in list_runs(root)]
    text = printed(runs_table(rows), width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    body = text[text.index("outputs") :].splitlines()
    left = body[0].index("interrupted")
    assert "".join(line[:left].strip() for line in body) == str(rows[0].path)
    assert left >= 20
