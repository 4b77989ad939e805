"""Charts over training: metrics against the step, with the nights marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from t4dm.viz.chart import Chart
from t4dm.viz.metrics import Series, smoothed, thinned
from t4dm.viz.run_folder import RunFolder, figure
from t4dm.viz.ticks import Ticks, integer_ticks, nice_ticks, widened

MOST_POINTS = 400
SMOOTH_FROM = 60
MARKED_FROM = 40


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
    room = 46.0
    last = -np.inf
    for index, step in enumerate(nights, start=1):
        fits = chart.x(step) - last >= room and chart.x(step) + room <= chart.x.stop
        label = f"night {index}" if fits else ""
        last = chart.x(step) if fits else last
        chart.moment(step, class_="s-after_night", title=f"night {index}, after step {step:.0f}", label=label)


def _y_ticks(y: tuple[float, float], integers: bool) -> Ticks:
    return integer_ticks(*y) if integers else nice_ticks(*y)
