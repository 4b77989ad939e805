"""What a search, scan or scaling is restricted to: declarative, hashable predicates over columns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

from t4dm.errors import FilterError

Range = tuple[float | None, float | None]
Names = str | tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which items count; every given field must hold.

    Attributes:
        kappa: (lo, hi), both included.
        importance: (lo, hi), both included.
        event_time: [from, until) in seconds; None or infinity leaves a side open.
        record_time: [from, until) in seconds.
        type: one of "episodic", "semantic", "procedural", or several.
        session: one session or several.
        ids: only these ids.
        valid_at: seconds; the item holds in the world then (valid_from <= t < valid_until).
    """

    kappa: Range | None = None
    importance: Range | None = None
    event_time: Range | None = None
    record_time: Range | None = None
    type: Names | None = None
    session: Names | None = None
    ids: tuple[str, ...] | None = None
    valid_at: float | None = None

    def __post_init__(self) -> None:
        for name in ("kappa", "importance", "event_time", "record_time"):
            object.__setattr__(self, name, as_range(name, getattr(self, name)))
        for name in ("type", "session", "ids"):
            object.__setattr__(self, name, as_names(name, getattr(self, name)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFilter:
    """Which edges count; every given field must hold. `weight` is (lo, hi), both included."""

    type: Names | None = None
    source: Names | None = None
    target: Names | None = None
    weight: Range | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", as_range("weight", self.weight))
        for name in ("type", "source", "target"):
            object.__setattr__(self, name, as_names(name, getattr(self, name)))


def as_range(name: str, value: Any) -> tuple[float, float] | None:
    """(lo, hi) with None as an open side; raises FilterError for anything else."""
    if value is None:
        return None
    try:
        lo, hi = value
        low, high = -math.inf if lo is None else float(lo), math.inf if hi is None else float(hi)
    except (TypeError, ValueError):
        raise FilterError(
            f"{name} of a filter is a pair of numbers, not {value!r}; write {name}=(0.2, 0.8)"
        ) from None
    if math.isnan(low) or math.isnan(high):
        raise FilterError(f"{name} of a filter has a NaN side; write None for an open side")
    return low, high


def as_names(name: str, value: Any) -> Names | None:
    """One string as it is, several as a tuple; raises FilterError for anything else."""
    if value is None or isinstance(value, str):
        return (str(value),) if name == "ids" and value is not None else value
    if isinstance(value, Iterable):
        names = tuple(str(v) if isinstance(v, str) else v for v in value)
        if all(isinstance(v, str) for v in names):
            return names
    raise FilterError(f"{name} of a filter is a string or several, not {value!r}; write {name}=('a', 'b')")


def selects(names: Names | None, value: str) -> bool:
    """Whether one string passes a names field."""
    return names is None or (value == names if isinstance(names, str) else value in names)
