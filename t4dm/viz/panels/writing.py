"""What the gate let into memory: the distribution of tau(t), and how often it wrote."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from t4dm.viz.chart import Chart
from t4dm.viz.metrics import Column
from t4dm.viz.over_training import Curve, chart_over_training, how_drawn, night_steps, traced
from t4dm.viz.panel import Figure, Panel
from t4dm.viz.run_folder import RunFolder, figure
from t4dm.viz.text import number, percent
from t4dm.viz.ticks import nice_ticks, widened

BINS = 40


def build(run: RunFolder) -> Panel:
    """The tau histogram from traces.npz; the write rate from traces.npz or metrics.csv."""
    figures, missing = [], []
    tau = _finite(run, "tau")
    if tau.size:
        figures.append(Figure(_histogram(tau), _tau_caption(tau)))
    else:
        missing.append("traces.npz has no gate values tau.")
    curves, nights = _curves(run), night_steps(run)
    if curves:
        top = max(float(curve.series.y.max()) for curve in curves)
        svg = chart_over_training(
            curves,
            y_title="Write rate and mean tau (0 to 1)",
            name="Write rate over training",
            nights=nights,
            y_range=(0.0, max(widened(0.0, top)[1], 0.1)),
        )
        figures.append(
            Figure(svg, f"Share of the offered spans that were stored. {how_drawn(curves, nights)}")
        )
    else:
        missing.append("Neither traces.npz nor metrics.csv has a write rate.")
    return Panel("writing", "Writing to memory", _lead(run), tuple(figures), missing=tuple(missing))


def _lead(run: RunFolder) -> str:
    items = run.summary.get("items")
    written = figure(items.get("written")) if isinstance(items, dict) else None
    offered = figure(items.get("offered")) if isinstance(items, dict) else None
    if written is None or not offered:
        return ""
    return (
        f"{number(written)} of {number(offered)} offered spans were written ({percent(written / offered)})."
    )


def _finite(run: RunFolder, name: str) -> Column:
    values = run.traces.get(name)
    if values is None or values.dtype.kind not in "uif":
        return np.zeros(0)
    flat = np.ravel(values).astype(np.float64)
    return flat[np.isfinite(flat)]


def _histogram(tau: Column) -> Markup:
    edges = np.linspace(0.0, 1.0, BINS + 1)
    heights = 100 * np.histogram(np.clip(tau, 0.0, 1.0), bins=edges)[0] / tau.size
    y = (0.0, widened(0.0, float(heights.max()))[1])
    chart = Chart(
        x=(0.0, 1.0),
        y=y,
        x_title="Gate value tau (0 to 1)",
        y_title="Spans (%)",
        name="Distribution of the write gate tau",
        x_ticks=nice_ticks(0.0, 1.0),
    )
    titles = [
        f"tau {edges[index]:.3f} to {edges[index + 1]:.3f}: {height:.1f} %"
        for index, height in enumerate(heights)
    ]
    chart.bars(edges.tolist(), heights.tolist(), class_="s-memory", titles=titles)
    return chart.svg()


def _tau_caption(tau: Column) -> str:
    return (
        f"Gate values tau of {number(tau.size)} offered spans: median {np.median(tau):.2f}, "
        f"{percent(float((tau > 0.5).mean()))} above one half."
    )


def _curves(run: RunFolder) -> list[Curve]:
    rate = run.metrics.series("write/rate")
    trace = run.traces.get("write_rate")
    if rate is None and trace is not None and trace.ndim == 1 and trace.dtype.kind in "uif":
        rate = traced(run, "write_rate", trace)
    tau = run.metrics.series("write/tau_mean")
    curves = [Curve(rate, "write rate", "s-memory", noisy=True)] if rate is not None else []
    return curves + ([Curve(tau, "mean tau", "s-train", noisy=True)] if tau is not None else [])
