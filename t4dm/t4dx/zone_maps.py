"""The hull of each column of a view, so that a search skips the views that cannot hold a match.

A hull is taken over the columns that readers see, overlays included, dead and closed rows too: it may be too
wide, never too narrow. It belongs to one column array, and a patched column is a new array, so a hull is
never out of date; the hulls of the columns that no write touched live on.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, NamedTuple, final

import numpy as np

from t4dm.t4dx.filters import CLOSED, HALF_OPEN, Filter
from t4dm.t4dx.tables import Array, Source, View
from t4dm.t4dx.types import ITEM_TYPES, AsOf


class Hull(NamedTuple):
    """Smallest and largest value of a column; (inf, -inf) without rows."""

    lo: float
    hi: float


@final
class _Known:
    """The hulls of one source, each with the column and the number of rows it was taken from."""

    def __init__(self) -> None:
        self.hulls: dict[str, tuple[weakref.ref[Array], int, Hull]] = {}


_SOURCES: Final[weakref.WeakKeyDictionary[Source, _Known]] = weakref.WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def hull(view: View, name: str) -> Hull:
    """The hull of an item column in a view."""
    with _LOCK:
        known = _SOURCES.setdefault(view.source, _Known())
    column, found = view.items[name], known.hulls.get(name)
    if found is not None and found[0]() is column and found[1] == view.n:
        return found[2]
    values = column[: view.n]
    fresh = Hull(float(values.min()), float(values.max())) if view.n else Hull(np.inf, -np.inf)
    known.hulls[name] = (weakref.ref(column), view.n, fresh)
    return fresh


def pruned(view: View, where: Filter, as_of: AsOf | None) -> str:
    """The field for which no row of a view can match, "" where some might."""
    if not view.n:
        return "rows"
    for name in CLOSED:
        if (span := getattr(where, name)) is not None:
            seen = hull(view, name)
            if seen.hi < span[0] or seen.lo > span[1]:
                return name
    for name in HALF_OPEN:
        if (span := getattr(where, name)) is not None:
            seen = hull(view, name)
            if seen.hi < span[0] or (seen.lo >= span[1] and span[1] < np.inf):
                return name
    return _pruned_by_name(view, where) or _pruned_by_time(view, where, as_of)


def _pruned_by_name(view: View, where: Filter) -> str:
    if where.type is not None:
        names = (where.type,) if isinstance(where.type, str) else where.type
        seen = hull(view, "type")
        codes = [ITEM_TYPES.index(name) for name in names if name in ITEM_TYPES]
        if not any(seen.lo <= code <= seen.hi for code in codes):
            return "type"
    if where.session is not None:
        names = (where.session,) if isinstance(where.session, str) else where.session
        if all(view.source.session_code(name) < 0 for name in names):
            return "session"
    return ""


def _pruned_by_time(view: View, where: Filter, as_of: AsOf | None) -> str:
    moments = [where.valid_at, None if as_of is None else as_of.valid]
    for moment in moments:
        if moment is not None and not (hull(view, "valid_from").lo <= moment < hull(view, "valid_until").hi):
            return "valid_at"
    if as_of is not None and as_of.record is not None and hull(view, "record_time").lo > as_of.record:
        return "as_of"
    return ""
