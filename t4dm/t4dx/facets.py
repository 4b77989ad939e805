"""How often each value of a field occurs among the items that pass a filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from t4dm.errors import FilterError
from t4dm.t4dx import metadata_columns
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import match
from t4dm.t4dx.predicates import Frozen, freeze, parse_path
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Rows, View
from t4dm.t4dx.types import ITEM_TYPES, AsOf


class Facet(NamedTuple):
    """A value of a field and how many items have it. Numbers come back as floats."""

    value: Any
    size: int


def facets(version: Version, field: str, where: Filter, as_of: AsOf | None) -> list[Facet]:
    """The values of "type", "session", "collection" or "metadata.<field>", most frequent first.

    Raises:
        FilterError: another field.
    """
    counts: dict[Frozen, Facet] = {}
    for view in version.views:
        rows = match(view, where, as_of, version.collections)
        for value, size in _values(version, view, rows, field):
            key = freeze(value)  # True and 1 are two values, and equal keys of a dict
            counts[key] = Facet(value, size + (counts[key].size if key in counts else 0))
    return sorted(counts.values(), key=lambda one: (-one.size, str(one.value)))


def _values(version: Version, view: View, rows: Rows, field: str) -> Iterator[tuple[Any, int]]:
    if field.startswith("metadata."):
        column = metadata_columns.column(view, parse_path(field.removeprefix("metadata.")))
        codes, numbers = column.codes[rows], column.numbers[rows]
        yield from _counted(numbers[codes == metadata_columns.NUMBER])
        for code, size in _counted(codes[codes >= 0]):
            yield column.dictionary.values[code], size
        return
    names = {
        "type": ITEM_TYPES,
        "session": view.source.session_names,
        "collection": list(version.collections.codes),
    }.get(field)
    if names is None:
        raise FilterError(f"cannot count by {field!r}; choose type, session, collection or metadata.<field>")
    for code, size in _counted(view.items[field][rows]):
        yield names[code], size


def _counted(values: Any) -> Iterator[tuple[Any, int]]:
    found, sizes = np.unique(values, return_counts=True)
    yield from zip(found.tolist(), sizes.tolist(), strict=True)
