"""Where the ticks of an axis go, and how numbers are written beside them."""

from __future__ import annotations

import math
from typing import NamedTuple

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Ticks(NamedTuple):
    """Tick positions, ascending, and the distance between two of them."""

    at: tuple[float, ...]
    step: float


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that needs at most `count` steps for `span`."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(step * power for step in STEPS if step * power >= raw * (1 - 1e-9))


def nice_ticks(low: float, high: float, *, count: int = 5) -> Ticks:
    """Round numbers inside `[low, high]`.

    An empty or reversed range has one tick, at `low`.
    """
    if is_single(low, high):
        return Ticks((low,), 1.0)
    step = nice_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Ticks(tuple(index * step for index in range(first, last + 1)), step)


def integer_ticks(low: float, high: float, *, count: int = 5) -> Ticks:
    """As `nice_ticks`, never between two whole numbers (steps, items, nights)."""
    ticks = nice_ticks(low, high, count=count)
    if ticks.step >= 1 and float(ticks.step).is_integer():
        return ticks
    step = float(max(1, math.ceil(ticks.step)))
    first, last = math.ceil(low / step), math.floor(high / step)
    return Ticks(tuple(index * step for index in range(first, last + 1)) or (low,), step)


def widened(low: float, high: float, *, count: int = 5) -> tuple[float, float]:
    """The range pushed outward to the next round numbers; a single value gets room on both sides."""
    if is_single(low, high):
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, low + room
    step = nice_step(high - low, count)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def tick_text(value: float, step: float) -> str:
    """A tick's number with as many decimals as the step needs: 0.25, 12, 30k, 1.5M, 2e+12."""
    if max(abs(value), step) >= 1e10 or step < 1e-5:
        return f"{value:.3g}"
    for limit, suffix in ((1e6, "M"), (1e4, "k")):
        if max(abs(value), step) >= limit:
            unit = 1e6 if suffix == "M" else 1e3
            return f"{value / unit:.{_decimals(step / unit)}f}{suffix}"
    return f"{value + 0.0:.{_decimals(step)}f}"


def is_single(low: float, high: float) -> bool:
    """Whether a range is empty, reversed, or no wider than the rounding of its ends."""
    return high - low <= 1e-12 * max(abs(low), abs(high), 1e-80)


def _decimals(step: float) -> int:
    for places in range(7):
        if math.isclose(step * 10**places, round(step * 10**places), abs_tol=1e-6):
            return places
    return 7
