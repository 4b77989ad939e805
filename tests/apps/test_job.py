"""An app as a command: what a mistake costs, and that one failing job hides no other."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig

from t4dm.apps import job
from t4dm.config import plain
from t4dm.errors import TextSourceError
from t4dm.training.run_record import RunRecord

Argv = Callable[..., None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Argv:
    """Runs `task` as `t4dm train <arguments>` would."""

    def go(task: Callable[[DictConfig], float | None], *arguments: str) -> None:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["t4dm train", *arguments])

        @job.app("train")
        def main(cfg: DictConfig) -> float | None:
            return job.guarded(task, cfg)

        job.run(main, "train")

    return go


def recorded(cfg: DictConfig) -> float:
    with RunRecord.open(
        Path(cfg.paths.output), config=plain(cfg), overrides=[f"seed={cfg.seed}"], seed=cfg.seed
    ):
        if cfg.seed == 2:
            raise ValueError("two is no seed\nat all")
    return 1.0 / cfg.seed


def outputs(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "outputs").rglob("run.json"))


def test_a_run_has_a_folder_of_its_own_to_the_microsecond(command: Argv, tmp_path: Path) -> None:
    for _ in range(2):
        command(recorded, "name=claim")
    first, second = (path.parent for path in outputs(tmp_path))
    assert first != second
    assert first.parent == tmp_path / "outputs/train/claim"
    assert len(first.name) == len("2026-01-31_23-59-59-123456")


def test_a_failure_costs_one_line_and_leaves_its_traceback(
    command: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(recorded, "seed=2")
    said = capsys.readouterr().err
    folder = outputs(tmp_path)[0].parent
    assert stop.value.code == 1
    assert said == f"t4dm: ValueError: two is no seed; the traceback: cat {folder}/FAILED\n"
    assert "Traceback" in (folder / "FAILED").read_text()


def test_a_users_mistake_is_told_in_its_own_words(command: Argv, capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken(cfg: DictConfig) -> float:
        raise TextSourceError

    with pytest.raises(SystemExit):
        command(mistaken)
    assert capsys.readouterr().err == f"t4dm: {TextSourceError()}\n"


def test_ctrl_c_says_how_to_go_on(command: Argv, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(cfg: DictConfig) -> float:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        command(stopped)
    assert stop.value.code == 130
    assert "go on with: t4dm train resume=" in capsys.readouterr().err


def test_a_failing_job_does_not_hide_the_others(
    command: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(recorded, "-m", "seed=1,2,3")
    said = capsys.readouterr()
    folders = [path.parent for path in outputs(tmp_path)]
    assert stop.value.code == 1
    assert [folder.name for folder in folders] == ["0", "1", "2"]
    assert [(folder / "FAILED").exists() for folder in folders] == [False, True, False]
    assert "1 of 3 jobs failed" in said.err
    assert [
        line.split("│")[3].strip() for line in said.out.splitlines() if "seed=" in line and "│" in line
    ] == [
        "done",
        "failed",
        "done",
    ]


def test_a_job_that_failed_before_it_was_a_run_is_told_by_its_overrides(
    command: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(cfg: DictConfig) -> float:
        raise TextSourceError

    with pytest.raises(SystemExit):
        command(refused, "-m", "seed=7,8")
    table = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row[2:4]] for row in table] == [
        ["seed=7", "failed"],
        ["seed=8", "failed"],
    ]


def test_a_sweep_of_sound_jobs_ends_well(command: Argv, tmp_path: Path) -> None:
    command(recorded, "-m", "seed=1,3")
    assert len(outputs(tmp_path)) == 2


def test_a_sweeper_is_told_the_objective_and_nan_for_a_failure(command: Argv) -> None:
    told: list[float | None] = []

    def watched(cfg: DictConfig) -> float | None:
        told.append(job.guarded(recorded, cfg))
        return told[-1]

    with pytest.raises(SystemExit):
        command(watched, "-m", "seed=4,2")
    assert told[0] == 0.25
    assert told[1] is not None
    assert math.isnan(told[1])


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            "trianer.max_epochs=3",
            "no setting 'trianer.max_epochs' in train; did you mean trainer.max_epochs=<value>?",
        ),
        ("experment=smoke", "no setting 'experment' in train; did you mean experiment=<value>?"),
        ("experiment=smok", "no experiment 'smok'; choose one of: first_night, "),
        ("trainer.min_epochs=3", "left at its default in the config; to set it: +trainer.min_epochs=<value>"),
        ("+seed=3", "seed is in the config already; without the plus: seed=<value>"),
        ("qqq=3", "no setting 'qqq' in train; see what there is: t4dm train --cfg job"),
        ("data.files=[a", "cannot read the override"),
        ("seed", "cannot read the override 'seed'; write key=value, and quote it: 'key=[1,2]'"),
        ("ablation=null", "write key=value"),
    ],
)
def test_a_mistyped_override_is_one_line_with_the_fix(
    command: Argv, capsys: pytest.CaptureFixture[str], typed: str, line: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(recorded, typed)
    said = capsys.readouterr().err
    assert stop.value.code == 1
    assert said.count("\n") == 1
    assert line in said


def test_a_missing_config_folder_is_one_line(command: Argv, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(recorded, "--config-dir", "nowhere")
    assert capsys.readouterr().err.count("\n") == 1


def test_what_broke_the_composition_is_there_for_who_asks(
    command: Argv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigCompositionException):
        command(recorded, "qqq=3")
