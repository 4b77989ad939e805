"""Reads of items: by id, by vector, in lists. Every call runs on one version, so it sees one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import FilterError, ItemError, VectorError
from t4dm.t4dx import door, listing, planner
from t4dm.t4dx.costs import RECALL, Costs
from t4dm.t4dx.facets import Facet, facets
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import match
from t4dm.t4dx.planner import Aim
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import ITEM_COLUMNS, NO_ROWS, View
from t4dm.t4dx.types import DEFAULT, AsOf, Hits, Item, Lsn

When = AsOf | float | None
Near = tuple[str, float]
"""An id and its score."""

ALL: Final = Filter()
"""Every item."""


class _Asked(NamedTuple):
    """A search as it was asked for: what to search, how, and whether by several queries."""

    plain: tuple[Version, NDArray[np.float32], int, list[Filter], AsOf | None]
    code: int
    aim: Aim
    several: bool


class ItemReads:
    """Read operations on items over `version()`.

    Attributes:
        costs: what searches cost by this; None for the costs of this machine, measured once.
        searched: how often parts of the store were searched in which way.
    """

    costs: Costs | None = None

    def __init__(self, version: Callable[[], Version], *, searched: Counter[str] | None = None) -> None:
        self._read = version
        self.searched: Counter[str] = Counter() if searched is None else searched

    @property
    def lsn(self) -> Lsn:
        """The last operation this sees."""
        return self._read().lsn

    def get(self, item_id: str, *, as_of: When = None) -> Item | None:
        """The current version of an item, or the one that was believed and valid at `as_of`; None where there
        is none.
        """
        return find_item(self._read(), item_id, as_point(as_of))

    def get_many(self, ids: Iterable[str], *, as_of: When = None) -> list[Item | None]:
        """One entry per id, in the order of the ids; None where there is none."""
        version, when = self._read(), as_point(as_of)
        return [find_item(version, item_id, when) for item_id in ids]

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and any(
            view.item_row(item_id, None) >= 0 for view in self._read().views
        )

    def history(self, item_id: str) -> list[Item]:
        """Every version of an id that was ever believed, newest first; none for an unknown id."""
        version = self._read()
        return [view.item(row, version.collections) for view, row in _versions(version, item_id)]

    @overload
    def search(
        self,
        vector: NDArray[Any] | Sequence[float],
        k: int,
        where: Filter = ...,
        *,
        collection: str = ...,
        as_of: When = ...,
        recall: float = ...,
        ef: int | None = ...,
        explain: bool = ...,
    ) -> Hits: ...
    @overload
    def search(
        self,
        vector: NDArray[Any],
        k: int,
        where: Sequence[Filter],
        *,
        collection: str = ...,
        as_of: When = ...,
        recall: float = ...,
        ef: int | None = ...,
        explain: bool = ...,
    ) -> list[Hits]: ...
    def search(
        self,
        vector: Any,
        k: int,
        where: Any = ALL,
        *,
        collection: str = DEFAULT,
        as_of: When = None,
        recall: float = RECALL,
        ef: int | None = None,
        explain: bool = False,
    ) -> Any:
        """The k nearest items of a collection among those that pass the filter: always min(k, matches), best
        first, ties by id. Scores are exact, and so is the answer where little has to be compared; among more
        the share `recall` of the nearest is found.

        The score is the cosine, the dot product or minus the Euclidean distance, as the collection's metric
        says; higher is better for each.

        Args:
            vector: one query [D], or several [Q, D].
            k: how many, from 0 on.
            where: one filter; for several queries also one per query.
            collection: where to search; the query has its vector size.
            as_of: a time in seconds or an `AsOf`; the present by default.
            recall: the share of the k nearest to find, on average; 1 for an exact answer.
            ef: how many candidates a walk through a graph keeps, in place of what `recall` asks for.
            explain: keep in `Hits.plan` how each part of the store was searched: its rows, its matches, the
                field for which it was pruned, the path, why that one, and the seconds.

        Returns:
            Hits for one query, a list of Hits for several.

        Raises:
            VectorError: wrong shape, NaN or infinity. UnknownCollectionError: no such collection.
            FilterError: k, recall or ef out of range.
        """
        asked = self._asked(vector, k, where, collection, as_of, recall, ef)
        found = planner.search(*asked.plain, code=asked.code, aim=asked.aim, tally=self.searched)
        kept = found if explain else [Hits(tuple(hits)) for hits in found]
        return kept if asked.several else kept[0]

    @overload
    def nearest(
        self,
        vector: NDArray[Any] | Sequence[float],
        k: int,
        where: Filter = ...,
        *,
        collection: str = ...,
        as_of: When = ...,
        recall: float = ...,
        ef: int | None = ...,
    ) -> list[Near]: ...
    @overload
    def nearest(
        self,
        vector: NDArray[Any],
        k: int,
        where: Sequence[Filter],
        *,
        collection: str = ...,
        as_of: When = ...,
        recall: float = ...,
        ef: int | None = ...,
    ) -> list[list[Near]]: ...
    def nearest(
        self,
        vector: Any,
        k: int,
        where: Any = ALL,
        *,
        collection: str = DEFAULT,
        as_of: When = None,
        recall: float = RECALL,
        ef: int | None = None,
    ) -> Any:
        """What `search` finds with the same arguments, as ids with their scores, best first: no item is
        loaded.

        Returns:
            A list of (id, score) for one query, a list of such lists for several.

        Raises:
            As `search`.
        """
        asked = self._asked(vector, k, where, collection, as_of, recall, ef)
        found = planner.nearest(*asked.plain, code=asked.code, aim=asked.aim, tally=self.searched)
        return found if asked.several else found[0]

    def _asked(
        self,
        vector: Any,
        k: int,
        where: Any,
        collection: str,
        as_of: When,
        recall: float,
        ef: int | None,
    ) -> _Asked:
        """The checked arguments of a search."""
        version, queries = self._read(), np.asarray(vector, np.float32)
        code = version.collections.code(collection)
        matrix = _matrix(queries, version.collections.rows[code].dim)
        if k < 0:
            raise FilterError(f"k is {k}; ask for k=0 or more hits")
        if not 0.0 < recall <= 1.0:
            raise FilterError(f"recall is {recall}; ask for recall=0.99, or for recall=1 to be exact")
        if ef is not None and ef < 1:
            raise FilterError(f"ef is {ef}; ask for ef=64, or leave it out")
        wheres = [where] if isinstance(where, Filter) else list(where)
        if len(wheres) not in (1, len(matrix)):
            raise FilterError(
                f"{len(wheres)} filters for {len(matrix)} queries; pass one filter, or one for each"
            )
        plain = (version, matrix, k, wheres, as_point(as_of))
        return _Asked(plain, code, Aim(recall, ef, self.costs), queries.ndim == 2)

    def scan(
        self,
        where: Filter = ALL,
        *,
        limit: int | None = None,
        offset: int = 0,
        order: str = "id",
        as_of: When = None,
    ) -> Iterator[Item]:
        """Items that pass the filter, in a fixed order: by a column or "metadata.<field>", then by id.

        Args:
            where: which items.
            limit: how many at most; a first page is cheap however many match.
            offset: how many to leave out first.
            order: "-record_time" is newest first. What has no value under a metadata field comes last in both
                directions, strings come after numbers.
            as_of: a time in seconds or an `AsOf`; the present by default.

        Raises:
            FilterError: an unknown order, a negative limit or offset.
        """
        chosen = listing.Order.parse(order)
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise FilterError(f"{name} is {value}; ask for {name}=0 or more")
        version = self._read()
        page = listing.places(version, where, as_point(as_of), chosen, limit=limit, offset=offset)
        return (version.views[view].item(row, version.collections) for view, row in page)

    def count(self, where: Filter = ALL, *, as_of: When = None) -> int:
        """How many items pass the filter."""
        return planner.count(self._read(), where, as_point(as_of))

    def facets(self, field: str, where: Filter = ALL, *, as_of: When = None) -> list[Facet]:
        """The values of "type", "session", "collection" or "metadata.<field>" with their counts, most
        frequent first; items without the field are left out.
        """
        return facets(self._read(), field, where, as_point(as_of))

    def column(self, field: str, where: Filter = ALL) -> NDArray[Any]:
        """One numeric field of the items that pass the filter, in no particular order: histograms without
        items.
        """
        if field not in ITEM_COLUMNS:
            raise FilterError(f"no column {field!r}; choose one of {', '.join(listing.ORDERS[1:])}")
        version = self._read()
        parts = [view.items[field][match(view, where, None, version.collections)] for view in version.views]
        return np.concatenate([NO_ROWS, *parts]) if not parts else np.concatenate(parts)


def find_item(version: Version, item_id: str, as_of: AsOf | None) -> Item | None:
    """The visible version of an id."""
    for view in version.views:
        if (row := view.item_row(item_id, as_of)) >= 0:
            name = item_id if type(item_id) is str else None
            return view.item(row, version.collections, name=name)
    return None


def last_version(version: Version, item_id: str) -> Item | None:
    """The newest version of an id, ended or not."""
    return next((view.item(row, version.collections) for view, row in _versions(version, item_id)), None)


def _versions(version: Version, item_id: str) -> list[tuple[View, int]]:
    """Where the versions of an id lie, newest first."""
    found = [
        (int(view.items["seq"][row]), row, view)
        for view in version.views
        for row in view.source.rows_of(item_id)
        if row < view.n and view.items["alive"][row]
    ]
    found.sort(key=lambda one: one[:2], reverse=True)
    return [(view, row) for _, row, view in found]


def as_point(when: When) -> AsOf | None:
    """A float means both axes; raises ItemError for NaN and for what can only be milliseconds."""
    if when is None:
        return None
    if not isinstance(when, AsOf):
        if isinstance(when, bool) or not isinstance(when, int | float | np.floating | np.integer):
            raise ItemError(f"as_of is {when!r}; give seconds, or AsOf(record=..., valid=...)")
        when = AsOf(record=float(when), valid=float(when))
    for axis in when:
        if axis is not None:
            door.check_time("as_of", axis, owner="the read", open_end=True)
    return when


def _matrix(queries: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    if queries.ndim not in (1, 2) or queries.shape[-1] != dim:
        raise VectorError(f"the query has shape {list(queries.shape)}; pass [{dim}] or [Q, {dim}]")
    if not np.isfinite(queries).all():
        raise VectorError("the query holds NaN or infinity; drop it or repair it before the search")
    return queries.reshape(-1, dim)
