"""A vector and a text against one version: both lists, exact scores of both for all they name, then fusion,
and on demand a flow of scores along edges and to neighbours in time.

Candidates are the best of either search. What scores flow from need not pass the filter (a session's summary
lends its score to its turns); what is returned does.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple, final

import numpy as np

from t4dm.t4dx.filters import Filter
from t4dm.t4dx.fusion import (
    TIME,
    Both,
    Lists,
    Neighbours,
    Parts,
    Spread,
    edge_relation,
    flow,
    rank_scores,
    scaled_scores,
    total,
)
from t4dm.t4dx.item_reads import ItemReads
from t4dm.t4dx.matching import match
from t4dm.t4dx.state import Version
from t4dm.t4dx.text_search import Line, TextQuery
from t4dm.t4dx.types import AsOf, Hit, Hits
from t4dm.t4dx.walks import Walker

DEPTH: Final = 200
"""Candidates that each search names at least."""


class Fused(NamedTuple):
    """The best ids with what each part adds to their scores, and how they were found."""

    ids: list[tuple[str, Parts]]
    plan: list[Line]


@final
class HybridQuery:
    """Two searches over one version.

    Args:
        version: what the reader sees.
        vector: the query [D].
        text: the same query in words.
        collection: whose vectors.
        as_of: the time of items and edges.
    """

    def __init__(
        self, version: Version, vector: Any, text: TextQuery, *, collection: str, as_of: AsOf | None
    ) -> None:
        self._version, self._vector, self._text = version, vector, text
        self._collection, self._as_of = collection, as_of
        self._reads = ItemReads(lambda: version)
        self._places: dict[str, tuple[int, int] | None] = {}
        self._near: dict[str, float] = {}

    def search(
        self, k: int, where: Filter, *, depth: int, fusion: str, weights: Parts, spread: Spread | None
    ) -> Fused:
        """The k best."""
        vectors = self._vectors(depth, where)
        texts, plan = self._text.search(depth, where)
        for hit in texts:
            self._places[hit.id] = hit.view, hit.row
        lists = Lists({hit.id: hit.score for hit in vectors}, {hit.id: -hit.minus_score for hit in texts})
        self._near.update(lists.vector)
        join = rank_scores if fusion == "rrf" else scaled_scores

        def base(ids: Collection[str]) -> dict[str, Parts]:
            return join(lists, self._exact(ids), weights)

        found = {**lists.vector, **lists.text}.keys()
        if spread is None or not found:
            scored = base(found)
        else:
            links = _Links(self._version, spread, self._as_of, self._place)
            scored = flow(found, links, base, spread)
            reached = self._passing(scored.keys() - found, where)
            scored = {name: parts for name, parts in scored.items() if name in found or name in reached}
        ranked = sorted((-total(parts), name) for name, parts in scored.items())
        ranked = [(falling, name) for falling, name in ranked if falling < 0 or name in found][:k]
        lines = [{"search": "vector", **line} for line in vectors.plan or ()]
        told = {"fusion": fusion, "vectors": len(lists.vector), "texts": len(lists.text)}
        return Fused([(name, scored[name]) for _, name in ranked], [*lines, *plan, told])

    def hits(self, fused: Fused) -> Hits:
        """Items to the ids, and a line for each in the plan."""
        hits, plan = [], list(fused.plan)
        for name, parts in fused.ids:
            if (place := self._place(name)) is not None:
                score, view = total(parts), self._version.views[place[0]]
                hits.append(Hit(name, score, view.item(place[1], self._version.collections)))
                plan.append({"hit": name, "score": score, **parts})
        return Hits(hits, plan=plan)

    def _vectors(self, k: int, where: Filter) -> Hits:
        return self._reads.search(
            self._vector, k, where, collection=self._collection, as_of=self._as_of, explain=True
        )

    def _exact(self, ids: Iterable[str]) -> dict[str, Both]:
        """Both scores of ids that can be seen."""
        every = list(ids)
        places = {name: place for name in every if (place := self._place(name)) is not None}
        unknown = [name for name in places if name not in self._near]
        if unknown:
            for hit in self._vectors(len(unknown), Filter(ids=tuple(unknown))):
                self._near[hit.id] = hit.score
        rows: dict[int, list[str]] = defaultdict(list)
        for name, (number, _) in places.items():
            rows[number].append(name)
        exact = dict.fromkeys(every, Both(None, 0.0))
        for number, names in rows.items():
            scores = self._text.scores(number, np.array([places[name][1] for name in names]))
            for name, score in zip(names, scores.tolist(), strict=True):
                exact[name] = Both(self._near.get(name), score)
        return exact

    def _passing(self, ids: Collection[str], where: Filter) -> set[str]:
        """Those of the ids that pass the filter."""
        wanted = set(ids) if where.ids is None else set(where.ids).intersection(ids)
        narrow, found = dataclasses.replace(where, ids=tuple(wanted)), set[str]()
        for view in self._version.views if wanted else ():
            for row in match(view, narrow, self._as_of, self._version.collections).tolist():
                found.add(view.source.id_at(row))
        return found

    def _place(self, name: str) -> tuple[int, int] | None:
        """The view and the row of an id, None where it cannot be seen."""
        if name not in self._places:
            rows = (
                (number, view.item_row(name, self._as_of)) for number, view in enumerate(self._version.views)
            )
            self._places[name] = next((place for place in rows if place[1] >= 0), None)
        return self._places[name]


@final
class _Links:
    """The neighbours of nodes along the relations of a spread; only those that can be seen."""

    def __init__(self, version: Version, spread: Spread, as_of: AsOf | None, place: Any) -> None:
        self._version, self._spread, self._as_of, self._place = version, spread, as_of, place
        self._walkers = {
            name: Walker(version, edge_type=name, direction=spread.direction, as_of=as_of, min_weight=0.0)
            for name in spread.relations
        }
        self._orders: dict[str, tuple[list[tuple[int, int]], dict[tuple[int, int], int]]] = {}

    def __call__(self, nodes: Collection[str]) -> Mapping[str, Neighbours]:
        found: dict[str, Neighbours] = {
            edge_relation(name): {node: self._along(walker, node) for node in nodes}
            for name, walker in self._walkers.items()
        }
        if self._spread.time_neighbours:
            found[TIME] = {node: self._beside(node) for node in nodes}
        return found

    def _along(self, walker: Walker, node: str) -> dict[str, float]:
        """Neighbours along the edges of one type, heaviest first; a pair counts once."""
        found: dict[str, float] = {}
        for step in walker.steps(node):
            if step.node != node and step.node not in found and self._place(step.node) is not None:
                found[step.node] = -step.falling if self._spread.edge_weights else 1.0
                if len(found) == self._spread.fan:
                    break
        return found

    def _beside(self, node: str) -> dict[str, float]:
        """Neighbours in the session by event time; items of one time in the order they were inserted."""
        place = self._place(node)
        if place is None:
            return {}
        view = self._version.views[place[0]]
        session = view.source.session_names[int(view.items["session"][place[1]])]
        if not session:
            return {}
        order, positions = self._order(session)
        at, reach = positions[place], self._spread.time_neighbours
        near = order[max(0, at - reach) : at] + order[at + 1 : at + 1 + reach]
        return {self._version.views[number].source.id_at(row): 1.0 for number, row in near}

    def _order(self, session: str) -> tuple[list[tuple[int, int]], dict[tuple[int, int], int]]:
        """All that can be seen of a session, and the position of each row."""
        if session not in self._orders:
            narrow, keys = Filter(session=session), list[tuple[float, int, int, int]]()
            for number, view in enumerate(self._version.views):
                rows = match(view, narrow, self._as_of, self._version.collections)
                times, seqs = view.items["event_time"][rows].tolist(), view.items["seq"][rows].tolist()
                keys += zip(times, seqs, rows.tolist(), [number] * len(rows), strict=True)
            order = [(number, row) for _, _, row, number in sorted(keys)]
            self._orders[session] = order, {place: at for at, place in enumerate(order)}
        return self._orders[session]
