"""`train`: one tiny run from a config to its report, and what its folder holds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from t4dm.apps.resume import filed_under, resumed
from t4dm.apps.train import RunResult, train
from t4dm.config import compose
from t4dm.errors import DevicesError, NoGpuError, ResumeMismatchError, RunFolderError
from t4dm.persistence.recovery import find_bundles
from t4dm.t4dx import T4DX
from t4dm.training.run_record import read_config, read_run


@pytest.fixture(scope="module")
def done(finished_run: RunResult) -> RunResult:
    return finished_run


def summary(run: RunResult) -> dict[str, Any]:
    return dict(json.loads((run.folder / "summary.json").read_text(encoding="utf-8")))


def test_the_folder_holds_everything(done: RunResult) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert names >= {
        "config.yaml",
        "overrides.yaml",
        "run.json",
        "metrics.csv",
        "checkpoints",
        "store",
        "nights.jsonl",
        "summary.json",
        "traces.npz",
        "report.html",
        "train.log",
    }
    assert not any(name.startswith(".exam") for name in names)
    assert read_run(done.folder)["status"] == "done"
    assert read_run(done.folder)["experiment"] == "smoke"


def test_the_saved_config_leads_nowhere_else(done: RunResult) -> None:
    text = (done.folder / "config.yaml").read_text(encoding="utf-8")
    assert "${" not in text
    assert yaml.safe_load(text)["storage"]["folder"] == str(done.folder / "store")


def test_the_summary_adds_up(done: RunResult) -> None:
    told = summary(done)
    assert set(told["recall"]) == {
        "frozen", "lora", "no_memory", "memory", "shuffled", "after_night", "in_prompt",
    }  # fmt: skip
    assert set(told["recall"]["memory"]) == {"1", "2"}
    assert told["chance"] == pytest.approx(1 / 16)
    items = told["items"]
    with T4DX.open(str(done.folder / "store"), dim=None, read_only=True) as store:
        assert store.count() == items["stored"]
    assert items["written"] <= items["offered"]
    assert items["stored"] == items["written"] - items["pruned"] + items["prototypes"]
    assert told["write_rate"] == items["written"] / items["offered"]
    assert sum(told["kappa"]["hist"]) == items["stored"]
    assert told["nights"] == len((done.folder / "nights.jsonl").read_text().splitlines()) == 1
    assert told["peak_memory_mib"] > 100
    seconds = told["seconds"]
    assert seconds["total"] == pytest.approx(
        seconds["train"] + seconds["sleep"] + seconds["evaluate"], abs=0.01
    )


def test_metrics_have_all_columns_from_the_first_row_on(done: RunResult) -> None:
    with (done.folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"step", "train/loss", "val/recall_accuracy", "write/rate", "sleep/replayed_items"} <= set(rows[0])
    assert float(rows[-1]["step"]) >= 1
    assert done.metrics["val/recall_accuracy"] >= 0


def test_checkpoints_leave_the_backbone_out(done: RunResult) -> None:
    bundles, broken = find_bundles(done.folder / "checkpoints")
    assert broken == []
    assert bundles
    assert (done.folder / "checkpoints/start.ckpt").is_dir()
    from t4dm.persistence.bundle import load_bundle

    learnt = load_bundle(bundles[0].path).tensors
    assert any("lora_" in name for name in learnt)
    assert not any("embed_tokens" in name for name in learnt)


def test_a_run_goes_on_in_a_folder_of_its_own(done: RunResult, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.folder.rglob("*") if path.is_file()}
    cfg = compose("train", [f"resume='{done.folder}'", "trainer.max_epochs=2"], output=tmp_path / "second")
    c, overrides = resumed(done.folder, ["trainer.max_epochs=2"], output=str(tmp_path / "second"))
    assert overrides[-1] == "trainer.max_epochs=2"
    assert c["trainer"]["max_epochs"] == 2
    went_on = train(cfg)
    assert read_run(went_on.folder)["parent"] == str(done.folder)
    assert read_config(went_on.folder)["model"] == read_config(done.folder)["model"]
    assert summary(went_on)["items"]["offered"] >= summary(done)["items"]["offered"]
    assert {path: path.stat().st_mtime_ns for path in done.folder.rglob("*") if path.is_file()} == before
    nights = went_on.folder / "nights.jsonl"
    slept = (
        [json.loads(line)["seconds"] for line in nights.read_text().splitlines()] if nights.exists() else []
    )
    assert len(slept) == summary(went_on)["nights"] - summary(done)["nights"]
    seconds = summary(went_on)["seconds"]
    assert seconds["sleep"] == pytest.approx(sum(slept), abs=0.001)
    assert seconds["train"] > 0


def test_a_resume_changes_trainer_and_loggers_alone(done: RunResult, tmp_path: Path) -> None:
    def go_on(*typed: str) -> dict[str, Any]:
        return resumed(done.folder, [f"resume={done.folder}", *typed], output=str(tmp_path))[0]

    assert go_on("keep_freed_memory=false")["keep_freed_memory"] is False
    assert go_on("logger=tensorboard")["logger"]["tensorboard"]["save_dir"] == str(tmp_path)
    assert go_on("model.stack.width=32")["model"]["stack"]["width"] == 32  # says what the run has already
    with pytest.raises(ResumeMismatchError, match=r"not model\.stack\.width: 32 -> 64; take these out"):
        go_on("model.stack.width=64")
    with pytest.raises(ResumeMismatchError, match=r"seed: 1234 -> 7"):
        go_on("seed=7", "trainer.max_epochs=3")


def test_a_resume_keeps_what_the_run_had_when_a_default_has_changed(
    done: RunResult, tiny: list[str], tmp_path: Path
) -> None:
    config = read_config(done.folder)
    copy = tmp_path / "old"
    copy.mkdir()
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "model": {**config["model"], "new": 1}}))
    (copy / "overrides.yaml").write_text(yaml.safe_dump(tiny))
    assert resumed(copy, [], output=str(tmp_path / "new"))[0]["model"]["new"] == 1


def test_a_resumed_run_is_filed_with_its_experiment(done: RunResult, tmp_path: Path) -> None:
    typed = f"resume={done.folder}"
    assert filed_under([typed, "trainer.max_epochs=2"]) == ["name='smoke'"]
    assert filed_under([typed, "name=other"]) == []
    assert filed_under(["experiment=smoke"]) == filed_under([f"resume={tmp_path}"]) == []


def test_the_folder_of_a_study_is_no_run_to_go_on_from(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("text: some text\nrun: null\nseed: 1234\n")
    assert filed_under([f"resume={tmp_path}"]) == []
    with pytest.raises(
        RunFolderError, match=r"it has no training in its config\.yaml; list them: t4dm runs ls"
    ):
        resumed(tmp_path, [], output=str(tmp_path / "new"))


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"t4dm runs ls"):
        train(compose("train", [f"resume={tmp_path}"], output=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("devices", ["2", "-1", "auto", "[0,1]"])
def test_a_second_device_is_refused_before_anything_is_written(
    tmp_path: Path, tiny: list[str], devices: str
) -> None:
    with pytest.raises(DevicesError, match=r"set trainer\.devices=1"):
        train(compose("train", [*tiny, f"trainer.devices={devices}"], output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # also where there is one
    with pytest.raises(NoGpuError, match=r"set trainer=cpu model\.backbone\.device=cpu$"):
        train(compose("train", ["experiment=recall_qwen05b"], output=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
