"""Lists of runs and differences between two, as terminal tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from t4dm.viz.runs import RunDiff, RunRow
from t4dm.viz.text import NBSP, NONE, percent, seconds

COLOURS = {"done": "green", "failed": "red", "broken": "red", "interrupted": "yellow", "running": "cyan"}


def runs_table(rows: Sequence[RunRow]) -> Table:
    """One line per run, for `t4dm runs ls`; accuracies are means over the distances."""
    title = f"{len(rows)} run{'' if len(rows) == 1 else 's'}"
    # lean, so that 80 columns leave room for the path; a name cut short could not be typed
    table = Table(title=title, title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("status", no_wrap=True)
    for name in ("seed", "nights", "memory", "no\nmemory", "shuffled", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        status = f"[{COLOURS.get(row.status, 'default')}]{escape(row.status)}[/]"
        whole = (NONE if value is None else str(value) for value in (row.seed, row.nights))
        shares = (percent(value) for value in (row.memory, row.no_memory, row.shuffled))
        cells = (*whole, *shares, seconds(row.seconds))
        table.add_row(escape(str(row.path)), status, *(cell.replace(NBSP, " ") for cell in cells))
    return table


def diff_table(diff: RunDiff, *, left: str, right: str) -> Table:
    """Settings, then results, in which two runs differ, for `t4dm runs diff`."""
    same = "the same settings and results" if not (diff.config or diff.summary) else ""
    table = Table("key", escape(left), escape(right), caption=same, caption_justify="left", min_width=48)
    for part in (diff.config, diff.summary):
        for change in part:
            table.add_row(escape(change.key), _side(change.left), _side(change.right))
        table.add_section()
    return table


def _side(value: str | None) -> str:
    return NONE if value is None else escape(value)
