"""Where the current versions of many ids lie, looked up together: for writes that name thousands of items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.tables import Draft, Rows

MANY: Final = 64
"""Ids from which this is faster than one by one."""


class Group(NamedTuple):
    """Current rows in one draft, and the places of their ids among those that were asked for."""

    draft: Draft
    places: Sequence[int]
    rows: list[int]


def locate(drafts: Sequence[Draft], ids: Sequence[str]) -> list[Group]:
    """The current versions of ids, by draft; an id that has none is in no group."""
    groups, left = list[Group](), np.arange(len(ids))
    for draft in drafts:
        if draft.n and len(left):
            names = ids if len(left) == len(ids) else [ids[place] for place in left.tolist()]
            rows = draft.part.source.only_rows(names)
            for place in np.flatnonzero(rows < -1).tolist():
                rows[place] = _newest(draft, names[place])
            current = _current(draft, rows)
            groups.append(Group(draft, left[current].tolist(), rows[current].tolist()))
            left = left[~current]
    return groups


def first_unknown(groups: Sequence[Group], ids: Sequence[str]) -> str | None:
    """The first id that is in no group."""
    if sum(len(group.rows) for group in groups) == len(ids):
        return None
    known = {place for group in groups for place in group.places}
    return next(name for place, name in enumerate(ids) if place not in known)


def occurring(drafts: Sequence[Draft], ids: Sequence[str]) -> list[int]:
    """Places of the ids that occur in some draft, in whatever version."""
    found = np.zeros(len(ids), np.bool_)
    for draft in drafts:
        if draft.n:
            found |= draft.part.source.only_rows(ids) != -1
    return np.flatnonzero(found).tolist()


def _newest(draft: Draft, item_id: str) -> int:
    rows = reversed(draft.part.source.rows_of(item_id))
    return next((row for row in rows if draft.current("items", row)), -1)


def _current(draft: Draft, rows: Rows) -> NDArray[np.bool_]:
    """Which of some rows, -1 for none, are alive and not closed."""
    alive, until = (draft.part.items[name] for name in ("alive", "record_until"))
    current = rows >= 0
    chosen = rows[current]
    current[current] = alive.base[chosen] & (until.base[chosen] == math.inf)
    logs = alive.log.last, until.log.last
    if any(logs):
        patched = [place for place, row in enumerate(rows.tolist()) if row in logs[0] or row in logs[1]]
        current[patched] = [draft.current("items", int(rows[place])) for place in patched]
    return current
