"""The reading half of the store: every query runs on one version, so it sees one moment. A kept Reader is a
snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import FilterError, VectorError
from t4dm.t4dx import graph, planner
from t4dm.t4dx.filters import EdgeFilter, Filter, Names
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import ITEM_COLUMNS
from t4dm.t4dx.types import OUT, AsOf, Direction, Edge, EdgeType, Hits, Item, Lsn, Paths

_ORDERS: Final = (
    "id",
    "event_time",
    "record_time",
    "valid_from",
    "kappa",
    "importance",
    "access_count",
    "seq",
)
When = AsOf | float | None

ALL: Final = Filter()
"""Every item."""


class Reader:
    """Read operations over `version()`: the present for a store, a fixed one for a snapshot."""

    def __init__(self, version: Callable[[], Version]) -> None:
        self._read = version

    def get(self, item_id: str, *, as_of: When = None) -> Item | None:
        """The current version of an item, or the one that was believed and valid at `as_of`; None where there
        is none.
        """
        return graph.find_item(self._read(), item_id, as_point(as_of))

    def get_many(self, ids: Iterable[str], *, as_of: When = None) -> list[Item | None]:
        """One entry per id, None where there is none."""
        version, when = self._read(), as_point(as_of)
        return [graph.find_item(version, item_id, when) for item_id in ids]

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and any(
            view.item_row(item_id, None) >= 0 for view in self._read().views
        )

    @overload
    def search(
        self,
        vector: NDArray[Any] | Sequence[float],
        k: int,
        where: Filter = ...,
        *,
        as_of: When = ...,
        explain: bool = ...,
    ) -> Hits: ...
    @overload
    def search(
        self, vector: NDArray[Any], k: int, where: Sequence[Filter], *, as_of: When = ..., explain: bool = ...
    ) -> list[Hits]: ...
    def search(
        self, vector: Any, k: int, where: Any = ALL, *, as_of: When = None, explain: bool = False
    ) -> Any:
        """The k items nearest by cosine among those that pass the filter: always min(k, matches), ties by id.

        Args:
            vector: one query [D], or several [Q, D].
            k: how many, from 0 on.
            where: one filter; for several queries also one per query.
            as_of: a time in seconds or an `AsOf`; the present by default.
            explain: keep in `Hits.plan` how each part of the store was searched.

        Returns:
            Hits for one query, a list of Hits for several.

        Raises:
            VectorError: wrong shape, NaN or infinity.
        """
        version, queries = self._read(), np.asarray(vector, np.float32)
        if queries.ndim not in (1, 2) or queries.shape[-1] != version.dim:
            raise VectorError(
                f"the query has shape {list(queries.shape)}; pass [{version.dim}] or [Q, {version.dim}]"
            )
        if not np.isfinite(queries).all():
            raise VectorError("the query holds NaN or infinity; drop it or repair it before the search")
        if k < 0:
            raise FilterError(f"k is {k}; ask for k=0 or more hits")
        matrix = queries.reshape(-1, version.dim)
        wheres = [where] if isinstance(where, Filter) else list(where)
        if len(wheres) not in (1, len(matrix)):
            raise FilterError(
                f"{len(wheres)} filters for {len(matrix)} queries; pass one filter, or one for each"
            )
        found = (
            planner.search(version, matrix, k, wheres, as_point(as_of)) if k else [Hits(()) for _ in matrix]
        )
        kept = found if explain else [Hits(tuple(hits)) for hits in found]
        return kept if queries.ndim == 2 else kept[0]

    def scan(
        self, where: Filter = ALL, *, limit: int | None = None, order: str = "id", as_of: When = None
    ) -> Iterator[Item]:
        """Items that pass the filter, sorted by a column and then by id; "-record_time" is newest first."""
        if order.removeprefix("-") not in _ORDERS:
            raise FilterError(
                f"cannot order by {order!r}; choose one of {', '.join(_ORDERS)}, with '-' to reverse"
            )
        version = self._read()
        places = planner.order(version, where, as_point(as_of), order)
        return (version.views[view].item(row) for view, row in places[:limit])

    def count(self, where: Filter = ALL, *, as_of: When = None) -> int:
        """How many items pass the filter."""
        return planner.count(self._read(), where, as_point(as_of))

    def column(self, field: str, where: Filter = ALL) -> NDArray[Any]:
        """One numeric field of the items that pass the filter, in no particular order: histograms without
        items.
        """
        if field not in ITEM_COLUMNS:
            raise FilterError(f"no column {field!r}; choose one of {', '.join(_ORDERS[1:])}")
        parts = [view.items[field][planner.match(view, where, None)] for view in self._read().views]
        return np.concatenate(parts)

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

    @property
    def lsn(self) -> Lsn:
        """The last operation this sees."""
        return self._read().lsn


def as_point(when: When) -> AsOf | None:
    """A float means both axes."""
    if when is None or isinstance(when, AsOf):
        return when
    return AsOf(record=float(when), valid=float(when))
