"""Columns of segments in the order of their values, for filters that let few rows pass.

Where the rows within a span are few, they are found by two searches in the order, while a comparison looks
at every row. An order belongs to one column array. It is derived, made once the column has been compared as
often as makes it worth while, and gone with the array: a patched column is a new one.
"""

from __future__ import annotations

import threading
import weakref
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.segment import Segment
from t4dm.t4dx.sources import Source
from t4dm.t4dx.tables import Array, Rows, View

FEWEST: Final = 4096
"""Rows below which a comparison takes no longer."""
OFTEN: Final = 100
"""Comparisons that take as long as making the order."""
NARROW: Final = 1 / 64
"""Share of the rows above which a comparison is as quick."""


class Order(NamedTuple):
    """A column [n] in ascending order, NaN last, and the row of each value."""

    values: Array
    rows: NDArray[np.int32]


@final
class _Asked:
    """A column array, how often it was asked for, and its order once that was often."""

    def __init__(self, column: Array) -> None:
        self.column, self.times = weakref.ref(column), 0
        self.order: Order | None = None


_KNOWN: Final[weakref.WeakKeyDictionary[Source, dict[str, _Asked]]] = weakref.WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def rows_within(view: View, name: str, span: tuple[float, float], *, closed: bool) -> Rows | None:
    """Rows of a view whose value lies in [lo, hi], or in [lo, hi), ascending; None where no order is known,
    or more than a NARROW share passes. An infinite side takes infinity too.
    """
    if view.n < FEWEST or not isinstance(view.source, Segment):
        return None
    order = _order(view.source, name, view.items[name], view.n)
    if order is None:
        return None
    lo = int(np.searchsorted(order.values, span[0], side="left"))
    open_end = span[1] == np.inf
    hi = int(np.searchsorted(order.values, span[1], side="right" if closed or open_end else "left"))
    if hi - lo > NARROW * view.n:
        return None
    return np.sort(order.rows[lo:hi]).astype(np.int64)


def _order(source: Source, name: str, column: Array, n: int) -> Order | None:
    with _LOCK:
        columns = _KNOWN.setdefault(source, {})
        asked = columns.get(name)
        if asked is None or asked.column() is not column:
            asked = columns[name] = _Asked(column)
        asked.times += 1
        due = asked.order is None and asked.times == OFTEN
    if due:
        rows = np.argsort(column[:n], kind="stable").astype(np.int32)
        asked.order = Order(column[rows], rows)
    return asked.order
