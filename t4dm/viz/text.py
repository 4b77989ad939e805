"""How figures are written for people: percent, bytes, seconds, counts. Unknown values are a dash."""

from __future__ import annotations

import math

NONE = "\u2014"
NBSP = "\u00a0"


def number(value: float | None, digits: int = 3) -> str:
    """A plain number: whole ones with thousands apart, others with `digits` significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}".replace(",", "\u202f")


def percent(value: float | None, digits: int = 0) -> str:
    """A fraction in percent, `0.934 -> 93 %`."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{_unsigned_zero(100 * value, digits):.{digits}f}{NBSP}%"


def percent_range(values: list[float]) -> str:
    """The span of some fractions, `91 to 97 %`, or the one figure where they round to the same."""
    low, high = percent(min(values)), percent(max(values))
    return low if low == high else f"{low.removesuffix(NBSP + '%')} to {high}"


def size(count: float | None) -> str:
    """Bytes in the unit that leaves one to four digits before the point."""
    if count is None or not math.isfinite(count):
        return NONE
    unit, left = "B", float(count)
    for larger in ("KiB", "MiB", "GiB"):
        if left < 1024:
            break
        unit, left = larger, left / 1024
    return f"{left:.0f}{NBSP}{unit}" if unit == "B" else f"{left:.1f}{NBSP}{unit}"


def seconds(value: float | None) -> str:
    """A duration: `0.42 s`, `38 s`, `4 min 05 s`, `2 h 10 min`."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 10:
        return f"{value:.2g}{NBSP}s"
    whole = round(value)
    if whole < 60:
        return f"{whole}{NBSP}s"
    if whole < 3600:
        return f"{whole // 60}{NBSP}min {whole % 60:02d}{NBSP}s"
    return f"{whole // 3600}{NBSP}h {whole % 3600 // 60:02d}{NBSP}min"


def listed(words: list[str]) -> str:
    """`1`, `1 and 2`, `1, 2 and 4`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _unsigned_zero(value: float, digits: int) -> float:
    return abs(value) if round(value, digits) == 0 else value
