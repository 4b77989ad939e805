"""What a search, scan or scaling is restricted to: declarative, hashable predicates over columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, final

from t4dm.errors import FilterError
from t4dm.t4dx.conditions import as_predicate
from t4dm.t4dx.predicates import Predicate, paths

Range = tuple[float | None, float | None]
Names = str | tuple[str, ...]
Where = Predicate | Mapping[str, Any]


CLOSED: Final = ("kappa", "importance", "access_count")
"""Ranges of an item that include both ends."""
HALF_OPEN: Final = ("event_time", "record_time", "valid_from", "valid_until")
"""Ranges of an item that include their start and not their end."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which items count; every given field must hold.

    Attributes:
        kappa: (lo, hi), both included.
        importance: (lo, hi), both included.
        access_count: (lo, hi), both included.
        event_time: [from, until) in seconds; None or infinity leaves a side open.
        record_time: [from, until) in seconds.
        valid_from: [from, until) in seconds.
        valid_until: [from, until) in seconds; (t, None) also takes what is valid without end.
        type: one of "episodic", "semantic", "procedural", or several.
        session: one session or several.
        collection: one collection or several.
        ids: only these ids.
        content: a part of the content, case and all.
        valid_at: seconds; the item holds in the world then (valid_from <= t < valid_until).
        where: a condition on the metadata: `(F("user.name") == "ann") & (F("score") >= 0.5)`, or its dict
            form {"user.name": "ann", "score": {"gte": 0.5}}. See `predicates` for what it means.
    """

    kappa: Range | None = None
    importance: Range | None = None
    access_count: Range | None = None
    event_time: Range | None = None
    record_time: Range | None = None
    valid_from: Range | None = None
    valid_until: Range | None = None
    type: Names | None = None
    session: Names | None = None
    collection: Names | None = None
    ids: tuple[str, ...] | None = None
    content: str | None = None
    valid_at: float | None = None
    where: Where | None = None

    def __post_init__(self) -> None:
        for name in (*CLOSED, *HALF_OPEN):
            object.__setattr__(self, name, as_range(name, getattr(self, name)))
        for name in ("type", "session", "collection", "ids"):
            object.__setattr__(self, name, as_names(name, getattr(self, name)))
        if self.where is not None:
            object.__setattr__(self, "where", as_predicate(self.where))
        if self.content is not None and not isinstance(self.content, str):
            raise FilterError(f"content of a filter is a string, not {self.content!r}; write content='part'")

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Self:
        """A filter from plain values, as a config file or the command line holds them: {"type": "semantic",
        "kappa": [0.2, None], "where": {"user.name": "ann"}}.

        Raises:
            FilterError: a field that no filter has, or a value that it cannot take.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, Mapping) or (unknown := [name for name in fields if name not in known]):
            named = repr(unknown[0]) if isinstance(fields, Mapping) else repr(fields)
            raise FilterError(f"a filter has no field {named}; choose from {', '.join(known)}")
        return cls(**fields)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFilter:
    """Which edges count; every given field must hold.

    Attributes:
        type: one edge type or several.
        source: one id or several.
        target: one id or several.
        weight: (lo, hi), both included.
        record_time: [from, until) in seconds.
        valid_from: [from, until) in seconds.
        valid_until: [from, until) in seconds; (t, None) also takes what is valid without end.
        valid_at: seconds; the relation holds in the world then.
        lsn: only edges written up to this LSN.
        where: a condition on the properties, as in `Filter`.
    """

    type: Names | None = None
    source: Names | None = None
    target: Names | None = None
    weight: Range | None = None
    record_time: Range | None = None
    valid_from: Range | None = None
    valid_until: Range | None = None
    valid_at: float | None = None
    lsn: int | None = None
    where: Where | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "record_time", "valid_from", "valid_until"):
            object.__setattr__(self, name, as_range(name, getattr(self, name)))
        for name in ("type", "source", "target"):
            object.__setattr__(self, name, as_names(name, getattr(self, name)))
        if self.where is not None:
            where = as_predicate(self.where)
            object.__setattr__(self, "where", where)
            if any(path[0] == "" for path in paths(where)):
                raise FilterError(
                    "a condition on an edge looks at its properties; use the filter's own fields"
                )

    @property
    def immutable(self) -> bool:
        """Whether it asks only for what an edge never changes: such a scaling is logged as one rule."""
        mutable = (self.weight, self.valid_from, self.valid_until, self.valid_at, self.where)
        return all(value is None for value in mutable)


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
