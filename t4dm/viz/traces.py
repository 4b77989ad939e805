"""Curves over the tokens of a text, one row above the other: membranes with their spikes, errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from t4dm.viz import svg
from t4dm.viz.chart import Scale
from t4dm.viz.raster import LEFT, TOP, WIDTH, column_width, token_axis
from t4dm.viz.ticks import nice_ticks, tick_text, widened

ROW, GAP = 74.0, 18.0


class TraceRow(NamedTuple):
    """One quantity `[T]`, drawn from token to token.

    `after` `[T]` is where it stands after a jump within the token (a membrane after its reset), `level` a
    height to compare with and `level_text` its name, `events` `[T]` bool where something happened.
    """

    name: str
    values: NDArray[Any]
    class_: str
    after: NDArray[Any] | None = None
    level: float | None = None
    level_text: str = ""
    events: NDArray[Any] | None = None


def trace_rows(
    rows: Sequence[TraceRow], tokens: Sequence[str], *, name: str, y_title: str, x_title: str
) -> Markup:
    """The rows above one another on the token axis, each with its own height and its name above it."""
    count = max(len(row.values) for row in rows)
    column = column_width(count)
    parts, y = [], TOP + 14.0
    for row in rows:
        parts += _row(row, column, y)
        y += ROW + GAP
    y -= GAP
    axis, bottom = token_axis(tokens, count, column, y + 4, title=x_title)
    parts += axis
    parts.append(svg.label(14.0, (TOP + y) / 2, y_title, class_="title", anchor="middle", rotate=-90.0))
    return svg.drawing(WIDTH, bottom, parts, name=name)


def _row(row: TraceRow, column: float, top: float) -> list[str]:
    drawn = [row.values, *([] if row.after is None else [row.after])]
    heights = [*np.concatenate(drawn).tolist(), *([] if row.level is None else [row.level])]
    low, high = widened(min(heights), max(heights), count=2)
    scale, right = Scale(low, high, top + ROW, top), LEFT + len(row.values) * column
    parts = [svg.rectangle(LEFT, top, right - LEFT, ROW, class_="strip")]
    ticks = nice_ticks(low, high, count=3)
    parts += [
        svg.label(LEFT - 6, scale(at) + 4, tick_text(at, ticks.step), class_="tick small", anchor="end")
        for at in ticks.at
    ]
    if row.level is not None:
        at = scale(row.level)
        parts.append(svg.segment(LEFT, at, right, at, class_="moment s-chance", title=row.level_text))
        parts.append(
            svg.label(right + 6, max(at + 4, top + 10), row.level_text, class_="small fill s-chance")
        )
    points = []
    for index, value in enumerate(row.values.tolist()):
        x = LEFT + (index + 0.5) * column
        points.append((x, scale(value)))
        if row.after is not None and row.after[index] != value:
            points.append((x, scale(float(row.after[index]))))
    parts.append(svg.polyline(points, class_=f"line thin {row.class_}", title=row.name))
    alone = len(row.values) == 1  # a line of one point would be too small to see
    events = [alone] if row.events is None or alone else row.events
    for place in np.flatnonzero(events).tolist():
        parts.append(
            svg.element(
                "circle",
                cx=LEFT + (place + 0.5) * column,
                cy=scale(float(row.values[place])),
                r=min(2.6, max(column / 2.5, 1.3)),
                class_=f"fill {row.class_}",
            )
        )
    parts.append(svg.label(LEFT, top - 4, row.name, class_=f"small fill {row.class_}"))
    return parts
