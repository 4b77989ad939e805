"""Search: filters on columns first, their count decides the way, then scores and a fixed order.

Every answer holds min(k, matches) hits, best first, ties by id. A view whose hull cannot hold a match is not
looked at. The others are searched exactly, by one-bit codes, or by a graph with a bitmap of what passes,
whichever is the cheapest; where a graph finds too little, the view is searched again without it. `explain`
tells all of it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx import costs
from t4dm.t4dx.ann import Graph
from t4dm.t4dx.codes import FEWEST, NARROWEST, CodedColumn, coded_column, turning
from t4dm.t4dx.costs import Choice, Costs, Task
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.ladders import ladder_of
from t4dm.t4dx.matching import match
from t4dm.t4dx.metrics import Query
from t4dm.t4dx.proposals import FEW, by_codes, by_graph, loose_part, reach_of
from t4dm.t4dx.scoring import Best, Column, Part, Ranked, column_of, part_of, score
from t4dm.t4dx.state import Version
from t4dm.t4dx.types import AsOf, Hit, Hits
from t4dm.t4dx.zone_maps import pruned

_LADDERS: Final[weakref.WeakKeyDictionary[Graph, tuple[float, ...]]] = weakref.WeakKeyDictionary()
_LOCK: Final = threading.Lock()
_TALLY: Final = threading.Lock()
_USUAL: Final = Costs()


class Aim(NamedTuple):
    """How good an answer must be: the share of the k best to find; the size of walks through graphs, None to
    let it follow; what work costs, None for what it does on this machine.
    """

    recall: float = costs.RECALL
    ef: int | None = None
    costs: Costs | None = None


def search(
    version: Version,
    queries: NDArray[np.float32],
    k: int,
    wheres: Sequence[Filter],
    as_of: AsOf | None,
    *,
    code: int = 0,
    aim: Aim = Aim(),  # noqa: B008
    tally: Counter[str] | None = None,
) -> list[Hits]:
    """The k nearest items of each query in one collection; `wheres` holds one filter, or one per query.

    `tally` is told how often views were searched in which way.
    """
    best, plans = _searched(version, queries, k, wheres, as_of, code, aim, tally)
    return [_top(version, ranked, k, plan) for ranked, plan in zip(best.ranked, plans, strict=True)]


def nearest(
    version: Version,
    queries: NDArray[np.float32],
    k: int,
    wheres: Sequence[Filter],
    as_of: AsOf | None,
    *,
    code: int = 0,
    aim: Aim = Aim(),  # noqa: B008
    tally: Counter[str] | None = None,
) -> list[list[tuple[str, float]]]:
    """What `search` finds, as ids with their scores: no item is loaded."""
    best, _ = _searched(version, queries, k, wheres, as_of, code, aim, tally)
    return [[(item_id, -score) for score, item_id, _, _ in sorted(ranked)[:k]] for ranked in best.ranked]


def _searched(
    version: Version,
    queries: NDArray[np.float32],
    k: int,
    wheres: Sequence[Filter],
    as_of: AsOf | None,
    code: int,
    aim: Aim,
    tally: Counter[str] | None,
) -> tuple[Best, list[list[Mapping[str, object]]]]:
    """The best of all views, and for each query how each view was searched."""
    query = Query(queries, version.collections.rows[code].metric)
    groups: dict[Filter, list[int]] = {}
    for place in range(len(queries)):
        groups.setdefault(wheres[place if len(wheres) > 1 else 0], []).append(place)
    best = Best(len(queries), k)
    plans: list[list[Mapping[str, object]]] = [[] for _ in queries]
    # the largest view first: what it holds spares the others
    order = sorted(range(len(version.views)), key=lambda number: -version.views[number].n)
    for number in order:
        for where, asked in groups.items():
            line = _search_view(version, number, where, as_of, code, query, asked, best, aim)
            if tally is not None:
                _note(tally, line, len(asked))
            for place in asked:
                plans[place].append(line)
    for plan in plans:
        plan.sort(key=_number)
    return best, plans


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
    where: Filter,
    as_of: AsOf | None,
    code: int,
    query: Query,
    asked: list[int],
    best: Best,
    aim: Aim,
) -> dict[str, Any]:
    """Add the best of one view to what was found, and tell how."""
    started, view = time.perf_counter(), version.views[number]
    line: dict[str, Any] = {"view": number, "rows": view.n, "matches": 0, "path": "skipped"}
    reason = line["pruned"] = pruned(view, where, as_of)
    if not reason:
        part = part_of(view, number, code, where, as_of, version.collections)
        line["matches"] = part.count
        if part.count and best.k:
            line |= _look(_Sight(part, query, asked, best, aim, _is_small(version, code, aim)))
    line["seconds"] = time.perf_counter() - started
    return line


class _Sight(NamedTuple):
    """A part of a view and who asks about it."""

    part: Part
    query: Query
    asked: list[int]
    best: Best
    aim: Aim
    small: bool  # the collection


def _is_small(version: Version, code: int, aim: Aim) -> bool:
    """Whether a whole collection is searched exactly."""
    least, views = (aim.costs or _USUAL).small, version.views
    return (
        sum(view.n for view in views) <= least or sum(column_of(view, code).size for view in views) <= least
    )


def _look(sight: _Sight) -> dict[str, Any]:
    """Choose a path and take it."""
    part, aim = sight.part, sight.aim
    column = column_of(part.view, part.code)
    if aim.recall >= 1.0 or sight.small:
        score(part, sight.query, sight.asked, sight.best)
        return {"path": "exact", "reason": "recall=1" if aim.recall >= 1.0 else "small"}
    graph = part.view.source.graph(part.code)
    if graph is None:
        return _scan(sight, column)
    reach = reach_of(part, column, graph)
    share = reach.size / max(1, graph.rows)
    if share < costs.LEAST_SHARE:
        return {**_scan(sight, column), "share": share}
    ladder = _ladder(graph, sight)
    ef = aim.ef or costs.walk_size(ladder, aim.recall, share, sight.best.k)
    if not ef:
        return {**_scan(sight, column), "share": share, "longest_walk": ladder[-1]}
    loose = len(reach.loose)
    task = _task(sight, column)._replace(graphed=reach.size, loose=loose, ef=ef, width=graph.width)
    choice = _choice(sight, task)
    if choice.path != "graph":
        return _scan(sight, column, choice)
    walked = by_graph(part, column, graph, reach, sight.query, sight.asked, sight.best, ef=ef)
    line = {**_told(sight, choice), "scored": walked.scored, "ef": ef, "share": share}
    if loose:
        line["loose"] = "exact"  # as a rule: a build leaves some without a way in
    if loose > FEW:
        others = [place for place in sight.asked if place not in walked.short]
        rest = sight._replace(part=loose_part(part, column, reach), asked=others)
        line["loose"] = _scan(rest, column)["path"] if others else line["loose"]
    if walked.short:
        line["fallback"] = len(walked.short)
        line["fallback_path"] = _scan(sight._replace(asked=walked.short), column)["path"]
    return line


def _scan(sight: _Sight, column: Column, choice: Choice | None = None) -> dict[str, Any]:
    """By codes or exactly."""
    coded = _coded(sight, column)
    choice = choice or _choice(sight, _task(sight, column))
    if choice.path == "codes" and coded is not None:
        sure = costs.sureness(sight.aim.recall)
        scored = by_codes(sight.part, coded, sight.query, sight.asked, sight.best, sureness=sure)
        return {**_told(sight, choice), "scored": scored}
    if coded is not None:
        coded.saved += choice.saving
    score(sight.part, sight.query, sight.asked, sight.best)
    return _told(sight, choice)


def _told(sight: _Sight, choice: Choice) -> dict[str, Any]:
    told = {"path": choice.path, "reason": choice.reason, "recall": sight.aim.recall}
    return {**told, "expected_seconds": choice.seconds}


def _task(sight: _Sight, column: Column) -> Task:
    coded, dim = _coded(sight, column), sight.query.dim
    return Task(
        matches=sight.part.count,
        places=column.size,
        dim=dim,
        queries=len(sight.asked),
        bits=turning(dim).bits if coded is not None else 0,
        uncoded=max(0, column.size - coded.done) if coded is not None else 0,
        saved=coded.saved if coded is not None else 0.0,
    )


def _choice(sight: _Sight, task: Task) -> Choice:
    return costs.choose(sight.aim.costs or costs.measured(), task, recall=sight.aim.recall)


def _coded(sight: _Sight, column: Column) -> CodedColumn | None:
    """The codes of a view's vectors, made or not; None where they are not worth having."""
    part, dim = sight.part, sight.query.dim
    if column.size < FEWEST or dim < NARROWEST:
        return None
    return coded_column(part.view.source, part.code, dim)


def _ladder(graph: Graph, sight: _Sight) -> tuple[float, ...]:
    """What walks of each size find in a graph: known to it, or measured at its first use."""
    found: tuple[float, ...] | None = getattr(graph, "ladder", None)
    if found is None:
        with _LOCK:
            found = _LADDERS.get(graph)
            if found is None:
                found = _LADDERS[graph] = ladder_of(graph, sight.part.block, sight.query.metric)
    return found


def _note(tally: Counter[str], line: Mapping[str, Any], queries: int) -> None:
    with _TALLY:
        tally[line["path"]] += queries
        if "fallback" in line:
            tally["fallback"] += line["fallback"]


def _number(line: Mapping[str, object]) -> int:
    found = line["view"]
    assert isinstance(found, int)
    return found


def _top(version: Version, ranked: list[Ranked], k: int, plan: list[Mapping[str, object]]) -> Hits:
    ranked.sort()
    hits = [
        Hit(item_id, -score, version.views[v].item(row, version.collections))
        for score, item_id, v, row in ranked[:k]
    ]
    return Hits(hits, plan=plan)
