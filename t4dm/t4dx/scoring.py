"""The rows of a view that pass a filter, scored from their stored vectors, and the best of them so far.

What is best does not depend on how rows were proposed: scores are those of `metrics`, ties go by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import sift
from t4dm.t4dx.metrics import Floats, Query, Scores
from t4dm.t4dx.predicates import Mask
from t4dm.t4dx.registry import Collections
from t4dm.t4dx.tables import NO_ROWS, Rows, View
from t4dm.t4dx.types import AsOf, Float32s
from t4dm.t4dx.zone_maps import hull

EVERY: Final = Filter()
_SMALL: Final = 128  # rows that are looked at for one query after the other
_LITTLE: Final = 1 << 16  # numbers of vectors up to which a shortlist costs more than it saves
LIFE: Final = tuple(("items", name) for name in ("alive", "record_until", "vec_row", "collection"))
Ranked = tuple[float, str, int, int]  # -score, id, view, row


@final
class Part:
    """The rows [n] of one view that pass a filter and have a vector in one collection, ascending or not.

    Attributes:
        rows, places: the rows, and where their vectors lie [n].
        inverse: one over their lengths [n].
        count: n.
        whole: whether these are all of the present; what is made of them is kept.
    """

    __slots__ = ("_inverse", "_mask", "_places", "_rows", "code", "count", "number", "view", "whole")

    def __init__(
        self,
        view: View,
        number: int,
        code: int,
        rows: Rows,
        places: Rows,
        inverse: Floats | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.view, self.number, self.code, self.whole, self.count = view, number, code, whole, len(rows)
        self._rows: Rows | None = rows
        self._places: Rows | None = places
        self._inverse = inverse
        self._mask: Mask | None = None

    @classmethod
    def sieved(cls, view: View, number: int, code: int, mask: Mask) -> Part:
        """The rows where a mask [N] holds, of a view whose row i has its vector at place i; they are listed
        only where somebody needs them.
        """
        part = cls(view, number, code, NO_ROWS, NO_ROWS)
        part._rows = part._places = None
        part._mask, part.count = mask, int(np.count_nonzero(mask))
        return part

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            assert self._mask is not None
            self._rows = np.flatnonzero(self._mask)
        return self._rows

    @property
    def places(self) -> Rows:
        return self.rows if self._places is None else self._places

    @property
    def inverse(self) -> Floats:
        if self._inverse is None:
            self._inverse = self.view.items["inv_norm"][self.rows]
        return self._inverse

    @property
    def block(self) -> Float32s:
        """The vectors of the view [N, D]: row i has the one at `places[i]`."""
        return self.view.source.vectors(self.code)

    def vectors(self) -> Float32s:
        """The vectors of the rows [n, D], and no look at others: all of a segment are checked at their first
        use.
        """
        return self.view.source.vectors_at(self.code, self.places)

    def mask(self, size: int) -> Mask:
        """Which of the first places are those of the part [size], to be written to."""
        if self._mask is not None:
            return self._mask[:size].copy()
        mask = np.zeros(size, bool)
        mask[self.places] = True
        return mask

    def take(self, chosen: NDArray[np.int64]) -> Part:
        """Some of the rows."""
        return self.other(self.rows[chosen], self.places[chosen], self.inverse[chosen])

    def other(self, rows: Rows, places: Rows, inverse: Floats | None = None) -> Part:
        """Other rows of the same view."""
        return Part(self.view, self.number, self.code, rows, places, inverse)


class Column(NamedTuple):
    """The vectors of a view in one collection: how many, the row of each, ended ones too, and whether row i
    has the vector at place i, for each row of the view.
    """

    size: int
    rows: Rows
    straight: bool


def part_of(
    view: View, number: int, code: int, where: Filter, as_of: AsOf | None, collections: Collections
) -> Part:
    """What passes; kept where all of the present is asked for."""
    if where == EVERY and (as_of is None or _is_the_present(view, as_of)):
        kept: tuple[Rows, Rows, Floats] = view.memo(
            f"vectors {code}", LIFE, lambda: _chosen(view, code, view.visible_items(None))
        )
        return Part(view, number, code, *kept, whole=True)
    found = sift(view, where, as_of, collections)
    if found.mask is not None and column_of(view, code).straight:
        return Part.sieved(view, number, code, found.mask)
    return Part(view, number, code, *_chosen(view, code, found.listed()))


def _is_the_present(view: View, as_of: AsOf) -> bool:
    """Whether the rows of now are those of then: all began before, none has ended, all were valid."""
    record, valid = as_of
    if record is not None and (
        hull(view, "record_until").lo < np.inf or not hull(view, "record_time").hi <= record < np.inf
    ):
        return False
    return valid is None or hull(view, "valid_from").hi <= valid < hull(view, "valid_until").lo


def _chosen(view: View, code: int, rows: Rows) -> tuple[Rows, Rows, Floats]:
    places = view.items["vec_row"][rows]
    fits = (places >= 0) & (view.items["collection"][rows] == code)
    if not fits.all():
        rows, places = rows[fits], places[fits]
    return rows, places.astype(np.int64), view.items["inv_norm"][rows]


def column_of(view: View, code: int) -> Column:
    """The vector column of a view; kept until a row is added."""

    def make() -> Column:
        places, own = view.items["vec_row"][: view.n], view.items["collection"][: view.n]
        held = np.flatnonzero((places >= 0) & (own == code))
        rows = np.full(int(places[held].max(initial=-1)) + 1, -1, np.int64)
        rows[places[held]] = held
        straight = len(held) == view.n == len(rows) and bool((rows == np.arange(len(rows))).all())
        return Column(len(rows), rows, straight)

    found: Column = view.memo(f"column {code}", (), make)
    return found


@final
class Best:
    """The k best of each query so far."""

    def __init__(self, queries: int, k: int) -> None:
        self.k = k
        self.ranked: list[list[Ranked]] = [[] for _ in range(queries)]

    def edge(self, place: int) -> float:
        """A score below which nothing more can enter."""
        ranked = self.ranked[place]
        return -ranked[self.k - 1][0] if len(ranked) >= self.k else -np.inf

    def add(self, place: int, part: Part, scores: Scores) -> None:
        """Offer the rows of a part with their scores [n] for one query."""
        rows, k = part.rows, self.k
        least = self.edge(place)
        if len(rows) > k:
            least = max(least, float(np.partition(scores, len(scores) - k)[len(scores) - k]))
        if least > -np.inf:
            keep = np.flatnonzero(scores >= least)
            rows, scores = rows[keep], scores[keep]
        name, number = part.view.source.id_at, part.number
        fresh = [
            (-score, name(row), number, row)
            for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
        ]
        self.ranked[place] = sorted(self.ranked[place] + fresh)[:k]


def score_few(part: Part, query: Query, place: int, best: Best) -> None:
    """`score` for one query and some dozen rows, without a touch of the other vectors."""
    _offer(part, part.vectors(), query, place, best)


def _offer(part: Part, vectors: Float32s, query: Query, place: int, best: Best) -> None:
    """Score the vectors [n, D] of a part for one query; of many numbers only the rows on a shortlist."""
    if vectors.size <= _LITTLE or len(vectors) <= 2 * best.k:
        best.add(place, part, query.exact(vectors, part.inverse, place))
        return
    products = (vectors @ query.fast[place]).astype(np.float64)
    short = query.shortlist(products, part.inverse, place, best.k)
    chosen = part.take(short)
    best.add(place, chosen, query.exact(vectors[short], chosen.inverse, place))


def score(part: Part, query: Query, asked: Sequence[int], best: Best) -> None:
    """Score every row of a part for some of the queries."""
    if not part.count:
        return
    block, where, inverse = part.block, part.places, part.inverse
    if len(where) <= max(_SMALL, 2 * best.k):
        vectors = block[where]
        for place in asked:
            _offer(part, vectors, query, place, best)
        return
    fast = query.fast[asked].T
    used = int(where.max()) + 1
    products = (block[:used] @ fast)[where] if 2 * len(where) > used else products_at(block, where, fast)
    for column, place in enumerate(asked):
        short = query.shortlist(products[:, column].astype(np.float64), inverse, place, best.k)
        best.add(place, part.take(short), query.exact(block[where[short]], inverse[short], place))


def products_at(block: Float32s, where: Rows, fast: Float32s) -> Float32s:
    """Products [n, Q] of some rows of a block [N, D] with queries [D, Q]: some rows at a time, so that the
    copy of them stays in the cache.
    """
    step = max(1, _LITTLE // block.shape[1])
    products, piece = (
        np.empty((len(where), fast.shape[1]), np.float32),
        np.empty((step, len(fast)), np.float32),
    )
    for start in range(0, len(where), step):
        rows = where[start : start + step]
        near = piece[: len(rows)]
        np.take(block, rows, axis=0, out=near, mode="clip")  # without a mode it is copied twice
        np.matmul(near, fast, out=products[start : start + step])
    return products
