"""Lists in a fixed order, page by page: only the rows that can reach the page are ever sorted.

A page needs the first `offset + limit` rows. A partition finds the value behind which no row can be among
them; what is left is sorted by (value, id). Rows without a value come last in both directions.
"""

from __future__ import annotations

import weakref
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import FilterError
from t4dm.t4dx import metadata_columns
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import match
from t4dm.t4dx.predicates import parse_path
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Rows, Source, View
from t4dm.t4dx.types import AsOf
from t4dm.t4dx.zone_maps import pruned

ORDERS: Final = (
    "id",
    "event_time",
    "record_time",
    "valid_from",
    "valid_until",
    "kappa",
    "importance",
    "access_count",
    "seq",
)
_FEW: Final = 512  # ties that are looked up by name rather than by a rank of all names
Place = tuple[int, int]  # view, row


class _Part(NamedTuple):
    number: int
    view: View
    rows: Rows
    keys: NDArray[np.float64]  # ascending order is the order of the list; NaN comes last


class Order(NamedTuple):
    """A column or a metadata field, rising or falling."""

    name: str
    falling: bool
    path: tuple[str, ...] | None

    @classmethod
    def parse(cls, text: str) -> Order:
        """ "-record_time", "kappa", "metadata.user.age"; raises FilterError for what is no order."""
        name = text.removeprefix("-") if isinstance(text, str) else ""
        if name.startswith("metadata."):
            return cls(name, text.startswith("-"), parse_path(name.removeprefix("metadata.")))
        if name not in ORDERS:
            raise FilterError(
                f"cannot order by {text!r}; choose one of {', '.join(ORDERS)} or metadata.<field>, "
                "with '-' to reverse"
            )
        return cls(name, text.startswith("-"), None)


def places(
    version: Version, where: Filter, as_of: AsOf | None, order: Order, *, limit: int | None, offset: int
) -> list[Place]:
    """(view, row) of one page of the matches, in the order asked for; ties by id, always rising."""
    need = None if limit is None else offset + limit
    parts = []
    for number, view in enumerate(version.views):
        if pruned(view, where, as_of):
            continue
        rows = match(view, where, as_of, version.collections)
        if len(rows):
            parts.append(_Part(number, view, rows, _keys(view, rows, order)))
    if order.name == "id":
        return _by_id(parts, falling=order.falling, need=need)[offset:need]
    if order.path is not None:
        return _by_metadata(parts, order, need)[offset:need]
    return _by_key(parts, need)[offset:need]


def _keys(view: View, rows: Rows, order: Order) -> NDArray[np.float64]:
    if order.name == "id" or order.path is not None:
        return np.zeros(len(rows))
    keys = view.items[order.name][rows].astype(np.float64)
    return -keys if order.falling else keys


def _by_key(parts: list[_Part], need: int | None) -> list[Place]:
    """The first rows by key and id, all of them where `need` is None."""
    parts = _shortlist(parts, need)
    keyed: list[tuple[float, str, int, int]] = []
    for part in parts:
        rows, keys = _first(part, need)
        ids = map(part.view.source.id_at, rows.tolist())
        keyed += zip(keys.tolist(), ids, [part.number] * len(rows), rows.tolist(), strict=True)
    keyed.sort()
    return [(number, row) for _, _, number, row in keyed[:need]]


def _shortlist(parts: list[_Part], need: int | None) -> list[_Part]:
    total = sum(len(part.rows) for part in parts)
    if need is None or need >= total:
        return parts
    if need == 0:
        return []
    edge = np.partition(np.concatenate([part.keys for part in parts]), need - 1)[need - 1]
    short = []
    for part in parts:
        keep = part.keys <= edge
        short.append(part._replace(rows=part.rows[keep], keys=part.keys[keep]))
    return short


def _first(part: _Part, need: int | None) -> tuple[Rows, NDArray[np.float64]]:
    """At most `need` rows of a part: where many tie, by the rank of their ids in the source."""
    if need is None or len(part.rows) <= need + _FEW:
        return part.rows, part.keys
    order = np.lexsort((_ranks(part.view)[part.rows], part.keys))[:need]
    return part.rows[order], part.keys[order]


def _by_id(parts: list[_Part], *, falling: bool, need: int | None) -> list[Place]:
    named: list[tuple[str, int, int]] = []
    for part in parts:
        rows = part.rows
        if need is not None and len(rows) > need + _FEW:
            order = np.argsort(_ranks(part.view)[rows])
            rows = rows[(order[::-1] if falling else order)[:need]]
        ids = map(part.view.source.id_at, rows.tolist())
        named += zip(ids, [part.number] * len(rows), rows.tolist(), strict=True)
    named.sort(reverse=falling)
    return [(number, row) for _, number, row in named[:need]]


def _by_metadata(parts: list[_Part], order: Order, need: int | None) -> list[Place]:
    """Numbers, then strings, then all other values and what has no value, each by id where they tie."""
    found: list[Place] = []
    split = [_split(part, order) for part in parts]
    found += _by_key([numbers for numbers, _, _ in split if len(numbers.rows)], need)
    strings: list[tuple[str, str, int, int]] = []
    for _, texts, _ in split:
        strings += texts
    strings.sort(key=lambda one: one[1])
    strings.sort(key=lambda one: one[0], reverse=order.falling)
    found += [(number, row) for _, _, number, row in strings]
    if need is not None and len(found) >= need:
        return found[:need]
    rest = None if need is None else need - len(found)
    return found + _by_key([others for _, _, others in split if len(others.rows)], rest)


def _split(part: _Part, order: Order) -> tuple[_Part, list[tuple[str, str, int, int]], _Part]:
    field = metadata_columns.column(part.view, order.path or ())
    codes, numbers = field.codes[part.rows], field.numbers[part.rows]
    values = field.dictionary.values
    is_text = np.array([*(isinstance(value, str) for value in values), False, False], bool)
    large = np.array([*(float(v) if type(v) is int else np.nan for v in values), np.nan, np.nan])
    numbers = np.where(codes == metadata_columns.NUMBER, numbers, large[codes])
    number, text = ~np.isnan(numbers), is_text[codes]
    keys = -numbers[number] if order.falling else numbers[number]
    rows = part.rows[text].tolist()
    texts: list[tuple[str, str, int, int]] = [
        (values[code], part.view.source.id_at(row), part.number, row)
        for code, row in zip(codes[text].tolist(), rows, strict=True)
    ]
    other = ~(number | text)
    rest = part._replace(rows=part.rows[other], keys=np.zeros(int(other.sum())))
    return part._replace(rows=part.rows[number], keys=keys), texts, rest


_RANKS: Final[weakref.WeakKeyDictionary[Source, tuple[int, Rows]]] = weakref.WeakKeyDictionary()


def _ranks(view: View) -> Rows:
    """The place of each row's id among the ids of its source; made once per immutable source."""
    known = _RANKS.get(view.source)
    if known is None or known[0] < view.n:
        ids: list[Any] = [view.source.id_at(row) for row in range(view.n)]
        ranks = np.empty(view.n, np.int64)
        ranks[sorted(range(view.n), key=ids.__getitem__)] = np.arange(view.n)
        known = _RANKS[view.source] = (view.n, ranks)
    return known[1]
