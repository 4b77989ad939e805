"""The reading half of the store: every query runs on one version, so it sees one moment. A kept Reader is a
snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from t4dm.errors import FilterError
from t4dm.t4dx import graph
from t4dm.t4dx.filters import EdgeFilter, Names
from t4dm.t4dx.item_reads import ALL, ItemReads, When, as_point
from t4dm.t4dx.types import OUT, Direction, Edge, EdgeType, Paths

__all__ = ["ALL", "Reader", "When", "as_point"]


class Reader(ItemReads):
    """Read operations over `version()`: the present for a store, a fixed one for a snapshot."""

    def edges(
        self,
        source: Names | None = None,
        target: Names | None = None,
        edge_type: Names | None = None,
        *,
        where: EdgeFilter | None = None,
        as_of: When = None,
    ) -> Iterator[Edge]:
        """Edges between ids and of types, each one or several; None leaves a side open."""
        wanted = where or EdgeFilter(source=source, target=target, type=edge_type)
        return graph.edges(self._read(), wanted, as_point(as_of))

    def traverse(
        self,
        ids: str | Iterable[str],
        *,
        edge_type: EdgeType | Names | None = None,
        direction: Direction = OUT,
        depth: int = 1,
        as_of: When = None,
    ) -> Paths:
        """Walks of 1..depth edges from each id, breadth first; each node once per start, by the shortest."""
        if depth < 1:
            raise FilterError(f"depth is {depth}; walk at least depth=1")
        starts = [ids] if isinstance(ids, str) else ids
        wanted = edge_type if edge_type is None or isinstance(edge_type, str) else tuple(edge_type)
        when = as_point(as_of)
        return graph.traverse(
            self._read(), starts, edge_type=wanted, direction=direction, depth=depth, as_of=when
        )
