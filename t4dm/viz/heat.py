"""Heat maps: a matrix as shades of one colour, channels over tokens, with a scale beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from t4dm.viz import svg
from t4dm.viz.png import data_uri, opacity_png
from t4dm.viz.raster import LEFT, TOP, WIDTH, column_width, token_axis
from t4dm.viz.text import number

MOST_ROWS = 128
SCALE_STEPS = 24
FAINTEST = 0.06  # so that the lowest value still differs from what is not there


def shades(
    levels: NDArray[Any], x: float, y: float, width: float, height: float, *, class_: str, title: str = ""
) -> str:
    """A matrix `[rows, columns]` of 0 to 1 as opacity of the class' colour, sharp at any size.

    The picture is a mask over a filled box, so that one drawing serves the light and the dark page.
    """
    png = opacity_png(levels)
    key = f"m{hashlib.sha256(png + f'{title} {x} {y}'.encode()).hexdigest()[:16]}"
    place: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height}
    picture = svg.element("image", **place, preserveAspectRatio="none", href=data_uri(png), class_="pixels")
    mask = svg.element("mask", id=key, maskUnits="userSpaceOnUse", **place, body=picture)
    box = svg.element("rect", **place, class_=f"shade {class_}", mask=f"url(#{key})", title=title)
    return mask + box


def heat_strip(
    values: NDArray[Any],
    tokens: Sequence[str],
    *,
    class_: str,
    name: str,
    y_title: str,
    x_title: str,
    height: float = 150.0,
) -> Markup:
    """A quantity `[T, channels]` with tokens from left to right and channels from top to bottom.

    The palest shade is the lowest value of all and the darkest the highest; the scale at the right names
    both. More than `MOST_ROWS` channels are averaged in neighbouring groups.
    """
    count, column = len(values), column_width(len(values))
    rows = _grouped(values).T
    low, high = float(rows.min()), float(rows.max())
    span = high - low if high > low else 1.0
    levels = (rows - low) / span if high > low else np.full(rows.shape, 0.5)
    width = count * column
    parts = [svg.rectangle(LEFT, TOP, width, height, class_="strip")]
    parts.append(
        shades(FAINTEST + (1 - FAINTEST) * levels, LEFT, TOP, width, height, class_=class_, title=name)
    )
    ends = {"top": number(high, 2), "bottom": number(low, 2) if high > low else ""}
    parts += scale_bar(LEFT + width + 10, TOP, height, **ends, class_=class_)
    axis, bottom = token_axis(tokens, count, column, TOP + height, title=x_title)
    parts += axis
    middle = TOP + height / 2
    parts.append(svg.label(14.0, middle, y_title, class_="title", anchor="middle", rotate=-90.0))
    for at, text in ((TOP + 9, "0"), (TOP + height, str(values.shape[1] - 1))):
        parts.append(svg.label(LEFT - 6, at, text, class_="tick small", anchor="end"))
    return svg.drawing(WIDTH, bottom, parts, name=name)


def scale_bar(x: float, y: float, height: float, *, top: str, bottom: str = "", class_: str) -> list[str]:
    """All shades, the darkest at the top, with the figures that both ends stand for; one shade without a
    bottom.
    """
    steps = SCALE_STEPS if bottom else 1
    each = height / steps
    parts = [
        svg.element(
            "rect",
            x=x,
            y=y + index * each,
            width=9.0,
            height=each + 0.3,
            class_=f"shade {class_}",
            fill_opacity=f"{FAINTEST + (1 - FAINTEST) * (1 - (index + 0.5) / steps):.2f}",
        )
        for index in range(steps)
    ]
    parts.append(svg.label(x + 13, y + 9, top, class_="tick small"))
    parts.append(svg.label(x + 13, y + height, bottom, class_="tick small"))
    return parts


def _grouped(values: NDArray[Any]) -> NDArray[np.float64]:
    """`[T, channels]` with at most `MOST_ROWS` columns: means of neighbours."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape[1] <= MOST_ROWS:
        return values
    parts = np.array_split(values, MOST_ROWS, axis=1)
    return np.stack([part.mean(axis=1) for part in parts], axis=1)
