"""The distribution of consolidation, kappa, before and after each night."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from t4dm.viz.chart import Chart
from t4dm.viz.night import Night, read_nights
from t4dm.viz.panel import Figure, Panel
from t4dm.viz.run_folder import RunFolder
from t4dm.viz.text import number
from t4dm.viz.ticks import integer_ticks, nice_ticks, widened

MOST_NIGHTS = 12


def build(run: RunFolder) -> Panel:
    """One small picture per night on common axes; of many nights, the first, the last and some between."""
    nights = read_nights(run.nights)
    drawn = [
        night for night in nights if night.kappa_before and len(night.kappa_before) == len(night.kappa_after)
    ]
    if not drawn:
        why = "nights.jsonl has no kappa histograms." if nights else "No night of sleep was recorded."
        return Panel("kappa", "Consolidation", missing=(why,))
    chosen = [
        drawn[i] for i in np.unique(np.linspace(0, len(drawn) - 1, min(len(drawn), MOST_NIGHTS)).astype(int))
    ]
    most = max(max(night.kappa_before + night.kappa_after) for night in chosen)
    top = widened(0.0, max(most, 1.0), count=3)[1]
    some = "" if len(chosen) == len(nights) else f" {len(chosen)} of {len(nights)} nights are shown."
    lead = (
        "How consolidated the stored memories are. Grey outline: the evening before; filled: the morning. "
        f"All nights share one scale.{some}"
    )
    return Panel(
        "kappa", "Consolidation", lead, tuple(Figure(_chart(n, top), _caption(n), "small") for n in chosen)
    )


def _chart(night: Night, top: float) -> Markup:
    edges = np.linspace(0.0, 1.0, len(night.kappa_after) + 1).tolist()
    chart = Chart(
        width=340.0,
        height=220.0,
        x=(0.0, 1.0),
        y=(0.0, top),
        x_title="kappa (0 fresh, 1 consolidated)",
        y_title="Items",
        name=f"Kappa before and after night {night.number}",
        x_ticks=nice_ticks(0.0, 1.0, count=4),
        y_ticks=integer_ticks(0.0, top, count=3),
    )
    pairs = zip(night.kappa_before, night.kappa_after, strict=True)
    titles = [
        f"kappa {edges[i]:.2f} to {edges[i + 1]:.2f}: {number(before)} before, {number(after)} after"
        for i, (before, after) in enumerate(pairs)
    ]
    chart.bars(edges, night.kappa_after, class_="s-after_night", titles=titles)
    chart.steps(edges, night.kappa_before, class_="s-before", title="before the night")
    return chart.svg()


def _caption(night: Night) -> str:
    before, after = night.mean_kappa
    if before is None or after is None:
        return f"Night {night.number}."
    return f"Night {night.number}: mean kappa {before:.2f} to {after:.2f}."
