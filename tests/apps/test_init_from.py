"""`init_from=`: a run that begins with what another one learnt, and says so where it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from t4dm.apps.train import RunResult, train
from t4dm.config import compose
from t4dm.errors import BeginningMismatchError, RunFolderError
from t4dm.persistence.bundle import load_bundle
from t4dm.persistence.recovery import newest_bundle
from t4dm.training.run_record import read_run


def learnt(folder: Path) -> dict[str, torch.Tensor]:
    bundle, _ = newest_bundle(folder / "checkpoints")
    assert bundle is not None
    return dict(load_bundle(bundle.info.path).tensors)


def test_phase_2_begins_with_the_weights_of_phase_1_and_with_a_store_and_a_plan_of_its_own(
    finished_run: RunResult, tiny: list[str], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*") if path.is_file()}
    typed = [f"init_from='{finished_run.folder}'", "phase=three_factor", "++phase.lr=0.0", "exam=none"]
    typed = [*(one for one in tiny if not one.startswith(("exam.", "+exam."))), *typed]
    second = train(compose("train", typed, output=tmp_path / "second"))
    first, now = learnt(finished_run.folder), learnt(second.folder)
    assert first.keys() == now.keys()
    assert all(torch.equal(first[name], now[name]) for name in first)  # with a rate of 0 nothing has moved
    assert read_run(second.folder)["parent"] is None
    assert "train/modulator" in (second.folder / "metrics.csv").read_text(encoding="utf-8")
    logs = [(run.folder / "train.log").read_text(encoding="utf-8") for run in (finished_run, second)]
    assert ["calibrated" in log for log in logs] == [True, False]  # only what no one has trained
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_path_without_a_run_is_refused_before_a_folder_is_made(tiny: list[str], tmp_path: Path) -> None:
    cfg = compose("train", [*tiny, f"init_from='{tmp_path / 'none'}'"], output=tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"none is no run folder: it has no config.yaml; list them"):
        train(cfg)
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_checkpoint_is_refused(
    finished_run: RunResult, tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(finished_run.folder / "config.yaml", tmp_path / "empty")
    cfg = compose("train", [*tiny, f"init_from='{tmp_path / 'empty'}'"], output=tmp_path / "run")
    with pytest.raises(RunFolderError, match="it has no whole checkpoint in checkpoints/"):
        train(cfg)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model.stack.width=64", r"of another shape is \S+ and \d+ more"),
        ("model.stack.blocks=2", r"it lacks \S+ and \d+ more"),
        ("++model.stack.recall=false", r"it also holds \S+ and \d+ more"),
    ],
)
def test_weights_of_another_model_are_refused_with_the_first_that_does_not_fit(
    change: str, told: str, finished_run: RunResult, tiny: list[str], tmp_path: Path
) -> None:
    typed = [*tiny, change, f"init_from='{finished_run.folder}'"]
    with pytest.raises(BeginningMismatchError, match=rf"fits another model: {told}; .* t4dm runs show \S+$"):
        train(compose("train", typed, output=tmp_path / "run"))
