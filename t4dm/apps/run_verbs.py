"""What `t4dm runs ls|show|diff|report` do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from t4dm.apps.tables import closing_table
from t4dm.errors import RunFolderError
from t4dm.training.run_record import changed, find_runs, read_config, read_run


def ls(root: Path) -> None:
    """Print one line per run below `root`.

    Raises:
        RunFolderError: there is none.
    """
    runs = find_runs(root) if root.is_dir() else []
    if not runs:
        raise RunFolderError(
            str(root), "run.json anywhere below; start a run: t4dm train experiment=first_night"
        )
    table = Table("run", "status", "seconds", "seed", "overrides", box=None, header_style="bold")
    for run in runs:
        info = read_run(run)
        table.add_row(
            str(run), info["status"], str(info["seconds"] or ""), str(info["seed"]), " ".join(_overrides(run))
        )
    Console(soft_wrap=True).print(table)


def show(run: Path) -> None:
    """Print what a run was, and its closing table where it has one."""
    info = read_run(run)
    git = info["git"] or {}
    console = Console()
    for key, value in {
        "status": info["status"],
        "started": info["started"],
        "seconds": info["seconds"],
        "seed": info["seed"],
        "overrides": " ".join(_overrides(run)),
        "commit": f"{git.get('sha', 'none')}{' + uncommitted.diff' if git.get('dirty') else ''}",
        "machine": ", ".join(info["machine"]["devices"]) + f", {info['machine']['memory_gib']} GiB",
        "parent": info["parent"],
        "report": run / "report.html" if (run / "report.html").exists() else None,
    }.items():
        if value is not None:
            console.print(f"[bold]{key:10}[/bold] {value}", soft_wrap=True, highlight=False)
    if summary := _summary(run):
        console.print(closing_table(summary))


def diff(one: Path, other: Path) -> None:
    """Print where two runs differ, in config, versions, commit and results."""
    table = Table("", str(one), str(other), title="differences")
    sides: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
        (read_config(one), read_config(other)),
        *(({key: read_run(one)[key]}, {key: read_run(other)[key]}) for key in ("versions", "git", "machine")),
        ({"summary": _summary(one)}, {"summary": _summary(other)}),
    ]
    for before, after in sides:
        for path, (old, new) in changed(before, after).items():
            if not path.startswith("paths."):
                table.add_row(path, str(old), str(new))
    Console().print(table if table.row_count else "the two runs do not differ")


def report(run: Path) -> Path:
    """Write report.html again.

    Raises:
        RunFolderError: not a run folder.
    """
    from t4dm.viz.report import write_report

    read_run(run)
    return write_report(run)


def _overrides(run: Path) -> list[str]:
    file = run / "overrides.yaml"
    return list(yaml.safe_load(file.read_text(encoding="utf-8")) or []) if file.is_file() else []


def _summary(run: Path) -> dict[str, Any]:
    file = run / "summary.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
