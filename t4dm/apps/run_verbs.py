"""What `t4dm runs ls|show|diff|report` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from t4dm.errors import NoRunsError
from t4dm.training.run_record import read_run
from t4dm.viz.closing_table import closing_table
from t4dm.viz.report import write_report
from t4dm.viz.run_folder import read_run_folder
from t4dm.viz.run_tables import diff_table, runs_table
from t4dm.viz.runs import diff_runs, list_runs


def ls(root: Path) -> None:
    """Print one line per run below `root`.

    Raises:
        NoRunsError: there is none.
    """
    rows = list_runs(root) if root.is_dir() else []
    if not rows:
        raise NoRunsError(str(root))
    console, table = Console(), runs_table(rows)
    if not console.is_terminal:  # in a file or a pipe a path stays whole
        console.width = console.measure(table, options=console.options.update(width=10_000)).maximum
    console.print(table)


def show(run: Path) -> None:
    """Print what a run was, and its closing table where it has one."""
    info = read_run(run)
    console = Console()
    for key, value in _facts(run, info).items():
        if value is not None:
            console.print(f"[bold]{key:10}[/bold] {value}", soft_wrap=True, highlight=False)
    if summary := read_run_folder(run).summary:
        console.print(closing_table(summary))


def _facts(run: Path, info: dict[str, Any]) -> dict[str, Any]:
    git, machine = info["git"] or {}, info["machine"]
    return {
        "status": info["status"],
        "started": info["started"],
        "seconds": info["seconds"],
        "seed": info["seed"],
        "overrides": " ".join(_overrides(run)),
        "commit": f"{git.get('sha', 'none')}{' + uncommitted.diff' if git.get('dirty') else ''}",
        "machine": f"{', '.join(machine['devices'])}, {machine['cores']} cores, {machine['memory_gib']} GiB",
        "parent": info["parent"],
        "report": run / "report.html" if (run / "report.html").exists() else None,
    }


def diff(one: Path, other: Path) -> None:
    """Print the settings and results in which two runs differ."""
    Console().print(diff_table(diff_runs(one, other), left=str(one), right=str(other)))


def report(run: Path) -> Path:
    """Write report.html again.

    Raises:
        RunFolderError: not a run folder.
    """
    return write_report(run)


def _overrides(run: Path) -> list[str]:
    file = run / "overrides.yaml"
    return list(yaml.safe_load(file.read_text(encoding="utf-8")) or []) if file.is_file() else []
