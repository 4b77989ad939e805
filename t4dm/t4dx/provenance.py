"""Where memories come from and what depends on them: walks over the types that state an origin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from t4dm.t4dx.item_reads import last_version
from t4dm.t4dx.state import Version
from t4dm.t4dx.types import AsOf, Direction, EdgeType, Path, Paths
from t4dm.t4dx.walks import Walker

NEW_TO_OLD: Final = (EdgeType.DERIVED_FROM, EdgeType.MERGED_FROM, EdgeType.SUPERSEDES)
"""Origins that point from what was made to what it was made of."""
OLD_TO_NEW: Final = (EdgeType.CONSOLIDATED_INTO,)
"""Origins that point from what was there to what it became."""
CASCADE: Final = (EdgeType.DEPENDS_ON, EdgeType.DERIVED_FROM)
"""Types whose source cannot outlive its target."""


def provenance(version: Version, item_id: str, *, back: bool, depth: int | None, as_of: AsOf | None) -> Paths:
    """One path per memory that the item comes from, or that was made of it; nearest first, cycles end.

    The items are those visible at `as_of`, and the newest version of what has ended since. Within one
    distance paths are in the order of walks: heaviest first, then by type and id.
    """
    along = _walker(version, NEW_TO_OLD, Direction.OUT if back else Direction.IN, as_of)
    against = _walker(version, OLD_TO_NEW, Direction.IN if back else Direction.OUT, as_of)
    found: Paths = []
    seen, frontier, steps = {item_id}, [Path((item_id,), (), 1.0, None)], 0
    while frontier and (depth is None or steps < depth):
        further: Paths = []
        for path in frontier:
            for walker, step in sorted(
                ((w, s) for w in (along, against) for s in w.steps(path.nodes[-1])), key=lambda one: one[1]
            ):
                if step.node not in seen:
                    seen.add(step.node)
                    edge = walker.edge(step)
                    nodes, edges = (*path.nodes, step.node), (*path.edges, edge)
                    item = walker.item(step.node) or last_version(version, step.node)
                    further.append(Path(nodes, edges, path.weight * edge.weight, item))
        found += further
        frontier, steps = further, steps + 1
    return found


def dependants(version: Version, ids: Iterable[str]) -> list[str]:
    """What DEPENDS_ON some items or is DERIVED_FROM them, and so on, nearest first; without the items."""
    walker = _walker(version, CASCADE, Direction.IN, None)
    return walker.ids(ids, depth=None, limit=None)


def _walker(version: Version, types: tuple[str, ...], direction: Direction, as_of: AsOf | None) -> Walker:
    return Walker(version, edge_type=types, direction=direction, as_of=as_of, min_weight=0.0)
