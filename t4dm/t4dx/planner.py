"""Exact search: filters on columns first, their count decides, then scores and a fixed order.

Every answer holds min(k, matches) hits, best first, ties by id. A view whose hull cannot hold a match is not
looked at. `explain` tells all of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import match
from t4dm.t4dx.metrics import Query, Scores
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Rows, View
from t4dm.t4dx.types import AsOf, Hit, Hits
from t4dm.t4dx.zone_maps import pruned

_SMALL: Final = 128  # rows below which the shortlist costs more than it saves
Ranked = tuple[float, str, int, int]  # -score, id, view, row


class _Part(NamedTuple):
    """The rows of one view that pass a filter and have a vector in the collection."""

    view: View
    number: int
    code: int
    rows: Rows


def search(
    version: Version,
    queries: NDArray[np.float32],
    k: int,
    wheres: Sequence[Filter],
    as_of: AsOf | None,
    *,
    code: int = 0,
) -> list[Hits]:
    """The k nearest items of each query in one collection; `wheres` holds one filter, or one per query."""
    query = Query(queries, version.collections.rows[code].metric)
    groups: dict[Filter, list[int]] = {}
    for place in range(len(queries)):
        groups.setdefault(wheres[place if len(wheres) > 1 else 0], []).append(place)
    found: list[list[Ranked]] = [[] for _ in queries]
    plans: list[list[Mapping[str, object]]] = [[] for _ in queries]
    for number, view in enumerate(version.views):
        for where, places in groups.items():
            line = _search_view(version, number, view, where, as_of, code, query, places, k, found)
            for place in places:
                plans[place].append(line)
    return [_top(version, ranked, k, plan) for ranked, plan in zip(found, plans, strict=True)]


def count(version: Version, where: Filter, as_of: AsOf | None = None) -> int:
    """How many items pass a filter."""
    return sum(
        len(match(view, where, as_of, version.collections))
        for view in version.views
        if not pruned(view, where, as_of)
    )


def _search_view(
    version: Version,
    number: int,
    view: View,
    where: Filter,
    as_of: AsOf | None,
    code: int,
    query: Query,
    places: list[int],
    k: int,
    found: list[list[Ranked]],
) -> dict[str, object]:
    """Add the best of one view to what was found, and tell how."""
    started, rows = time.perf_counter(), np.zeros(0, np.int64)
    reason = pruned(view, where, as_of)
    if not reason:
        rows = match(view, where, as_of, version.collections)
        rows = rows[(view.items["vec_row"][rows] >= 0) & (view.items["collection"][rows] == code)]
    if len(rows) and k:
        _score(_Part(view, number, code, rows), query, places, k, found)
    return {
        "view": number,
        "rows": view.n,
        "matches": len(rows),
        "pruned": reason,
        "path": "exact" if len(rows) else "skipped",
        "seconds": time.perf_counter() - started,
    }


def _score(part: _Part, query: Query, places: list[int], k: int, found: list[list[Ranked]]) -> None:
    view, rows = part.view, part.rows
    block, where = view.source.vectors(part.code), view.items["vec_row"][rows]
    inverse = view.items["inv_norm"][rows]
    if len(rows) <= max(_SMALL, 2 * k):
        vectors = block[where]
        for place in places:
            found[place] += _best(part, rows, query.exact(vectors, inverse, place), k)
        return
    fast = query.fast[places].T
    used = int(where.max()) + 1
    products = (block[:used] @ fast)[where] if 2 * len(rows) > used else block[where] @ fast
    for column, place in enumerate(places):
        short = query.shortlist(products[:, column].astype(np.float64), inverse, place, k)
        scores = query.exact(block[where[short]], inverse[short], place)
        found[place] += _best(part, rows[short], scores, k)


def _best(part: _Part, rows: Rows, scores: Scores, k: int) -> list[Ranked]:
    if len(rows) > k:
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= edge)
        rows, scores = rows[keep], scores[keep]
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    ranked = sorted((-score, part.view.source.id_at(row), part.number, row) for score, row in pairs)
    return ranked[:k]


def _top(version: Version, ranked: list[Ranked], k: int, plan: list[Mapping[str, object]]) -> Hits:
    ranked.sort()
    hits = [
        Hit(item_id, -score, version.views[v].item(row, version.collections))
        for score, item_id, v, row in ranked[:k]
    ]
    return Hits(hits, plan=plan)
