"""Reads a run folder as it lies on the disk: what is there, and in words what is not.

A run that was interrupted has no summary, a run without sleep has no nights: both are notes, not errors.
Only JSON that does not parse is an error, since the page would otherwise show half of it as the truth.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.metrics import EMPTY, LARGEST, Metrics, read_metrics

Json = dict[str, Any]
FILES = ("run.json", "config.yaml", "metrics.csv", "summary.json", "nights.jsonl", "traces.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The contents of one run folder; absent files are empty values, named in `notes`."""

    path: Path
    run: Json
    summary: Json
    metrics: Metrics
    nights: tuple[Json, ...]
    traces: Mapping[str, NDArray[Any]]
    config: str
    overrides: str
    store_bytes: int | None
    notes: tuple[str, ...]


def read_run_folder(path: Path) -> RunFolder:
    """Reads everything that the report shows.

    Raises:
        RunFolderError: `path` holds none of a run's files.
        BrokenRunFileError: run.json, summary.json or a line of nights.jsonl is not a JSON object.
    """
    path = Path(path)
    if not any((path / name).is_file() for name in FILES):
        raise RunFolderError(str(path), "run.json or other file of a run")
    notes: list[str] = []
    metrics = read_metrics(path / "metrics.csv") if (path / "metrics.csv").is_file() else EMPTY
    record = read_object(path / "run.json")
    return RunFolder(
        path=path,
        run=record,
        summary=read_object(path / "summary.json"),
        metrics=metrics,
        nights=_nights(path / "nights.jsonl", notes),
        traces=_traces(path / "traces.npz", notes),
        config=read_text(path / "config.yaml"),
        overrides=read_text(path / "overrides.yaml"),
        store_bytes=_folder_bytes(path / "store"),
        notes=(*_ending(record), *_missing(path, metrics), *notes),
    )


def read_object(path: Path) -> Json:
    """The JSON object in a file; empty where there is no file.

    Raises:
        BrokenRunFileError: the file is there but holds no JSON object.
    """
    if not path.is_file():
        return {}
    return _object(path, read_text(path), "the file")


def read_text(path: Path) -> str:
    """A text file, empty where there is none; bytes that are not UTF-8 become replacement characters."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def mapping(value: object) -> Json:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def figure(value: object) -> float | None:
    """The value where it is a number that can be drawn, else None (null, NaN, text, booleans, 1e200)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return float(value)


def figures(value: object) -> list[float]:
    """A list of numbers with 0 for what is none; empty where the value is no list."""
    return [figure(entry) or 0.0 for entry in value] if isinstance(value, list) else []


def _object(path: Path, text: str, where: str) -> Json:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BrokenRunFileError(path, f"{where} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise BrokenRunFileError(path, f"{where} holds a {type(value).__name__} where an object is expected")
    return value


def _nights(path: Path, notes: list[str]) -> tuple[Json, ...]:
    """One report per line. A last line without its line end was being written when the run stopped."""
    *whole, torn = read_text(path).split("\n")
    nights = [
        _object(path, line, f"line {index}") for index, line in enumerate(whole, start=1) if line.strip()
    ]
    if torn.strip():
        try:
            nights.append(_object(path, torn, "the last line"))
        except BrokenRunFileError:
            notes.append("The last night in nights.jsonl was cut short and is left out.")
    return tuple(nights)


def _traces(path: Path, notes: list[str]) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        return {}
    arrays = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except (ValueError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        notes.append(f"traces.npz could not be read to its end ({error}).")
    return arrays


def _ending(record: Json) -> list[str]:
    endings = {
        "running": "The run had not ended when this page was written, or was killed.",
        "interrupted": "The run was interrupted; resume it with: t4dm train resume=<this folder>",
        "failed": "The run failed; the file FAILED holds the reason.",
    }
    status = record.get("status")
    return [endings[status]] if isinstance(status, str) and status in endings else []


def _missing(path: Path, metrics: Metrics) -> list[str]:
    reasons = {
        "run.json": "seed, versions and machine are unknown",
        "config.yaml": "the configuration is unknown",
        "summary.json": "the run has not reached its end, so there is no evaluation",
        "nights.jsonl": "no night is recorded",
        "traces.npz": "there is no spike raster and no gate histogram",
    }
    notes = [f"{name} is missing: {why}." for name, why in reasons.items() if not (path / name).is_file()]
    if not (path / "metrics.csv").is_file():
        notes.append("metrics.csv is missing: there are no curves over training.")
    elif not metrics.rows:
        notes.append("metrics.csv is empty: the run stopped before its first log.")
    return notes


def _folder_bytes(path: Path) -> int | None:
    if not path.is_dir():
        return None
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:  # a store in use replaces its files while we look
            continue
    return total
