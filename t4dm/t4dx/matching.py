"""Which item rows of a view pass a filter: columns first, the conditions on metadata on what is left."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from t4dm.t4dx import metadata_columns, sorted_columns
from t4dm.t4dx.filters import CLOSED, HALF_OPEN, Filter, Names
from t4dm.t4dx.metadata_columns import NUMBER, Dictionary
from t4dm.t4dx.predicates import Compare, Mask, holds
from t4dm.t4dx.registry import Collections
from t4dm.t4dx.tables import NO_ROWS, Array, Rows, View
from t4dm.t4dx.types import ITEM_TYPES, AsOf

_NUMBERS: Final = Dictionary()  # own fields that are numbers have no other values


def match(view: View, where: Filter, as_of: AsOf | None, collections: Collections) -> Rows:
    """Item rows of a view that pass a filter, ascending where no session or id list leads."""
    return sift(view, where, as_of, collections).listed()


class Sifted(NamedTuple):
    """Rows that pass, or a mask over all rows of a view: whichever was at hand."""

    rows: Rows
    mask: Mask | None = None

    def listed(self) -> Rows:
        """As rows."""
        return self.rows if self.mask is None else np.flatnonzero(self.mask)


def sift(view: View, where: Filter, as_of: AsOf | None, collections: Collections) -> Sifted:
    """What `match` finds, listed only where that costs nothing."""
    rows = None if as_of is not None else _narrow(view, where)
    if rows is None and _by_columns(where):
        mask = _column_mask(view, where, as_of, collections)
        if mask is not None:
            return Sifted(NO_ROWS, mask)
    rows = _candidates(view, where, as_of) if rows is None else rows
    cols = view.items
    for name in (*CLOSED, *HALF_OPEN):
        if (span := getattr(where, name)) is not None and len(rows):
            rows = rows[in_span(cols[name][rows], span, closed=name in CLOSED)]
    for name, wanted in (("type", where.type), ("collection", where.collection)):
        if wanted is not None and len(rows):
            rows = rows[np.isin(cols[name][rows], _codes(wanted, _known(name, collections)))]
    if where.valid_at is not None and len(rows):
        since, until = cols["valid_from"][rows], cols["valid_until"][rows]
        rows = rows[(since <= where.valid_at) & (where.valid_at < until)]
    if where.where is not None and len(rows):
        found = rows
        rows = rows[
            where.where.mask(lambda test: _leaf(view, test, found, collections), np.ones(len(rows), bool))  # type: ignore[union-attr]
        ]
    if where.content is not None and len(rows):
        part = where.content
        rows = rows[np.array([part in view.source.text_at(row)[0] for row in rows.tolist()], bool)]
    return Sifted(rows)


def _narrow(view: View, where: Filter) -> Rows | None:
    """The rows of the present that lie in the span of a column that is known in its order, ascending; None
    where there is none, or it leaves many.
    """
    if where.ids is not None or where.session is not None:
        return None
    for name in (*CLOSED, *HALF_OPEN):
        if (span := getattr(where, name)) is not None:
            rows = sorted_columns.rows_within(view, name, span, closed=name in CLOSED)
            if rows is not None:
                present = view.visible(None)
                return rows if present is None else rows[present[rows]]
    return None


def _by_columns(where: Filter) -> bool:
    """Whether columns of numbers alone decide, whole columns at a time."""
    return where.ids is None and where.session is None and where.where is None and where.content is None


def _column_mask(view: View, where: Filter, as_of: AsOf | None, collections: Collections) -> Mask | None:
    """Which rows of now or then pass a filter on columns; None where all of the present do."""
    cols, n, masks = view.items, view.n, list[Mask]()
    for name in (*CLOSED, *HALF_OPEN):
        if (span := getattr(where, name)) is not None:
            masks.append(in_span(cols[name][:n], span, closed=name in CLOSED))
    for name, wanted in (("type", where.type), ("collection", where.collection)):
        if wanted is not None:
            masks.append(np.isin(cols[name][:n], _codes(wanted, _known(name, collections))))
    if where.valid_at is not None:
        masks.append(cols["valid_from"][:n] <= where.valid_at)
        masks.append(cols["valid_until"][:n] > where.valid_at)
    visible = view.visible(as_of) if masks or as_of is not None else None
    if visible is not None:
        masks.append(visible)
    for mask in masks[1:]:
        masks[0] &= mask
    return masks[0] if masks else None


def _known(name: str, collections: Collections) -> dict[str, int]:
    """The codes of the names in a column."""
    return {kind: code for code, kind in enumerate(ITEM_TYPES)} if name == "type" else collections.codes


def in_span(values: Array, span: tuple[float, float], *, closed: bool) -> Mask:
    """Values in [lo, hi] or [lo, hi); an infinite side is open and takes infinity too."""
    mask: Mask = values >= span[0]
    if span[1] < np.inf:
        mask &= values <= span[1] if closed else values < span[1]
    return mask


def names_of(names: Names) -> tuple[str, ...]:
    """One name or several, as several."""
    return (names,) if isinstance(names, str) else names


def _candidates(view: View, where: Filter, as_of: AsOf | None) -> Rows:
    if where.ids is not None:
        found = (view.item_row(item_id, as_of) for item_id in dict.fromkeys(where.ids))
        rows = np.array([row for row in found if row >= 0], np.int64)
    elif where.session is not None and as_of is None:
        parts = [view.session_rows(name) for name in dict.fromkeys(names_of(where.session))]
        return parts[0] if len(parts) == 1 else np.concatenate([NO_ROWS, *parts])
    else:
        rows = view.visible_items(as_of)
    if where.session is not None and len(rows):
        codes = [c for name in names_of(where.session) if (c := view.source.session_code(name)) >= 0]
        rows = rows[np.isin(view.items["session"][rows], codes)]
    return rows


def _codes(names: Names, codes: dict[str, int]) -> list[int]:
    return [codes[name] for name in names_of(names) if name in codes]


def _leaf(view: View, test: Compare, rows: Rows, collections: Collections) -> Mask:
    """A comparison with a field of the metadata, or with one of the item's own."""
    if test.path[0]:
        return metadata_columns.passing(view, test, rows)
    match test.path[1]:
        case "type":
            return _coded(test, ITEM_TYPES, view.items["type"][rows])
        case "session":
            return _coded(test, view.source.session_names, view.items["session"][rows])
        case "collection":
            return _coded(test, list(collections.codes), view.items["collection"][rows])
        case "id":
            return _each(test, map(view.source.id_at, rows.tolist()))
        case "content":
            return _each(test, (view.source.text_at(row)[0] for row in rows.tolist()))
        case name:
            numbers = view.items[name][rows].astype(np.float64)
            return metadata_columns.compare(test, numbers, np.full(len(rows), NUMBER), _NUMBERS)


def _coded(test: Compare, names: Sequence[str], codes: Array) -> Mask:
    used, places = np.unique(codes, return_inverse=True)
    return _each(test, [names[code] for code in used.tolist()])[places]


def _each(test: Compare, values: Iterable[str]) -> Mask:
    return np.array([holds(test, value) for value in values], bool)
