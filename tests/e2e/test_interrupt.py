"""Ctrl-C and kill -9 in the middle of a run: the store opens, and the run goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t4dm.apps.doctor import estimate
from t4dm.persistence.bundle import load_bundle
from t4dm.t4dx import T4DX
from t4dm.training.run_record import read_config, read_run

LONG = [
    *("experiment=smoke", "model.stack.width=32", "model.stack.blocks=1", "exam=none"),
    *("trainer.log_every_n_steps=1", "trainer.max_epochs=50", "trainer.limit_val_batches=0"),
]
PATIENCE = 240.0  # seconds; a loaded machine imports torch slowly


def start(tmp_path: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "t4dm.cli", "train", *overrides],
        env={**os.environ, "T4DM_OUTPUTS": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("train/loss") not in ("", "nan", None)]


def run_of(process: subprocess.Popen[str], root: Path, *, steps: int) -> Path:
    """The run's folder, once it has logged some steps."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for file in root.rglob("metrics.csv"):
            if len(rows(file.parent)) >= steps:
                return file.parent
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate()[1])


def items(run: Path) -> int:
    with T4DX.open(str(run / "store"), dim=None) as store:
        store.verify("quick")
        return store.count()


def last_step(run: Path) -> int:
    return int(float(rows(run)[-1]["step"]))


def go_on(tmp_path: Path, stopped: Path) -> Path:
    """Resume for a few more steps; the new folder."""
    step = last_step(stopped)
    root = tmp_path / "more"
    again = start(root, f"resume={stopped}", f"trainer.max_steps={step + 4}")
    said = again.communicate(timeout=PATIENCE)[1]
    assert again.returncode == 0, said
    # nothing of what the libraries remark: that is in train.log
    assert [line for line in said.splitlines() if not line.startswith("night ")] == []
    run = next(root.rglob("run.json")).parent
    assert read_run(run)["parent"] == str(stopped)
    assert run.parent.name == "smoke"  # filed with the experiment
    peak = json.loads((run / "summary.json").read_text(encoding="utf-8"))["peak_memory_mib"]
    assert estimate(read_config(run)).memory >= peak * 2**20  # what the doctor says; alone in its process
    return run


def test_ctrl_c_saves_and_the_run_goes_on_at_the_next_step(tmp_path: Path) -> None:
    process = start(tmp_path / "first", *LONG)
    run = run_of(process, tmp_path / "first", steps=3)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, said
    assert f"go on with: t4dm train resume={run}" in said
    assert [
        line for line in said.splitlines() if line and not line.startswith(("night ", "Interrupted; "))
    ] == []
    assert read_run(run)["status"] == "interrupted"
    assert not (run / "FAILED").exists()
    assert items(run) > 0
    more = go_on(tmp_path, run)
    done = load_bundle(run / "checkpoints/stopped.ckpt").state["global_step"]
    assert done > last_step(run)  # steps are counted from 0; the last one was finished, but not logged
    assert int(float(rows(more)[0]["step"])) == done
    assert items(more) >= items(run)


@pytest.mark.slow
def test_kill_9_loses_at_most_what_came_after_the_last_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path / "first", *LONG)
    run = run_of(process, tmp_path / "first", steps=5)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert items(run) > 0
    more = go_on(tmp_path, run)
    assert last_step(more) >= last_step(run)
