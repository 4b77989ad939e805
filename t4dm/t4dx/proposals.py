"""Rows that may be among the best of a view: proposed by one-bit codes or by a graph, then scored exactly."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Bitmap, Graph
from t4dm.t4dx.codes import CodedColumn, Probe, turning
from t4dm.t4dx.metrics import Query
from t4dm.t4dx.predicates import Mask
from t4dm.t4dx.scoring import LIFE, Best, Column, Part, score, score_few
from t4dm.t4dx.tables import Rows

FEW: Final = 64
"""Rows that a graph does not reach up to which they are scored with what it proposes."""
_FIRST: Final = 32  # rows scored first, to know what is worth a look


class Walked(NamedTuple):
    """How many rows were scored, and the queries for which the graph fell short."""

    scored: int
    short: list[int]


def by_codes(
    part: Part, coded: CodedColumn, query: Query, asked: Sequence[int], best: Best, *, sureness: float
) -> int:
    """Score the rows whose codes leave it plausible that they are among the best; returns how many rows."""
    places = part.places
    codes = coded.codes(part.block, int(places.max()) + 1)
    whole = len(places) == int(places[-1]) + 1 and bool((np.diff(places) == 1).all())
    near = codes.first(len(places)) if whole else codes.take(places)
    if query.turned is None:  # once, for all the columns that are searched by codes
        query.turned = turning(query.dim).turned(query.fast)
    probe, scored = Probe(coded, query.fast[asked], query.turned[asked]), 0
    for number, place in enumerate(asked):
        ceilings = query.ceiling(probe.ceilings(near, number, sureness), part.inverse, place)
        keep = _worth_a_look(part, query, ceilings, place, best)
        score(part.take(keep), query, [place], best)
        scored += len(keep)
    return scored


def _worth_a_look(
    part: Part, query: Query, ceilings: NDArray[Any], place: int, best: Best
) -> NDArray[np.int64]:
    """Places in the part of the rows that may reach the edge, and of those that told where it is."""
    edge, count = best.edge(place), max(_FIRST, 2 * best.k)
    if edge > -np.inf:
        return np.flatnonzero(ceilings >= edge)
    if len(ceilings) <= count:
        return np.arange(len(ceilings))
    high = np.partition(ceilings, len(ceilings) - count)[len(ceilings) - count]
    first = np.flatnonzero(ceilings >= high)[:count]
    told = Best(len(best.ranked), best.k)
    score(part.take(first), query, [place], told)
    keep = ceilings >= told.edge(place)
    keep[first] = True
    return np.flatnonzero(keep)


class Reach(NamedTuple):
    """What a graph holds of a part: `mask` [graph.rows] of its places, their number, their bitmap (None
    where the graph reaches no others), and the places of the part that it does not reach.
    """

    mask: Mask
    size: int
    allowed: Bitmap | None
    loose: Rows


def reach_of(part: Part, column: Column, graph: Graph) -> Reach:
    """What a graph holds of a part; kept where the part is all of the present."""
    if not part.whole:
        return _reach(part, column, graph)
    # an attribute of the part must not be kept: it would keep its view alive
    name, also = f"reach {part.code}", weakref.ref(graph)
    kept: Reach = part.view.memo(name, LIFE, lambda: _reach(part, column, graph), also=also)
    return kept


def _reach(part: Part, column: Column, graph: Graph) -> Reach:
    mask = part.mask(max(column.size, graph.rows))
    lonely = np.concatenate((graph.unreached, np.arange(graph.rows, len(mask))))
    loose = lonely[mask[lonely]]
    mask = mask[: graph.rows]
    mask[graph.unreached] = False
    count = part.count - len(loose)
    every = count + len(graph.unreached) == graph.rows
    return Reach(mask, count, None if every else np.packbits(mask, bitorder="little"), loose)


def by_graph(
    part: Part,
    column: Column,
    graph: Graph,
    reach: Reach,
    query: Query,
    asked: Sequence[int],
    best: Best,
    *,
    ef: int,
) -> Walked:
    """Score what a graph proposes among the rows of a part that it holds, and the few that it does not reach.
    The graph is not trusted: what it may not return is dropped, and a query that got too few is named, to be
    searched otherwise; for that one nothing was scored.
    """
    wanted = max(_FIRST, 2 * best.k)
    points = query.raw if query.metric == "l2" else query.fast
    compared = max(ef, wanted) if graph.width < query.dim else wanted
    got = graph.search(points[asked], compared, ef=max(ef, wanted), allowed=reach.allowed)[1]
    also = reach.loose if len(reach.loose) <= FEW else reach.loose[:0]
    enough, short, scored = min(wanted, reach.size), list[int](), 0
    for place, found in zip(asked, got, strict=True):
        inside = np.unique(found[(found >= 0) & (found < graph.rows)])
        inside = inside[reach.mask[inside]]
        if len(inside) < enough:
            short.append(place)
            continue
        inside = np.concatenate((inside, also)) if len(also) else inside
        chosen = part.other(column.rows[inside], inside)
        score_few(chosen, query, place, best)
        scored += len(inside)
    return Walked(scored, short)


def loose_part(part: Part, column: Column, reach: Reach) -> Part:
    """The rows of a part that a graph does not reach."""
    return part.other(column.rows[reach.loose], reach.loose)
