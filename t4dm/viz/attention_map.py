"""Attention weights: which token takes how much from which, the mean of the heads large, each head small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from t4dm.viz import svg
from t4dm.viz.heat import scale_bar, shades
from t4dm.viz.raster import WIDTH, printable, token_px
from t4dm.viz.text import number

MORE, LESS = "s-memory", "s-after_night"
SIDE, TOP, WORDS = 340.0, 26.0, 86.0
LABEL_PX, LONGEST = 10.5, 7
PIXEL = 1.5  # the smallest cell that is drawn
HEADS_LEFT, HEAD_GAP = 580.0, 24.0


class Link(NamedTuple):
    """One look back: token `reader` takes `weight` of token `read`'s value, mean over the heads."""

    reader: int
    read: int
    weight: float


def attention_map(weights: NDArray[Any], tokens: Sequence[str], *, name: str) -> Markup:
    """Weights `[T, H, T]`: readers from top to bottom, what they read from left to right.

    Blue adds a value, orange takes it away; the darkest shade is the largest weight of each picture.
    """
    mean = weights.mean(axis=1)
    parts = _square(mean, WORDS, TOP, SIDE, title=f"{name}, mean over the heads")
    parts.append(svg.label(WORDS, TOP - 8, "mean over the heads", class_="small"))
    parts += _words(tokens, len(mean))
    parts += _scale(mean)
    longest = max((token_px(_word(token)) for token in tokens), default=0.0)
    bottom = TOP + SIDE + longest + 26
    parts.append(svg.label(WORDS + SIDE / 2, bottom, "Token that is read", class_="title", anchor="middle"))
    parts.append(
        svg.label(14.0, TOP + SIDE / 2, "Token that reads", class_="title", anchor="middle", rotate=-90.0)
    )
    drawn, heads_bottom = _heads(weights, name)
    return svg.drawing(WIDTH, max(bottom, heads_bottom) + 10, [*parts, *drawn], name=name)


def _heads(weights: NDArray[Any], name: str) -> tuple[list[str], float]:
    """Each head as a small square under its number and largest weight, and where they end."""
    count = weights.shape[1]
    columns = 2 if count <= 4 else 4 if count <= 16 else 6
    side = min((WIDTH - HEADS_LEFT - (columns - 1) * HEAD_GAP) / columns, 170.0)
    parts: list[str] = []
    for head in range(count):
        x = HEADS_LEFT + head % columns * (side + HEAD_GAP)
        y = TOP + head // columns * (side + HEAD_GAP)
        largest = number(float(np.abs(weights[:, head]).max(initial=0.0)), 2)
        parts += _square(weights[:, head], x, y, side, title=f"{name}, head {head}, at most {largest}")
        parts.append(svg.label(x, y - 5, f"head {head}: {largest}", class_="small"))
    return parts, y + side


def strongest(weights: NDArray[Any], *, count: int) -> list[Link]:
    """The largest looks at another token, by size, mean over the heads; a token's look at itself is none."""
    mean = np.array(weights.mean(axis=1), dtype=np.float64)
    np.fill_diagonal(mean, 0.0)
    order = np.argsort(-np.abs(mean), axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), mean.shape[1]) for place in order]
    return [
        Link(reader, read, float(mean[reader, read])) for reader, read in pairs if mean[reader, read] != 0
    ]


def pooled(matrix: NDArray[Any], most: int) -> NDArray[np.float64]:
    """A square matrix with at most `most` rows: of each cell of neighbours the entry of the largest size, so
    that a thin line does not fall between two pixels.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if len(matrix) <= most:
        return matrix
    starts = np.linspace(0, len(matrix), most, endpoint=False).astype(np.int64)

    def cells(values: NDArray[np.float64]) -> NDArray[np.float64]:
        across: NDArray[np.float64] = np.maximum.reduceat(values, starts, axis=0)
        found: NDArray[np.float64] = np.maximum.reduceat(across, starts, axis=1)
        return found

    more, less = cells(matrix), cells(-matrix)
    return np.where(more >= less, more, -less)


def _square(matrix: NDArray[Any], x: float, y: float, side: float, *, title: str) -> list[str]:
    matrix = pooled(matrix, int(side / PIXEL))
    largest = float(np.abs(matrix).max(initial=0.0)) or 1.0
    parts = [svg.rectangle(x, y, side, side, class_="strip")]
    for class_, part in ((MORE, matrix), (LESS, -matrix)):
        if (part > 0).any():
            parts.append(shades(np.clip(part / largest, 0, 1), x, y, side, side, class_=class_, title=title))
    return parts


def _words(tokens: Sequence[str], count: int) -> list[str]:
    each = SIDE / count
    every = max(1, -(-round(LABEL_PX * count) // round(SIDE)))
    parts = []
    for index in range(0, count, every):
        text, at = _word(tokens[index]), (index + 0.5) * each
        parts.append(svg.label(WORDS - 5, TOP + at + 3.5, text, class_="token", anchor="end"))
        parts.append(
            svg.label(WORDS + at + 3, TOP + SIDE + 6, text, class_="token", anchor="end", rotate=-90.0)
        )
    return parts


def _word(token: str) -> str:
    """A token's text, cut to what the margin holds."""
    text = printable(token)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\u2026"


def _scale(mean: NDArray[Any]) -> list[str]:
    largest, x = float(np.abs(mean).max(initial=0.0)), WORDS + SIDE + 16
    if not largest:
        return [svg.label(x, TOP + 10, "no weight", class_="small")]
    parts = scale_bar(x, TOP, 100.0, top=number(largest, 2), bottom="0", class_=MORE)
    if (mean < 0).any():
        parts += scale_bar(x, TOP + 130, 100.0, top=f"\u2212{number(largest, 2)}", bottom="0", class_=LESS)
    return parts
