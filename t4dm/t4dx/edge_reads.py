"""Reads of edges: lists, walks and paths. Every call runs on one version, so it sees one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from t4dm.errors import FilterError
from t4dm.t4dx import door, graph
from t4dm.t4dx.filters import EdgeFilter, Names, Where
from t4dm.t4dx.item_reads import When, as_point
from t4dm.t4dx.provenance import provenance
from t4dm.t4dx.state import Version
from t4dm.t4dx.types import OUT, Direction, Edge, EdgeType, Path, Paths
from t4dm.t4dx.walks import Walker


class Neighbour(NamedTuple):
    """A node one step away, and the edge that leads there."""

    id: str
    edge: Edge


Types = EdgeType | str | Iterable[str] | None


class EdgeReads:
    """Read operations on edges over `version()`."""

    _read: Callable[[], Version]

    def edges(
        self,
        source: Names | None = None,
        target: Names | None = None,
        edge_type: Names | None = None,
        *,
        where: EdgeFilter | Where | None = None,
        as_of: When = None,
    ) -> Iterator[Edge]:
        """Edges between ids and of types, each one or several; None leaves a side open.

        Args:
            source: one id or several.
            target: one id or several.
            edge_type: one type or several.
            where: instead of the three, an `EdgeFilter`; or beside them, a condition on the properties.
            as_of: a time in seconds or an `AsOf`; the present by default.
        """
        wanted = _edge_filter(source, target, edge_type, where)
        return graph.edges(self._read(), wanted, as_point(as_of))

    def count_edges(self, where: EdgeFilter | None = None, *, as_of: When = None) -> int:
        """How many edges pass the filter."""
        return graph.count_edges(self._read(), where or EdgeFilter(), as_point(as_of))

    def neighbours(
        self,
        item_id: str,
        *,
        edge_type: Types = None,
        direction: Direction = OUT,
        min_weight: float = 0.0,
        as_of: When = None,
        limit: int | None = None,
    ) -> list[Neighbour]:
        """All edges at a node with their other ends: heaviest first, then by type and id."""
        walker = self._walker(edge_type, direction, min_weight, as_of)
        steps = walker.steps(item_id)[: _check_limit(limit)]
        return [Neighbour(step.node, walker.edge(step)) for step in steps]

    def traverse(
        self,
        ids: str | Iterable[str],
        *,
        edge_type: Types = None,
        direction: Direction = OUT,
        depth: int = 1,
        min_weight: float = 0.0,
        as_of: When = None,
        limit: int | None = None,
    ) -> Paths:
        """Walks of 1..depth edges from each id, breadth first; each node once per start, by the shortest.

        Edges are followed heaviest first, then by type and id, so the answer has one order. The start itself
        is not a result; a target that was never stored comes back with `item=None`.

        Args:
            ids: where to start.
            edge_type: follow one type or several; all by default.
            direction: OUT, IN or BOTH.
            depth: most edges of a path.
            min_weight: follow no lighter edge.
            as_of: a time in seconds or an `AsOf`; edges and items are those of that time.
            limit: the first paths only.
        """
        walker = self._walker(edge_type, direction, min_weight, as_of)
        starts = [ids] if isinstance(ids, str) else ids
        return walker.paths(starts, depth=_check_depth("depth", depth), limit=_check_limit(limit))

    def traverse_ids(
        self,
        ids: str | Iterable[str],
        *,
        edge_type: Types = None,
        direction: Direction = OUT,
        depth: int = 1,
        min_weight: float = 0.0,
        as_of: When = None,
        limit: int | None = None,
    ) -> list[str]:
        """The ids within `depth` edges of any start, nearest first and then by id, without the starts: what
        `traverse` reaches, at a small part of its cost.
        """
        walker = self._walker(edge_type, direction, min_weight, as_of)
        starts = [ids] if isinstance(ids, str) else ids
        return walker.ids(starts, depth=_check_depth("depth", depth), limit=_check_limit(limit))

    def reachable(
        self,
        ids: str | Iterable[str],
        *,
        edge_type: Types = None,
        direction: Direction = OUT,
        depth: int = 1,
        min_weight: float = 0.0,
        as_of: When = None,
    ) -> set[str]:
        """The ids of `traverse_ids` as a set: sorting them costs as much as finding them."""
        walker = self._walker(edge_type, direction, min_weight, as_of)
        return walker.reach([ids] if isinstance(ids, str) else ids, depth=_check_depth("depth", depth))

    def shortest_path(
        self,
        source: str,
        target: str,
        *,
        edge_type: Types = None,
        direction: Direction = OUT,
        max_depth: int = 6,
        as_of: When = None,
        weighted: bool = False,
    ) -> Path | None:
        """A path with the fewest edges, or with `weighted` the largest product of weights; None where no path
        has at most `max_depth` edges.

        Of equal paths it is always the same one: fewer edges, then the order of `traverse`.
        """
        walker = self._walker(edge_type, direction, 0.0, as_of)
        find = walker.heaviest if weighted else walker.shortest
        return find(source, target, max_depth=_check_depth("max_depth", max_depth))

    def provenance(
        self, item_id: str, direction: str = "back", *, depth: int | None = None, as_of: When = None
    ) -> Paths:
        """Where a memory comes from ("back"), or what was made of it ("forward"), nearest first.

        Follows DERIVED_FROM, MERGED_FROM and SUPERSEDES, which point from the new to the old, and
        CONSOLIDATED_INTO, which points from the old to the new. Cycles end.

        Args:
            item_id: the memory.
            direction: "back" or "forward".
            depth: most steps; all by default.
            as_of: a time in seconds or an `AsOf`; the present by default.

        Returns:
            One path per memory, its edges as they are stored.
        """
        if direction not in ("back", "forward"):
            raise FilterError(f"direction is {direction!r}; write direction='back' or direction='forward'")
        steps = None if depth is None else _check_depth("depth", depth)
        return provenance(self._read(), item_id, back=direction == "back", depth=steps, as_of=as_point(as_of))

    def _walker(self, edge_type: Types, direction: Direction, min_weight: float, as_of: When) -> Walker:
        names: Any = edge_type if edge_type is None or isinstance(edge_type, str) else tuple(edge_type)
        version, least = self._read(), door.check_unit("min_weight", min_weight, owner="a walk")
        if not isinstance(direction, Direction):
            raise FilterError(f"direction is {direction!r}; write direction=OUT, IN or BOTH")
        when = as_point(as_of)
        return Walker(version, edge_type=names, direction=direction, as_of=when, min_weight=least)


def _edge_filter(
    source: Names | None, target: Names | None, kind: Names | None, where: EdgeFilter | Where | None
) -> EdgeFilter:
    if not isinstance(where, EdgeFilter):
        return EdgeFilter(source=source, target=target, type=kind, where=where)
    if (source, target, kind) != (None, None, None):
        raise FilterError(
            "edges were given both ends or types and an EdgeFilter; put all into the EdgeFilter"
        )
    return where


def _check_depth(name: str, depth: int) -> int:
    if depth < 1:
        raise FilterError(f"{name} is {depth}; walk at least {name}=1")
    return depth


def _check_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 0:
        raise FilterError(f"limit is {limit}; ask for limit=0 or more")
    return limit
