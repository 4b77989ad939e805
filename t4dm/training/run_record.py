"""The run folder: what ran, on what, from which code, and how it ended.

`RunRecord.open` writes config.yaml, overrides.yaml, run.json and the uncommitted diff before anything is
computed; as a context manager it adds train.log, the end time, and FAILED with the traceback.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import psutil
import torch
import yaml

from t4dm.errors import DiskFullError, RunFolderError, StoreFullError
from t4dm.t4dx.fs import FULL

PACKAGES = ["t4dm", "numpy", "torch", "lightning", "transformers", "peft", "safetensors", "hydra-core"]
PACKAGES += ["omegaconf", "scikit-learn", "msgpack", "bitsandbytes", "wandb", "hnswlib"]


def versions() -> dict[str, str]:
    """Installed versions of what a run depends on; absent extras are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Name, cores, memory and accelerators of this machine."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "devices": cuda or ["cpu"],
    }


def git_state(source: Path) -> tuple[dict[str, Any] | None, str]:
    """The commit that holds `source` and its uncommitted diff; `(None, "")` outside of a clone."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(source), *args], capture_output=True, text=True, check=True)
        return done.stdout

    try:
        sha = git("rev-parse", "HEAD").strip()
        diff = git("diff", "HEAD")
        untracked = git("ls-files", "-z", "--others", "--exclude-standard").split("\0")[:-1]
    except (OSError, subprocess.CalledProcessError):
        return None, ""
    return {"sha": sha, "dirty": bool(diff or untracked), "untracked": untracked}, diff


@final
class RunRecord:
    """A run folder being written.

    Example::

        with RunRecord.open(folder, config={"seed": 1}, overrides=["seed=1"], seed=1) as run:
            run.write_json("summary.json", {"recall": 1.0})
    """

    def __init__(self, path: Path, *, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self._handler: logging.Handler | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        config: Mapping[str, Any],
        overrides: Sequence[str] = (),
        seed: int,
        app: str = "train",
        experiment: str = "unnamed",
        parent: str | None = None,
        command: Sequence[str] = (),
    ) -> Self:
        """Make the folder and write all that is known before the run.

        Args:
            config: resolved, plain.
            overrides: as typed.
            app, experiment: what ran, for lists of runs.
            parent: the run folder this run goes on from.
            command: what was typed; where empty, the verb of `app` with the arguments of this process.

        Raises:
            DiskFullError: the disk is full.
        """
        git, diff = git_state(Path(__file__).resolve().parent)
        info = {
            "app": app,
            "experiment": experiment,
            "command": list(command) or ["t4dm", app, *sys.argv[1:]],
            "seed": seed,
            "parent": parent,
            "git": git,
            "versions": versions(),
            "machine": machine(),
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "ended": None,
            "seconds": None,
            "status": "running",
        }
        run = cls(path, info=info)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "checkpoints").mkdir(exist_ok=True)
            run._write("config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            run._write("overrides.yaml", yaml.safe_dump(list(overrides)))
            if diff:
                run._write("uncommitted.diff", diff)
            run.write_json("run.json", info)
        except OSError as error:
            raise _explained(error, path) from error
        return run

    def write_json(self, name: str, value: Any) -> Path:
        """Write `value` as JSON, whole or not at all; figures that are not finite become null."""
        return self._write(name, json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n")

    def _write(self, name: str, text: str) -> Path:
        target = self.path / name
        beside = target.with_name(f".{name}.part")
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
        return target

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._handler = _LogFile(self.path / "train.log", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for name in ("t4dm", "lightning.pytorch"):
            logging.getLogger(name).addHandler(self._handler)
        logging.getLogger("t4dm").setLevel(logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.info["ended"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.info["seconds"] = round(time.monotonic() - self._began, 3)
        self.info["status"] = _status(error)
        if self._handler is not None:
            for name in ("t4dm", "lightning.pytorch"):
                logging.getLogger(name).removeHandler(self._handler)
            self._handler.close()
        try:
            if self.info["status"] == "failed":
                self._write("FAILED", "".join(traceback.format_exception(kind, error, trace)))
            self.write_json("run.json", self.info)
        except OSError as full:
            if error is None:
                raise _explained(full, self.path) from full
        if error is not None and disk_is_full(error):
            raise _disk_full(self.path) from error


def read_run(path: Path) -> dict[str, Any]:
    """run.json of a run folder.

    Raises:
        RunFolderError: there is none.
    """
    file = path / "run.json"
    if not file.is_file():
        raise RunFolderError(str(path), "run.json")
    info: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return info


TRAINS: Final = {"name", "model", "phase"}
"""What the config of a training has, and that of a study has not."""


def read_config(path: Path) -> dict[str, Any]:
    """config.yaml of the folder of a training, plain.

    Raises:
        RunFolderError: there is none, or it is that of a study.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise RunFolderError(str(path), "config.yaml")
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not config.keys() >= TRAINS:
        raise RunFolderError(str(path), "training in its config.yaml")
    return config


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted paths."""
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        rows |= flat(value, f"{path}.") if isinstance(value, Mapping) and value else {path: value}
    return rows


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted paths at which two configs differ, with both values; an absent one is None."""
    before, after = flat(old), flat(new)
    paths = [*before, *(path for path in after if path not in before)]
    return {
        path: (before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _status(error: BaseException | None) -> str:
    if error is None:
        return "done"
    # Lightning turns Ctrl-C into SystemExit once its hooks have run
    return "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"


def disk_is_full(error: BaseException | None) -> bool:
    """Whether a full disk is what `error` comes from. Writers that are not Python say it in words alone."""
    while error is not None:
        if isinstance(error, StoreFullError) or (isinstance(error, OSError) and error.errno in FULL):
            return True
        if any(f"(os error {code})" in str(error) for code in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explained(error: OSError, path: Path) -> OSError | DiskFullError:
    return _disk_full(path) if disk_is_full(error) else error


def _disk_full(path: Path) -> DiskFullError:
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    resumable = any((path / "checkpoints").glob("*.ckpt"))
    return DiskFullError(str(path), shutil.disk_usage(folder).free / 2**20, resumable=resumable)


@final
class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short: whoever lost more than words there tells it, once."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing of a full disk."""
        if not disk_is_full(sys.exception()):
            super().handleError(record)

    def close(self) -> None:
        """Close it, with or without its last words."""
        with contextlib.suppress(OSError):
            super().close()
