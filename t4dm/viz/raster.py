"""A spike raster: neurons over the tokens of one window, one strip per block, tokens spelled out below."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from t4dm.viz import svg
from t4dm.viz.palette import block_class

WIDTH, LEFT, RIGHT, TOP = 1060.0, 66.0, 74.0, 8.0
ROW_PX, STRIP_GAP, WIDEST = 1.7, 12.0, 60.0
MOST_NEURONS, MOST_TOKENS, LONGEST = 48, 96, 12
CONTROLS = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}


class Strip(NamedTuple):
    """The spikes of one block, `[T, D]`, nonzero where the neuron fired; `name` in place of its number."""

    block: int
    spikes: NDArray[Any]
    name: str = ""


def shown_neurons(width: int) -> NDArray[np.int64]:
    """Which neurons are drawn: all, or `MOST_NEURONS` evenly spaced ones."""
    return np.unique(np.linspace(0, width - 1, min(width, MOST_NEURONS)).astype(np.int64))


def printable(token: str) -> str:
    """A token as a reader knows it: no space marks, blanks made visible, cut when long."""
    text = token.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n").strip(" ")
    text = legible(text.replace("\n", "\u23ce").replace("\t", "\u21e5")) or "\u2423"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"


def legible(text: str) -> str:
    """The text with pictures for control characters, which a page must not hold."""
    return text.translate(CONTROLS)


def token_px(text: str) -> float:
    """An upper estimate of a token's length in pixels at its 10 px, where `svg.text_width` is a mean."""
    broad = sum(mark in "mwMW@%\u2026" or unicodedata.east_asian_width(mark) in "WF" for mark in text)
    return 10.0 * broad + 5.6 * (len(text) - broad)


def column_width(count: int) -> float:
    """Pixels of one token where `count` of them share the width; a few do not stretch to fill it."""
    return min((WIDTH - LEFT - RIGHT) / max(count, 1), WIDEST)


def raster(
    strips: Sequence[Strip],
    tokens: Sequence[str],
    *,
    name: str = "Spike raster of an example window, one strip per block",
    x_title: str = "Token of the example window",
) -> Markup:
    """All blocks above one another on the token axis, the mean firing rate of each at its right."""
    count = max(strip.spikes.shape[0] for strip in strips)
    column = column_width(count)
    parts, y = [], TOP
    for strip in strips:
        drawn, height = _strip(strip, column, y)
        parts += drawn
        y += height + STRIP_GAP
    y -= STRIP_GAP
    title = x_title if tokens else "Position in the example window (tokens)"
    axis, bottom = token_axis(tokens, count, column, y, title=title)
    parts += axis
    parts.append(svg.label(14.0, (TOP + y) / 2, "Neuron", class_="title", anchor="middle", rotate=-90.0))
    return svg.drawing(WIDTH, bottom, parts, name=name)


def _strip(strip: Strip, column: float, top: float) -> tuple[list[str], float]:
    spikes = np.asarray(strip.spikes) > 0
    neurons = shown_neurons(spikes.shape[1])
    height = max(len(neurons) * ROW_PX, 24.0)
    row = height / max(len(neurons), 1)
    length = spikes.shape[0] * column
    times, rows = np.nonzero(spikes[:, neurons])
    cells = (
        (LEFT + time * column + column * 0.1, top + (place + 0.5) * row)
        for time, place in zip(times.tolist(), rows.tolist(), strict=True)
    )
    class_ = block_class(strip.block)
    rate = 100 * float(spikes.mean()) if spikes.size else 0.0
    middle = top + height / 2
    return [
        svg.rectangle(LEFT, top, length, height, class_="strip"),
        svg.strokes(cells, length=column * 0.8, class_=f"stroke {class_}", width=row * 0.85),
        svg.label(
            LEFT - 8,
            middle + 4,
            strip.name or f"block {strip.block}",
            class_=f"small fill {class_}",
            anchor="end",
        ),
        svg.label(LEFT + length + 8, middle + 4, f"{rate:.1f} % fire", class_="small"),
    ], height


def token_axis(
    tokens: Sequence[str], count: int, column: float, y: float, *, title: str
) -> tuple[list[str], float]:
    """The line below token columns with the tokens' words, and where the picture ends below it."""
    every = max(1, -(-count // MOST_TOKENS))
    parts = [svg.segment(LEFT, y, LEFT + count * column, y, class_="axis")]
    for index in range(0, count, every):
        x = LEFT + (index + 0.5) * column
        text = printable(tokens[index]) if index < len(tokens) else str(index)
        parts.append(svg.segment(x, y, x, y + 3, class_="axis"))
        parts.append(svg.label(x + 3, y + 8, text, class_="token", anchor="end", rotate=-90.0))
    deep = 26.0 + max((token_px(printable(token)) for token in tokens), default=11.0)
    middle = max(LEFT + count * column / 2, LEFT + svg.text_width(title) / 2)
    parts.append(svg.label(middle, y + deep, title, class_="title", anchor="middle"))
    return parts, y + deep + 8
