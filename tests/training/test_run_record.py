"""The run folder: what it holds before, during and after a run."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import SafetensorError

from t4dm.errors import DiskFullError, RunFolderError, StoreFullError
from t4dm.training import run_record
from t4dm.training.run_record import RunRecord, changed, git_state, read_config, read_run

CONFIG = {"name": "small", "seed": 3, "model": {"width": 4}, "phase": {"lr": 0.1}}


def open_run(path: Path, **fields: object) -> RunRecord:
    return RunRecord.open(path, config=CONFIG, overrides=["seed=3"], seed=3, **fields)  # type: ignore[arg-type]


def test_what_ran_is_written_before_it_runs(tmp_path: Path) -> None:
    open_run(tmp_path / "run", parent="outputs/before", command=["t4dm", "train"])
    info = read_run(tmp_path / "run")
    assert info["status"] == "running"
    assert info["seed"] == 3
    assert info["parent"] == "outputs/before"
    assert info["command"] == ["t4dm", "train"]
    assert info["versions"]["torch"].startswith("2.")
    assert info["machine"]["cores"] >= 1
    assert read_config(tmp_path / "run") == CONFIG
    assert yaml.safe_load((tmp_path / "run/overrides.yaml").read_text()) == ["seed=3"]


def test_the_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/elsewhere/t4dm/apps/sleep.py", "run=RUN"])  # what runpy makes of it
    open_run(tmp_path, app="sleep")
    assert read_run(tmp_path)["command"] == ["t4dm", "sleep", "run=RUN"]


def test_a_run_that_ends_is_done_and_timed(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write_json("summary.json", {"recall": 0.5})
    info = read_run(tmp_path)
    assert info["status"] == "done"
    assert info["seconds"] >= 0
    assert info["ended"] >= info["started"]
    assert json.loads((tmp_path / "summary.json").read_text()) == {"recall": 0.5}
    assert not (tmp_path / "FAILED").exists()


def test_a_run_that_breaks_leaves_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path):
        _ = 1 / 0
    assert read_run(tmp_path)["status"] == "failed"
    assert "ZeroDivisionError: division by zero" in (tmp_path / "FAILED").read_text()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_is_not_a_failed_one(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), open_run(tmp_path):
        raise stop
    assert read_run(tmp_path)["status"] == "interrupted"
    assert not (tmp_path / "FAILED").exists()


def test_train_log_holds_what_the_run_logged_and_nothing_after(tmp_path: Path) -> None:
    log = logging.getLogger("t4dm.test")
    with open_run(tmp_path):
        log.info("night %d", 1)
    log.info("later")
    text = (tmp_path / "train.log").read_text()
    assert "night 1" in text
    assert "later" not in text


@pytest.mark.parametrize(
    "write",
    [
        lambda: Path("/dev/full").write_text("a"),
        lambda: save(torch.zeros(9), Path("/dev/full")),
        lambda: fail(SafetensorError("I/O error: No space left on device (os error 28)")),
        lambda: fail(StoreFullError("store")),
    ],
    ids=["python", "torch", "safetensors", "store"],
)
def test_a_full_disk_costs_one_line_that_says_how_to_go_on(tmp_path: Path, write: Callable[[], None]) -> None:
    with (
        pytest.raises(DiskFullError, match=rf"no space left .* {tmp_path} .* t4dm train \.\.\.$"),
        open_run(tmp_path),
    ):
        write()
    (tmp_path / "checkpoints/start.ckpt").mkdir()
    with pytest.raises(DiskFullError, match=rf"t4dm train resume={tmp_path}$"), open_run(tmp_path):
        write()
    assert read_run(tmp_path)["status"] == "failed"


def save(tensor: torch.Tensor, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(tensor, file)


def fail(error: Exception) -> None:
    raise error


def test_another_failure_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), open_run(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_a_log_on_a_full_disk_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.log").symlink_to("/dev/full")
    with open_run(tmp_path):
        logging.getLogger("t4dm").info("a line that finds no room")
    assert capsys.readouterr().err == ""
    assert read_run(tmp_path)["status"] == "done"


def test_a_folder_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        open_run(tmp_path / "file/run")


def git(folder: Path, *args: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(folder), *identity, *args], check=True, capture_output=True)


def test_git_state_tells_the_commit_and_what_is_not_in_it(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-m", "a")
    clean, no_diff = git_state(tmp_path)
    assert clean is not None
    assert (len(clean["sha"]), clean["dirty"], no_diff) == (40, False, "")
    (tmp_path / "a.py").write_text("a = 2\n")
    for name in ("b.py", "my nötes.txt"):
        (tmp_path / name).write_text("")
    dirty, diff = git_state(tmp_path)
    assert dirty == {"sha": clean["sha"], "dirty": True, "untracked": ["b.py", "my nötes.txt"]}
    assert "-a = 1" in diff
    assert "+a = 2" in diff


def test_outside_of_a_clone_there_is_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) == (None, "")


def test_the_uncommitted_diff_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run_record, "git_state", lambda _: ({"sha": "0", "dirty": True, "untracked": []}, "+a = 2\n")
    )
    open_run(tmp_path)
    assert (tmp_path / "uncommitted.diff").read_text() == "+a = 2\n"


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"has no run\.json; list them: t4dm runs ls"):
        read_run(tmp_path)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        read_config(tmp_path)


def test_changed_tells_both_values_at_their_paths() -> None:
    old = {"seed": 1, "model": {"width": 4, "blocks": 2}, "empty": {}}
    new = {"seed": 1, "model": {"width": 8, "heads": 2}, "empty": {}}
    assert changed(old, new) == {"model.width": (4, 8), "model.blocks": (2, None), "model.heads": (None, 2)}
