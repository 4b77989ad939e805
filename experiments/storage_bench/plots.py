"""One picture: our time over the peer's for every operation, with what was wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from experiments.storage_bench.targets import TARGETS, Target


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write benchmarks.svg: bars of ratios on a logarithmic axis, a mark at each target."""
    judged = [row for row in rows if row["target"] and row["ratio"]][::-1]
    if not judged:
        return
    titles = {target.bench: _named(target) for target in TARGETS}
    figure, axes = pyplot.subplots(figsize=(8.5, 0.42 * len(judged) + 1.2), layout="constrained")
    for place, row in enumerate(judged):
        axes.barh(place, row["ratio"], color="#3b7a57" if row["met"] else "#b5533c", height=0.6)
        axes.plot([titles[row["bench"]][1]] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yticks(
        range(len(judged)), [f"{titles[row['bench']][0]} / {row['against'] or '50 ms'}" for row in judged]
    )
    axes.set_xlabel("T4DX time / peer's time; the black mark is the target, left of it is met")
    axes.tick_params(axis="y", labelsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "t4dx"}):
        figure.savefig(folder / "benchmarks.svg", metadata={"Date": None})
    pyplot.close(figure)


def _named(target: Target) -> tuple[str, float]:
    return target.title, target.at_most or 0.0


def draw_scaling(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write benchmarks_scaling.svg: the p50 of a search by the number of rows, a line per system; beside each
    point the recall of its answers.
    """
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        if row["bench"].startswith("scaling_"):
            size = int(row["bench"].removeprefix("scaling_").partition("x")[0])
            lines.setdefault(row["system"], []).append((size, row["p50"], row["recall"]))
    if not lines:
        return
    figure, axes = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")
    for system, points in sorted(lines.items()):
        sizes, times, recalls = zip(*sorted(points), strict=True)
        axes.plot(sizes, times, marker="o", label=system, linewidth=2 if system.startswith("t4dx") else 1)
        for size, milliseconds, recall in zip(sizes, times, recalls, strict=True):
            axes.annotate(
                f"{recall:.3f}", (size, milliseconds), fontsize=6, xytext=(3, 3), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows")
    axes.set_ylabel("p50 of a search, ms; its recall beside the point")
    axes.legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "t4dx"}):
        figure.savefig(folder / "benchmarks_scaling.svg", metadata={"Date": None})
    pyplot.close(figure)
