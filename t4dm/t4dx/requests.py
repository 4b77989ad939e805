"""Writes that look at the state: what was asked for, until the commit turns it into finished operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.filters import EdgeFilter, Filter
from t4dm.t4dx.operators import AffineClip
from t4dm.t4dx.ops import Op
from t4dm.t4dx.types import Item

WeightMap = Callable[[NDArray[np.float64]], Any]


@final
@dataclass(frozen=True, slots=True)
class ScaleWhere:
    """A scaling as asked for; it becomes a rule, or a list of edges."""

    where: EdgeFilter
    operator: AffineClip


@final
@dataclass(frozen=True, slots=True)
class MapWhere:
    """A function of weights; it becomes the weights it gives."""

    where: EdgeFilter
    function: WeightMap


@final
@dataclass(frozen=True, slots=True)
class SetWhere:
    """Values for fields, checked already; it becomes the items that pass the filter, with these values."""

    where: Filter
    values: Mapping[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Supersede:
    """A new version of an item, or another item in its place."""

    item_id: str
    new: Item | None
    fields: Mapping[str, Any]
    link: bool
    now: float


@final
@dataclass(frozen=True, slots=True)
class Invalidate:
    """The end of an item's validity, and of what depends on it; `closed` is filled at the commit."""

    item_id: str
    at: float
    cascade: bool
    dry_run: bool
    closed: list[str] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True)
class Named:
    """The head of a transaction that has an id."""

    name: str
    undo: bool
    keep: int
    now: float


@final
@dataclass(frozen=True, slots=True)
class UndoOf:
    """The undo of a transaction."""

    name: str


Request = Op | ScaleWhere | MapWhere | SetWhere | Supersede | Invalidate | Named | UndoOf
