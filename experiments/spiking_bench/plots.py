"""One picture: time per token against the length of the window, with the fitted exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

STYLES: Final = {
    "lif": ("LIF", "#3b7a57", "o"),
    "attention": ("spike attention", "#b5533c", "s"),
    "rwkv": ("RWKV time mix", "#3a5f9e", "^"),
    "block": ("block", "#8a6d1d", "D"),
    "stack": ("stack", "#444444", "v"),
}


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """Write one `spiking_cost_<device>.svg` per device that has curves; returns their names."""
    curves = [row for row in rows if row["bench"].startswith("curve_")]
    names = []
    for device in sorted({row["device"] for row in curves}):
        own = [row for row in curves if row["device"] == device]
        names.append(f"spiking_cost_{device}.svg")
        _one(own, folder / names[-1])
    return names


def _one(curves: Sequence[Mapping[str, Any]], file: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(7.5, 5.0), layout="constrained")
    for row in curves:
        name, color, marker = STYLES[row["bench"].split("_")[1]]
        steps = [int(step) for step in row["points_ms"]]
        micros = [ms / step * 1e3 for step, ms in zip(steps, row["points_ms"].values(), strict=True)]
        label = f"{name}: time ~ T^{row['value']:.3f} ± {row['half_interval']:.3f}"
        axes.plot(steps, micros, color=color, marker=marker, markersize=5, linewidth=1.4, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({int(step) for row in curves for step in row["points_ms"]})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    width = curves[0]["bench"].rpartition("_d")[2]
    axes.set_xlabel(f"tokens T in a window, batch 1, width {width}")
    axes.set_ylabel("microseconds per token, forward and backward")
    axes.set_title("A flat line is cost linear in T; ± is the 95 % interval of the exponent", fontsize=9)
    axes.grid(alpha=0.25, which="both")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the legend above the curves
    axes.legend(fontsize=8, loc="upper left", ncols=2)
    file.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "t4dm"}):
        figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
