"""Charts over training: metrics against the step, with the nights marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from t4dm.viz.chart import Chart
from t4dm.viz.metrics import LARGEST, Series, smoothed, thinned
from t4dm.viz.run_folder import RunFolder, figure
from t4dm.viz.ticks import Ticks, integer_ticks, nice_ticks, widened

MOST_POINTS = 400
SMOOTH_FROM = 60
MARKED_FROM = 40
NAME_PX, FEW_NIGHTS = 50.0, 8


class Curve(NamedTuple):
    """One line of a chart over training. A `noisy` one is drawn faint, with its moving mean on top."""

    series: Series
    label: str
    class_: str
    noisy: bool = False


def night_steps(run: RunFolder) -> list[float]:
    """The optimiser steps after which a night was logged, ascending."""
    logged = run.metrics.series("sleep/replayed_items", "sleep/seconds", "sleep/pruned_items")
    if logged is not None:
        return sorted(set(logged.x.tolist()))
    return sorted(step for night in run.nights if (step := figure(night.get("step"))) is not None)


def chart_over_training(
    curves: Sequence[Curve],
    *,
    y_title: str,
    name: str,
    nights: Sequence[float] = (),
    y_range: tuple[float, float] | None = None,
    integers: bool = False,
) -> Markup:
    """All curves on one step axis. The y range follows the moving means: one spike cannot flatten it."""
    drawn = [_smooth(curve) for curve in curves]
    y = y_range or widened(min(s.y.min() for s in drawn), max(s.y.max() for s in drawn))
    x = (min(0.0, *(curve.series.x.min() for curve in curves)), max(curve.series.x.max() for curve in curves))
    chart = Chart(
        x=x,
        y=y,
        x_title="Optimiser step",
        y_title=y_title,
        name=name,
        x_ticks=integer_ticks(*x),
        y_ticks=_y_ticks(y, integers),
        labels=[curve.label for curve in curves],
    )
    _mark_nights(chart, [step for step in nights if x[0] <= step <= x[1]])
    for curve, smooth in zip(curves, drawn, strict=True):
        _draw(chart, curve, smooth)
    return chart.svg()


def traced(run: RunFolder, name: str, values: NDArray[Any]) -> Series | None:
    """The finite points of an array `[n]` of traces.npz, against its `steps` where they fit."""
    y = np.asarray(values, dtype=np.float64)
    steps = run.traces.get("steps")
    fits = steps is not None and steps.shape == y.shape and steps.dtype.kind in "uif"
    x = np.asarray(steps if fits else np.arange(y.size), dtype=np.float64)
    kept = (np.abs(x) < LARGEST) & (np.abs(y) < LARGEST)
    return Series(name, x[kept], y[kept]) if kept.any() else None


def how_drawn(curves: Sequence[Curve], nights: Sequence[float]) -> str:
    """What a caption must say of faint and dashed lines, where there are any."""
    faint = any(curve.noisy and curve.series.x.size >= SMOOTH_FROM for curve in curves)
    moving = "Faint: every logged step; strong: moving mean over a thirtieth of the run." if faint else ""
    return f"{moving} {'Dashed: nights of sleep.' if len(nights) else ''}".strip()


def _smooth(curve: Curve) -> Series:
    size = curve.series.x.size
    if not curve.noisy or size < SMOOTH_FROM:
        return thinned(curve.series, most=MOST_POINTS)
    mean = smoothed(curve.series.y, window=max(5, size // 30))
    return thinned(Series(curve.series.name, curve.series.x, mean), most=MOST_POINTS)


def _draw(chart: Chart, curve: Curve, smooth: Series) -> None:
    if curve.noisy and curve.series.x.size >= SMOOTH_FROM:
        raw = thinned(curve.series, most=MOST_POINTS)
        chart.line(raw.x.tolist(), raw.y.tolist(), class_=f"faint {curve.class_}")
    chart.line(smooth.x.tolist(), smooth.y.tolist(), class_=curve.class_, label=curve.label)
    if smooth.x.size <= MARKED_FROM:
        for x, y in zip(smooth.x.tolist(), smooth.y.tolist(), strict=True):
            title = f"{curve.label} at step {x:.0f}: {y:.4g}"
            chart.point(x, y, class_=f"dot {curve.class_}", title=title)


def _mark_nights(chart: Chart, nights: Sequence[float]) -> None:
    """Each night is a rule; it is named where its name does not touch the one before."""
    few = "few" if len(nights) <= FEW_NIGHTS else "many"
    taken = -np.inf
    for number, step in enumerate(nights, start=1):
        fits = chart.x(step) - taken >= NAME_PX
        taken = chart.x(step) if fits else taken
        title = f"night {number}, after step {step:.0f}"
        name = f"night {number}" if fits else ""
        chart.moment(step, class_=f"{few} s-after_night", title=title, label=name)


def _y_ticks(y: tuple[float, float], integers: bool) -> Ticks:
    return integer_ticks(*y) if integers else nice_ticks(*y)
