"""Edges and walks over a version of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from t4dm.t4dx.filters import EdgeFilter, Names, selects
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import View
from t4dm.t4dx.types import AsOf, Direction, Edge, Item, Path, Paths


def edges(version: Version, where: EdgeFilter, as_of: AsOf | None) -> Iterator[Edge]:
    """Visible edges that pass a filter, in no particular order."""
    for view, row in edge_places(version, where, as_of):
        yield view.edge(row, version.types)


def edge_places(version: Version, where: EdgeFilter, as_of: AsOf | None) -> Iterator[tuple[View, int]]:
    """Where the visible edges that pass a filter lie."""
    for view in version.views:
        for row in _candidates(view, where, as_of):
            weight = float(view.edges["weight"][row])
            if where.weight is not None and not where.weight[0] <= weight <= where.weight[1]:  # type: ignore[operator]
                continue
            if not selects(where.type, version.types.names[view.edges["type"][row]]):
                continue
            source, target = view.source.edge_ends(row)
            if selects(where.source, source) and selects(where.target, target):
                yield view, row


def traverse(
    version: Version,
    starts: Iterable[str],
    *,
    edge_type: Names | None,
    direction: Direction,
    depth: int,
    as_of: AsOf | None,
) -> Paths:
    """Breadth-first walks of 1..depth edges from each start; a node is reached once per start, by a shortest
    path.

    Edges are followed heaviest first, then by type and target, so the answer has one order. The start itself
    is not a result. Targets that were never stored come back with `item=None`.
    """
    paths: Paths = []
    for start in dict.fromkeys(starts):
        seen, frontier = {start}, [Path((start,), (), 1.0, None)]
        for _ in range(depth):
            reached: Paths = []
            for path in frontier:
                for edge, node in _steps(version, path.nodes[-1], edge_type, direction, as_of):
                    if node not in seen:
                        seen.add(node)
                        step = ((*path.nodes, node), (*path.edges, edge), path.weight * edge.weight)
                        reached.append(Path(*step, find_item(version, node, as_of)))
            paths += reached
            frontier = reached
    return paths


def find_item(version: Version, item_id: str, as_of: AsOf | None) -> Item | None:
    """The visible version of an id."""
    for view in version.views:
        if (row := view.item_row(item_id, as_of)) >= 0:
            return view.item(row, version.collections)
    return None


def _steps(
    version: Version, node: str, edge_type: Names | None, direction: Direction, as_of: AsOf | None
) -> list[tuple[Edge, str]]:
    steps: list[tuple[Edge, str]] = []
    for incoming in (False, True):
        if direction is (Direction.OUT if incoming else Direction.IN):
            continue
        for view in version.views:
            for row in view.edge_rows(node, as_of, incoming=incoming):
                if selects(edge_type, version.types.names[view.edges["type"][row]]):
                    edge = view.edge(row, version.types)
                    steps.append((edge, edge.source if incoming else edge.target))
    return sorted(steps, key=lambda step: (-step[0].weight, str(step[0].type), step[1]))


def _candidates(view: View, where: EdgeFilter, as_of: AsOf | None) -> Sequence[int]:
    for names, incoming in ((where.source, False), (where.target, True)):
        if names is not None:
            wanted = (names,) if isinstance(names, str) else dict.fromkeys(names)
            return [row for name in wanted for row in view.edge_rows(name, as_of, incoming=incoming)]
    rows: list[int] = view.visible_edges(as_of).tolist()
    return rows
