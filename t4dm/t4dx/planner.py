"""Exact search: filters on columns first, their count decides, then scores and a fixed order.

Every answer holds min(k, matches) hits. The float32 matrix product only makes a shortlist that is provably
wide enough; scores come from a float64 dot product per row, so that they do not depend on what else was
searched, and equal vectors tie. Ties are broken by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.filters import Filter, Names
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import NO_ROWS, Array, Rows, View
from t4dm.t4dx.types import ITEM_TYPES, AsOf, Hit, Hits

_SMALL: Final = 128  # rows below which the shortlist costs more than it saves
Ranked = tuple[float, str, int, int]  # -score, id, view, row


class _Query(NamedTuple):
    unit: NDArray[np.float64]  # [Q, D], rows of norm 1 (or 0)
    fast: NDArray[np.float32]  # the same, rounded
    slack: float  # bound of |float32 product - true cosine|


def search(
    version: Version, queries: NDArray[np.float32], k: int, wheres: Sequence[Filter], as_of: AsOf | None
) -> list[Hits]:
    """The k nearest items of each query by cosine; `wheres` holds one filter, or one per query."""
    query = _prepare(queries)
    groups: dict[Filter, list[int]] = {}
    for place in range(len(queries)):
        groups.setdefault(wheres[place if len(wheres) > 1 else 0], []).append(place)
    found: list[list[Ranked]] = [[] for _ in queries]
    plans: list[list[dict[str, object]]] = [[] for _ in queries]
    for number, view in enumerate(version.views):
        for where, places in groups.items():
            rows = with_vectors(view, match(view, where, as_of))
            for place in places:
                plans[place].append({"view": number, "rows": view.n, "matches": len(rows), "path": "exact"})
            if len(rows):
                _score(view, number, rows, query, places, k, found)
    return [_top(version, ranked, k, plan) for ranked, plan in zip(found, plans, strict=True)]


def match(view: View, where: Filter, as_of: AsOf | None) -> Rows:
    """Item rows of a view that pass a filter, ascending where no session or id list leads."""
    cols = view.items
    rows = _candidates(view, where, as_of)
    for name in ("kappa", "importance"):
        if (span := getattr(where, name)) is not None and len(rows):
            values = cols[name][rows]
            rows = rows[(values >= span[0]) & (values <= span[1])]
    for name in ("event_time", "record_time"):
        if (span := getattr(where, name)) is not None and len(rows):
            values = cols[name][rows]
            rows = rows[(values >= span[0]) & (values < span[1])]
    if where.type is not None and len(rows):
        rows = rows[np.isin(cols["type"][rows], _type_codes(where.type))]
    if where.valid_at is not None and len(rows):
        rows = rows[
            (cols["valid_from"][rows] <= where.valid_at) & (where.valid_at < cols["valid_until"][rows])
        ]
    return rows


def count(version: Version, where: Filter, as_of: AsOf | None = None) -> int:
    """How many items pass a filter."""
    return sum(len(match(view, where, as_of)) for view in version.views)


def order(version: Version, where: Filter, as_of: AsOf | None, by: str) -> list[tuple[int, int]]:
    """(view, row) of all matches, sorted by a column and then by id; a leading "-" reverses the column."""
    falling, name = by.startswith("-"), by.removeprefix("-")
    keyed: list[tuple[Any, str, int, int]] = []
    for number, view in enumerate(version.views):
        rows = match(view, where, as_of)
        ids = [view.source.id_at(row) for row in rows.tolist()]
        keys: list[Any] = (
            [""] * len(ids) if name == "id" else (view.items[name][rows] * (-1 if falling else 1)).tolist()
        )
        keyed += zip(keys, ids, [number] * len(ids), rows.tolist(), strict=True)
    keyed.sort(reverse=falling and name == "id")
    return [(number, row) for _, _, number, row in keyed]


def with_vectors(view: View, rows: Rows) -> Rows:
    """The rows that have a vector."""
    return rows[view.items["vec_row"][rows] >= 0]


def _candidates(view: View, where: Filter, as_of: AsOf | None) -> Rows:
    if where.ids is not None:
        found = (view.item_row(item_id, as_of) for item_id in dict.fromkeys(where.ids))
        rows = np.array([row for row in found if row >= 0], np.int64)
    elif where.session is not None and as_of is None:
        parts = [view.session_rows(name) for name in dict.fromkeys(_names(where.session))]
        return parts[0] if len(parts) == 1 else np.concatenate([NO_ROWS, *parts])
    else:
        rows = view.visible_items(as_of)
    if where.session is not None and len(rows):
        codes = [code for name in _names(where.session) if (code := view.source.session_code(name)) >= 0]
        rows = rows[np.isin(view.items["session"][rows], codes)]
    return rows


def _score(
    view: View, number: int, rows: Rows, query: _Query, places: list[int], k: int, found: list[list[Ranked]]
) -> None:
    block, where = view.source.vectors, view.items["vec_row"][rows]
    scale = view.items["inv_norm"][rows]
    if len(rows) <= max(_SMALL, 2 * k):
        wide = block[where].astype(np.float64)
        for place in places:
            found[place] += _best(view, number, rows, _cosines(wide, scale, query.unit[place]), k)
        return
    fast = query.fast[places].T
    used = int(where.max()) + 1
    near = (block[:used] @ fast)[where] if 2 * len(rows) > used else block[where] @ fast
    near = near * scale[:, None]
    for column, place in enumerate(places):
        scores = near[:, column]
        edge = np.partition(scores, len(scores) - k)[len(scores) - k] - 2 * query.slack
        short = np.flatnonzero(scores >= edge)
        wide = block[where[short]].astype(np.float64)
        found[place] += _best(view, number, rows[short], _cosines(wide, scale[short], query.unit[place]), k)


def _cosines(wide: NDArray[np.float64], scale: Array, unit: NDArray[np.float64]) -> NDArray[np.float32]:
    cosines: NDArray[np.float64] = (wide * unit).sum(axis=1) * scale
    return cosines.astype(np.float32)


def _best(view: View, number: int, rows: Rows, scores: NDArray[np.float32], k: int) -> list[Ranked]:
    if len(rows) > k:
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= edge)
        rows, scores = rows[keep], scores[keep]
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    ranked = sorted((-score, view.source.id_at(row), number, row) for score, row in pairs)
    return ranked[:k]


def _top(version: Version, ranked: list[Ranked], k: int, plan: list[dict[str, object]]) -> Hits:
    ranked.sort()
    hits = [Hit(item_id, -score, version.views[v].item(row)) for score, item_id, v, row in ranked[:k]]
    return Hits(hits, plan=plan)


def _prepare(queries: NDArray[np.float32]) -> _Query:
    wide = queries.astype(np.float64)
    norms = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
    unit = np.divide(wide, norms, out=np.zeros_like(wide), where=norms > 0)
    # |fl(x.y) - x.y| <= D*u*|x||y| in any order of summation (Higham 2002, eq. 3.5), u = 2^-24;
    # the rest is for rounding the query
    return _Query(unit, unit.astype(np.float32), (queries.shape[1] + 4) * 2.0**-24 * 1.1)


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _type_codes(names: Names) -> list[int]:
    return [ITEM_TYPES.index(name) for name in _names(names) if name in ITEM_TYPES]
