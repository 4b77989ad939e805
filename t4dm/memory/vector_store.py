"""A plain vector store, for those who come from one: points with payloads in named collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import ItemNotFoundError
from t4dm.t4dx import T4DX, Filter, Item

__all__ = ["Point", "VectorStore"]


class Point(NamedTuple):
    """A stored vector with its payload; `score` is the cosine in a search, 0 elsewhere."""

    id: str
    vector: NDArray[np.float32]
    payload: dict[str, Any]
    score: float = 0.0


@final
class VectorStore:
    """One collection of a T4DX, seen as points.

    A collection is a session of the store, so its points never appear in another one's searches, and sleep
    treats it as one mind. Ids are its own: two collections may use the same. A payload's `content` becomes
    the item's text.

    Args:
        store: an open store; the caller closes it.
        collection: name of the collection; it needs no creation.
        clock: the time in seconds.
    """

    def __init__(self, store: T4DX, *, collection: str, clock: Callable[[], float]) -> None:
        self.store = store
        self.collection = collection
        self._clock = clock
        self._prefix = f"{collection}/"

    def add(
        self,
        ids: Sequence[str],
        vectors: NDArray[Any] | Sequence[Sequence[float]],
        payloads: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Store points, all or none; an id that exists is superseded.

        Args:
            ids: N ids.
            vectors: [N, D].
            payloads: N dicts of plain values.
        """
        rows = np.asarray(vectors, dtype=np.float32)
        now = self._clock()
        payloads = [{}] * len(ids) if payloads is None else payloads
        items = [
            Item(
                id=self._prefix + name,
                content=str(payload.get("content", "")),
                vector=row,
                session=self.collection,
                event_time=now,
                record_time=now,
                metadata=dict(payload),
            )
            for name, row, payload in zip(ids, rows, payloads, strict=True)
        ]
        if items:
            self.store.insert_many(items)

    def search(
        self, vector: NDArray[Any] | Sequence[float], limit: int, *, where: Filter | None = None
    ) -> list[Point]:
        """The nearest points by cosine, at most `limit`; `where` narrows further, its session is the
        collection's.
        """
        query = np.asarray(vector, dtype=np.float32)
        hits = self.store.search(query, limit, self._within(where))
        return [self._point(hit.item, hit.score) for hit in hits]

    def get(self, ids: Sequence[str]) -> list[Point | None]:
        """One entry for each id; None where there is none."""
        items = self.store.get_many([self._prefix + name for name in ids])
        return [None if item is None else self._point(item) for item in items]

    def update_payloads(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        """Merge into the payloads of stored points, all or none.

        Raises:
            ItemNotFoundError: an id is not in the collection.
        """
        points = self.get(list(payloads))
        with self.store.transaction() as tx:
            for (name, payload), point in zip(payloads.items(), points, strict=True):
                if point is None:
                    raise ItemNotFoundError(name)
                tx.update_fields(self._prefix + name, metadata={**point.payload, **payload})

    def delete(self, ids: Sequence[str]) -> int:
        """Delete points, all or none; how many there were. Unknown ids are no error."""
        present = [
            self._prefix + name for name, point in zip(ids, self.get(ids), strict=True) if point is not None
        ]
        with self.store.transaction() as tx:
            for name in present:
                tx.delete(name)
        return len(present)

    def count(self, *, where: Filter | None = None) -> int:
        """How many points there are."""
        return self.store.count(self._within(where))

    def scroll(self, limit: int, *, after: str | None = None) -> tuple[list[Point], str | None]:
        """A page of points in the order of their ids, and the `after` of the next page (None at the end)."""
        start = None if after is None else self._prefix + after
        rest = (
            item
            for item in self.store.scan(self._within(None), order="id")
            if start is None or item.id > start
        )
        page = [self._point(item) for item, _ in zip(rest, range(limit), strict=False)]
        return page, page[-1].id if len(page) == limit and limit else None

    def _within(self, where: Filter | None) -> Filter:
        return replace(where or Filter(), session=self.collection)

    def _point(self, item: Item, score: float = 0.0) -> Point:
        vector = np.zeros(0, dtype=np.float32) if item.vector is None else np.asarray(item.vector)
        return Point(item.id.removeprefix(self._prefix), vector, dict(item.metadata), float(score))
