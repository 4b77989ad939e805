"""Writes rank_search.html: what each rank and set of layers came to, in a picture and a table."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.chart import Chart
from t4dm.viz.page import filled, write_whole
from t4dm.viz.palette import SERIES, style_class
from t4dm.viz.panel import Figure, Panel, Table
from t4dm.viz.run_folder import read_object
from t4dm.viz.text import NONE, percent
from t4dm.viz.ticks import Ticks

NAME = "rank_search.html"
SETS = ("qv", "attention", "all")
Row = Mapping[str, Any]


def write_rank_page(folder: Path) -> Path:
    """Reads results.json and run.json of a study and writes its page; the same figures give the same bytes.

    Raises:
        RunFolderError: no study is there, or a file of it is broken.
        ReportNotWrittenError: the page cannot be saved.
    """
    target = Path(folder) / NAME
    results, run = read_object(Path(folder) / "results.json"), read_object(Path(folder) / "run.json")
    if not results:
        raise RunFolderError(str(folder), "results.json")
    try:
        write_whole(target, render(results, run))
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenRunFileError(Path(folder) / "results.json", f"it lacks figures ({error})") from error
    return target


def render(results: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The page as text."""
    rows, best = results["rows"], results["recommendation"]
    headline = "Nothing can be recommended: no job is finished."
    if best is not None:
        row = best["row"]
        headline = f"Take rank {row['rank']} on {row['targets']}: {best['reason']}."
    return filled(
        title="Which LoRA rank, on which layers?",
        folder=shlex.join(map(str, run.get("command") or [])),
        headline=headline,
        night="",
        scores=[],
        panels=[_panel(rows, best)],
        notes=_notes(rows),
    )


def _panel(rows: Sequence[Row], best: Mapping[str, Any] | None) -> Panel:
    perplexity = _chart(rows, "perplexity", "Perplexity of held-out text", scale=1.0)
    recall = _chart(rows, "recall", "Recall beyond the window (%)", scale=100.0)
    caption = "Each line is a set of layers, each point a rank. Whiskers: one standard error over the seeds."
    return Panel(
        "search",
        "Parameters, perplexity and recall",
        figures=(Figure(perplexity, caption, "half"), Figure(recall, caption, "half")),
        tables=(_table(rows, best),),
    )


def _chart(rows: Sequence[Row], what: str, title: str, *, scale: float) -> Markup:
    sizes = [math.log2(row["parameters"]) for row in rows]
    lows = [scale * (row[what] - (row[f"{what}_error"] or 0.0)) for row in rows]
    highs = [scale * (row[what] + (row[f"{what}_error"] or 0.0)) for row in rows]
    margin = 0.08 * (max(highs) - min(lows)) or 0.05 * max(highs) or 1.0
    kept = _apart(sizes)
    names = [name for name in SETS if any(row["targets"] == name for row in rows)]
    chart = Chart(
        x=(min(sizes) - 0.3, max(sizes) + 0.3),
        y=(min(lows) - margin, max(highs) + margin),
        x_title="LoRA parameters (logarithmic)",
        y_title=title,
        name=f"{title} against the number of LoRA parameters",
        x_ticks=Ticks(tuple(kept), 1.0),
        x_texts=[_short(2**size) for size in kept],
        labels=names,
    )
    for name in names:
        line = [row for row in rows if row["targets"] == name]
        xs = [math.log2(row["parameters"]) for row in line]
        chart.line(xs, [scale * row[what] for row in line], class_=style_class(name), label=name)
        for x, row in zip(xs, line, strict=True):
            error = row[f"{what}_error"]
            if error:
                low, high = scale * (row[what] - error), scale * (row[what] + error)
                chart.interval(x, low, high, class_=style_class(name))
            told = f"{name}, rank {row['rank']}: {scale * row[what]:.4g}"
            shape = SERIES[name].marker
            chart.point(x, scale * row[what], class_=style_class(name), shape=shape, title=told)
    return chart.svg()


def _apart(sizes: Sequence[float]) -> list[float]:
    """Those whose texts have room beside each other."""
    kept: list[float] = []
    for size in sorted(set(sizes)):
        if not kept or size - kept[-1] > 0.13 * (max(sizes) - min(sizes)):
            kept.append(size)
    return kept


def _table(rows: Sequence[Row], best: Mapping[str, Any] | None) -> Table:
    columns = (
        *("Rank", "Layers", "Seeds", "Parameters", "Perplexity", "Recall"),
        *("Peak memory (MiB)", "Training (s)", "Tokens per second", ""),
    )
    lines = tuple(
        (
            *(str(row["rank"]), row["targets"], str(row["seeds"]), f"{row['parameters']:,}"),
            *(_with_error(row, "perplexity"), percent(row["recall"], 1), f"{row['memory_mib']:,.0f}"),
            *(f"{row['seconds']:.0f}", _number(row["tokens_per_s"])),
            "recommended" if best is not None and row == best["row"] else "",
        )
        for row in rows
    )
    return Table(columns, lines, numeric=frozenset({0, 2, 3, 4, 5, 6, 7, 8}))


def _with_error(row: Row, what: str) -> str:
    error = row[f"{what}_error"]
    return f"{row[what]:.4g}" if error is None else f"{row[what]:.4g} \u00b1 {error:.2g}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def _short(parameters: float) -> str:
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e6 else f"{parameters / 1e3:.3g} K"


def _notes(rows: Sequence[Row]) -> list[str]:
    few = min((row["seeds"] for row in rows), default=0)
    if few > 1:
        return []
    return ["One seed tells nothing of the spread between seeds: add --seeds 1,2,3."]
