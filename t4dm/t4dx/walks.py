"""Walks over edges: breadth first, and by the heaviest product. One order, whatever the files look like.

Steps from a node are taken heaviest first, then by edge type, then by id. A node is reached once per start,
by a path with the fewest edges. Edges and items are read only for the paths that are returned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from heapq import heappop, heappush
from typing import Final, NamedTuple, final

from t4dm.t4dx.adjacency import Sight
from t4dm.t4dx.filters import Names
from t4dm.t4dx.item_reads import find_item
from t4dm.t4dx.matching import names_of
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import View
from t4dm.t4dx.types import AsOf, Direction, Edge, Item, Path, Paths


class Step(NamedTuple):
    """One edge from a node; steps sort in the order of walks."""

    falling: float  # minus the weight
    kind: str
    node: str
    incoming: bool
    view: int
    row: int


class _Reached(NamedTuple):
    node: str
    parent: _Reached | None
    step: Step | None
    weight: float


_SIDES: Final = {Direction.OUT: (False,), Direction.IN: (True,), Direction.BOTH: (False, True)}


@final
class Walker:
    """Walks over one version, along edges of some types, in one direction, at one time."""

    def __init__(
        self,
        version: Version,
        *,
        edge_type: Names | None,
        direction: Direction,
        as_of: AsOf | None,
        min_weight: float,
    ) -> None:
        self._version, self._as_of = version, as_of
        codes = None
        if edge_type is not None:
            known = version.types.codes
            codes = frozenset(known[name] for name in names_of(edge_type) if name in known)
        self._sights = [
            Sight(view, as_of, codes=codes, min_weight=min_weight) for view in version.views if view.m
        ]
        self._sides = _SIDES[direction]

    def steps(self, node: str) -> list[Step]:
        """The edges that may be walked from a node, in order."""
        names, found = self._version.types.names, []
        for number, sight in enumerate(self._sights):
            weights, kinds = sight.view.edges["weight"], sight.view.edges["type"]
            for incoming in self._sides:
                rows, others = sight.links.at(node, incoming=incoming)
                for row, other in zip(rows, others, strict=True):
                    if sight.plain or sight.allows(row):
                        falling, kind = -float(weights[row]), names[kinds[row]]
                        found.append(Step(falling, kind, other, incoming, number, row))
        found.sort()
        return found

    def paths(self, starts: Iterable[str], *, depth: int, limit: int | None) -> Paths:
        """Paths of 1..depth edges from each start, the first `limit` of them."""
        found: Paths = []
        for start in dict.fromkeys(starts):
            for reached in self._breadth_first(start, depth):
                if limit is not None and len(found) >= limit:
                    return found
                found.append(self._path(reached))
        return found

    def ids(self, starts: Iterable[str], *, depth: int | None, limit: int | None) -> list[str]:
        """The nodes within depth edges of the starts, nearest first, then by id; without the starts."""
        found: list[str] = []
        for level in self._levels(starts, depth):
            found += sorted(level)
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def reach(self, starts: Iterable[str], *, depth: int | None) -> set[str]:
        """The same in no order."""
        begun = dict.fromkeys(starts)
        found = self._sights[0].links.reached(begun, depth) if self._is_simple() else None
        return set().union(*self._levels(begun, depth)) if found is None else found

    def _levels(self, starts: Iterable[str], depth: int | None) -> Iterator[Collection[str]]:
        """The nodes 1, 2, .. edges away from the nearest start."""
        frontier: Collection[str] = dict.fromkeys(starts)
        if self._is_simple():
            levels = self._sights[0].links.within(frontier, depth)
            if levels is not None:
                yield from levels
                return
        seen, steps = set(frontier), 0
        while frontier and (depth is None or steps < depth):
            steps += 1
            fresh: set[str] = set()
            for sight in self._sights:
                for incoming in self._sides:
                    self._ends(sight, frontier, incoming, fresh)
            fresh -= seen
            seen |= fresh
            yield fresh
            frontier = fresh

    def _is_simple(self) -> bool:
        """Whether one source has all the edges, and each may be walked, forward."""
        return len(self._sights) == 1 and self._sights[0].plain and self._sides == (False,)

    @staticmethod
    def _ends(sight: Sight, nodes: Iterable[str], incoming: bool, found: set[str]) -> None:
        if sight.plain:
            sight.links.ends(nodes, incoming=incoming, found=found)
            return
        at, allows = sight.links.at, sight.allows
        for node in nodes:
            rows, others = at(node, incoming=incoming)
            found.update([other for row, other in zip(rows, others, strict=True) if allows(row)])

    def shortest(self, source: str, target: str, *, max_depth: int) -> Path | None:
        """The first path with the fewest edges, None where there is none within max_depth."""
        if source == target:
            return self._standing(source)
        for reached in self._breadth_first(source, max_depth):
            if reached.node == target:
                return self._path(reached)
        return None

    def heaviest(self, source: str, target: str, *, max_depth: int) -> Path | None:
        """The path with the largest product of weights, of equal ones the one with fewer edges.

        Dijkstra's algorithm on the products themselves, which never grow as weights lie in [0, 1]; a node
        counts once per number of edges, because a heavier path may be too long to be continued.
        """
        if source == target:
            return self._standing(source)
        heap: list[tuple[float, int, tuple[str, ...], _Reached]] = [
            (-1.0, 0, (source,), _Reached(source, None, None, 1.0))
        ]
        fewest: dict[str, int] = {}
        while heap:
            falling, hops, nodes, reached = heappop(heap)
            if reached.node == target:
                return self._path(reached)
            if fewest.get(reached.node, max_depth) <= hops:
                continue
            fewest[reached.node] = hops
            for step in self.steps(reached.node):
                if step.node not in nodes:
                    weight = falling * step.falling
                    further = _Reached(step.node, reached, step, weight)
                    heappush(heap, (-weight, hops + 1, (*nodes, step.node), further))
        return None

    def _breadth_first(self, start: str, depth: int) -> Iterator[_Reached]:
        seen, frontier = {start}, [_Reached(start, None, None, 1.0)]
        for _ in range(depth):
            further: list[_Reached] = []
            for parent in frontier:
                for step in self.steps(parent.node):
                    if step.node not in seen:
                        seen.add(step.node)
                        reached = _Reached(step.node, parent, step, parent.weight * -step.falling)
                        further.append(reached)
                        yield reached
            frontier = further

    def edge(self, step: Step) -> Edge:
        """The edge behind a step."""
        return self._view(step).edge(step.row, self._version.types)

    def item(self, node: str) -> Item | None:
        """The node's item, None where it was never stored or is not visible."""
        return find_item(self._version, node, self._as_of)

    def _view(self, step: Step) -> View:
        return self._sights[step.view].view

    def _path(self, reached: _Reached) -> Path:
        nodes, edges, at = [reached.node], list[Edge](), reached
        while at.parent is not None and at.step is not None:
            edges.append(self.edge(at.step))
            at = at.parent
            nodes.append(at.node)
        item = self.item(reached.node)
        return Path(tuple(reversed(nodes)), tuple(reversed(edges)), reached.weight, item)

    def _standing(self, node: str) -> Path | None:
        item = self.item(node)
        return None if item is None else Path((node,), (), 1.0, item)
