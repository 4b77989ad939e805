"""Rows that may be among the best of a view: proposed by one-bit codes or by a graph, then scored exactly."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Bitmap, Graph
from t4dm.t4dx.codes import CodedColumn, Probe
from t4dm.t4dx.metrics import Query
from t4dm.t4dx.scoring import LIFE, Best, Column, Part, score, score_few

FEW: Final = 64
"""Rows up to which each is fetched by itself."""
_FIRST: Final = 32  # rows scored first, to know what is worth a look


class Walked(NamedTuple):
    """How many rows were scored, and the queries for which the graph fell short."""

    scored: int
    short: list[int]


def by_codes(
    part: Part, coded: CodedColumn, query: Query, asked: Sequence[int], best: Best, *, sureness: float
) -> int:
    """Score the rows whose codes leave it plausible that they are among the best; returns how many rows."""
    codes = coded.codes(part.block, int(part.places.max()) + 1)
    whole = len(part.places) == int(part.places[-1]) + 1 and bool((np.diff(part.places) == 1).all())
    near = codes.first(len(part.places)) if whole else codes.take(part.places)
    probe, scored = Probe(coded, query.fast[asked]), 0
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


def by_graph(
    part: Part,
    column: Column,
    graph: Graph,
    query: Query,
    asked: Sequence[int],
    best: Best,
    *,
    ef: int,
) -> Walked:
    """Score what a graph proposes among the rows of a part that lie in it. The graph is not trusted: what it
    may not return is dropped, and a query that got too few is named, to be searched otherwise.
    """
    mask, allowed = _allowed(part, graph)
    wanted = max(_FIRST, 2 * best.k)
    got = graph.search(query.raw[asked], wanted, ef=max(ef, wanted), allowed=allowed)[1]
    enough, short, scored = min(wanted, len(part.places)), list[int](), 0
    for place, found in zip(asked, got, strict=True):
        inside = np.unique(found[(found >= 0) & (found < graph.rows)])
        inside = inside[mask[inside]]
        if len(inside) < enough:
            short.append(place)
            continue
        rows = column.rows[inside]
        inverse = part.view.items["inv_norm"][rows]
        chosen = part._replace(rows=rows, places=inside, inverse=inverse, whole=False)
        if len(inside) <= FEW:
            score_few(chosen, query, place, best)
        else:
            score(chosen, query, [place], best)
        scored += len(inside)
    return Walked(scored, short)


def _allowed(part: Part, graph: Graph) -> tuple[NDArray[np.bool_], Bitmap | None]:
    """The places of a part that lies in a graph, and their bitmap; none where it reaches no others."""

    def make() -> tuple[Any, ...]:
        mask = np.zeros(graph.rows, bool)
        mask[part.places] = True
        every = len(part.places) + len(graph.unreached) == graph.rows
        return part.places, mask, None if every else np.packbits(mask, bitorder="little")

    if part.whole:
        kept = part.view.memo(f"allowed {part.code}", LIFE, make, also=weakref.ref(graph))
        if kept[0] is part.places:
            return kept[1], kept[2]
    _, mask, bits = make()
    return mask, bits
