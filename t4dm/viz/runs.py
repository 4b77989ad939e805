"""Finds the runs under a folder, and tells two of them apart by their configs and results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.panels.provenance import flattened
from t4dm.viz.recall_cells import recall_cells
from t4dm.viz.run_folder import FILES, Json, figure, mapping, read_object, read_text

UNKNOWN, BROKEN = "unknown", "broken"
MARKS = ("run.json", "config.yaml", "summary.json")


class RunRow(NamedTuple):
    """One run in a list. Accuracies are means over the distances; None where nothing was measured.

    `status` is what run.json says (running, done, interrupted, failed), `broken` where it cannot be read.
    """

    path: Path
    app: str
    experiment: str
    started: str
    status: str
    seed: int | None
    nights: int | None
    memory: float | None
    no_memory: float | None
    shuffled: float | None
    seconds: float | None


class Change(NamedTuple):
    """One value that two runs do not share; None where a run does not have it."""

    key: str
    left: str | None
    right: str | None


class RunDiff(NamedTuple):
    """What differs between two runs, keys in order: settings, then results."""

    config: tuple[Change, ...]
    summary: tuple[Change, ...]


def list_runs(outputs: Path) -> list[RunRow]:
    """Every run folder below `outputs`, oldest first. A broken one is listed as such and hides no other."""
    rows = [_row(folder, Path(outputs)) for folder in _run_folders(Path(outputs))]
    return sorted(rows, key=lambda row: (row.started, str(row.path)))


def diff_runs(left: Path, right: Path) -> RunDiff:
    """The settings and results in which two run folders differ.

    Raises:
        RunFolderError: one of them is no run folder, or its config or summary cannot be read.
    """
    for folder in (Path(left), Path(right)):
        if not any((folder / name).is_file() for name in FILES):
            raise RunFolderError(str(folder), "run.json or other file of a run")
    return RunDiff(
        _changes(_config(Path(left)), _config(Path(right))),
        _changes(read_object(Path(left) / "summary.json"), read_object(Path(right) / "summary.json")),
    )


def _run_folders(outputs: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(outputs):
        if any(mark in files for mark in MARKS):
            names.clear()
            yield Path(folder)
        else:
            names[:] = [name for name in sorted(names) if not name.startswith(".")]


def _row(folder: Path, outputs: Path) -> RunRow:
    try:
        run, summary = read_object(folder / "run.json"), read_object(folder / "summary.json")
        status = str(run.get("status") or UNKNOWN)
    except BrokenRunFileError:
        run, summary, status = {}, {}, BROKEN
    place = folder.relative_to(outputs).parts
    means = {arm: _mean(summary, arm) for arm in ("memory", "no_memory", "shuffled")}
    return RunRow(
        path=folder,
        app=str(run.get("app") or (place[0] if len(place) > 1 else "")),
        experiment=str(
            summary.get("experiment") or run.get("experiment") or (place[1] if len(place) > 2 else "")
        ),
        started=str(run.get("started") or folder.name),
        status=status,
        seed=_whole(summary.get("seed", run.get("seed"))),
        nights=_whole(summary.get("nights")),
        memory=means["memory"],
        no_memory=means["no_memory"],
        shuffled=means["shuffled"],
        seconds=figure(mapping(summary.get("seconds")).get("total", run.get("seconds"))),
    )


def _mean(summary: Json, arm: str) -> float | None:
    line = recall_cells(summary).get(arm)
    return sum(cell.mean for cell in line.values()) / len(line) if line else None


def _whole(value: object) -> int | None:
    number = figure(value)
    return int(number) if number is not None else None


def _config(folder: Path) -> Any:
    try:
        return yaml.safe_load(read_text(folder / "config.yaml")) or {}
    except yaml.YAMLError as error:
        where = str(getattr(error, "problem_mark", "")).strip() or "somewhere"
        raise BrokenRunFileError(folder / "config.yaml", f"it is not YAML ({where})") from error


def _changes(left: Any, right: Any) -> tuple[Change, ...]:
    old, new = dict(flattened(left)), dict(flattened(right))
    keys = [*old, *(key for key in new if key not in old)]
    return tuple(
        Change(key, old.get(key), new.get(key)) for key in sorted(keys) if old.get(key) != new.get(key)
    )
