"""Metadata and properties as columns: a field is decoded once per source, a condition is a lookup then.

A column is derived and disposable. Numbers that float64 holds exactly lie in one array; all other values are
coded by a dictionary of the distinct ones, on which a comparison runs once per value instead of once per row.
A segment's column is made at its first use and kept as long as the segment, the memtable's grows with it, and
metadata that was replaced later is patched over a copy.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.predicates import MISSING, RANGES, Compare, Frozen, Mask, freeze, holds, lookup
from t4dm.t4dx.tables import Array, Rows, Source, View

NUMBER: Final = -2
"""The code of a row whose value is in `Column.numbers`."""
ABSENT: Final = -1
"""The code of a row without the field."""
_EXACT: Final = 2**53
_FIRST: Final = 256
_TABLES: Final = 64  # comparisons whose answers a column remembers
Path = tuple[str, ...]


class Column(NamedTuple):
    """One field of the first n rows: `numbers` [>= n] is NaN where the code is not NUMBER."""

    numbers: NDArray[np.float64]
    codes: NDArray[np.int32]
    dictionary: Dictionary


@final
class Dictionary:
    """The distinct values of a field that are not plain numbers; it only grows."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._codes: dict[Frozen, int] = {}
        self._tables: dict[Compare, Mask] = {}
        self._lock = threading.Lock()

    def encode(self, value: Any) -> tuple[float, int]:
        """(number, code) of a value or MISSING."""
        if value is MISSING:
            return np.nan, ABSENT
        if isinstance(value, float) or (type(value) is int and -_EXACT <= value <= _EXACT):
            return float(value), NUMBER
        key = freeze(value)
        code = self._codes.get(key)
        if code is None:
            self.values.append(value)
            code = self._codes[key] = len(self.values) - 1
        return np.nan, code

    def table(self, test: Compare) -> Mask:
        """Whether each value passes, by code: the last two entries stand for a number and for no field."""
        with self._lock:
            known, size = self._tables.get(test), len(self.values)
            if known is None or len(known) < size + 2:
                done = known[:-2].tolist() if known is not None else []
                fresh = [holds(test, value) for value in self.values[len(done) : size]]
                known = np.array([*done, *fresh, test.op == "exists", holds(test, MISSING)], bool)
                if len(self._tables) >= _TABLES:
                    self._tables.clear()
                self._tables[test] = known
            return known


@final
class _Field:
    """One field of one source, decoded as far as anybody asked."""

    def __init__(self, path: Path, *, edges: bool) -> None:
        self._path, self._n, self._edges = path, 0, edges
        self._numbers, self._codes = np.empty(_FIRST), np.empty(_FIRST, np.int32)
        self._dictionary = Dictionary()
        self._patched: tuple[Mapping[int, bytes], int, Column] | None = None
        self._seen: dict[int, tuple[bytes, float, int]] = {}
        self._lock = threading.Lock()

    def column(self, view: View) -> Column:
        """The field in the rows of a view, later metadata patched in."""
        n = view.m if self._edges else view.n
        with self._lock:
            if self._n < n:
                self._grow(view.source, n)
            base = Column(self._numbers, self._codes, self._dictionary)
            if self._edges or not view.metas:
                return base
            if self._patched is None or self._patched[0] is not view.metas or self._patched[1] < view.n:
                self._patched = (view.metas, view.n, self._patch(base, view.n, view.metas))
            return self._patched[2]

    def _grow(self, source: Source, n: int) -> None:
        if n > len(self._codes):
            size = max(n, 2 * len(self._codes))
            numbers, codes = np.empty(size), np.empty(size, np.int32)
            numbers[: self._n], codes[: self._n] = self._numbers[: self._n], self._codes[: self._n]
            self._numbers, self._codes = numbers, codes
        for row in range(self._n, n):
            packed = source.edge_text(row) if self._edges else source.text_at(row)[1]
            self._numbers[row], self._codes[row] = self._read(packed)
        self._n = n

    def _patch(self, base: Column, n: int, metas: Mapping[int, bytes]) -> Column:
        numbers, codes = base.numbers[:n].copy(), base.codes[:n].copy()
        for row, packed in metas.items():
            known = self._seen.get(row)
            if known is None or known[0] is not packed:
                known = self._seen[row] = (packed, *self._read(packed))
            if row < n:
                numbers[row], codes[row] = known[1:]
        return Column(numbers, codes, base.dictionary)

    def _read(self, packed: bytes) -> tuple[float, int]:
        return self._dictionary.encode(lookup(unpacked(packed), self._path))


@final
class _Fields:
    """The fields of one source that were asked for."""

    def __init__(self) -> None:
        self._fields: dict[tuple[Path, bool], _Field] = {}

    def column(self, view: View, path: Path, *, edges: bool) -> Column:
        field = self._fields.get((path, edges))
        if field is None:
            field = self._fields.setdefault((path, edges), _Field(path, edges=edges))
        return field.column(view)


_SOURCES: Final[weakref.WeakKeyDictionary[Source, _Fields]] = weakref.WeakKeyDictionary()
_SOURCES_LOCK: Final = threading.Lock()


def column(view: View, path: Path, *, edges: bool = False) -> Column:
    """A field of the metadata in the item rows of a view, or of the properties in its edge rows."""
    with _SOURCES_LOCK:
        fields = _SOURCES.get(view.source)
        if fields is None:
            fields = _SOURCES[view.source] = _Fields()
    return fields.column(view, path, edges=edges)


def passing(view: View, test: Compare, rows: Rows, *, edges: bool = False) -> Mask:
    """Which of some rows pass a comparison with a field of their metadata (or properties)."""
    field = column(view, test.path, edges=edges)
    return compare(test, field.numbers[rows], field.codes[rows], field.dictionary)


def compare(test: Compare, numbers: Array, codes: Array, dictionary: Dictionary) -> Mask:
    """Which rows pass, by their numbers and codes."""
    passed: Mask = dictionary.table(test)[codes]
    return passed | _numeric(test, numbers)


def unpacked(packed: bytes) -> Any:
    """Packed metadata as a dict."""
    return msgpack.unpackb(packed, raw=False) if packed else {}


def _numeric(test: Compare, numbers: Array) -> Mask:
    match test.op, test.value:
        case "eq", ("number", value) if _nearest(value) == value:
            return np.asarray(numbers == float(value))
        case "in", (_, members):
            return np.isin(
                numbers, [float(v[1]) for v in members if v[0] == "number" and _nearest(v[1]) == v[1]]
            )
        case (("lt" | "lte" | "gt" | "gte"), ("number", bound)):
            return _ordered(test.op, numbers, bound)
    return np.zeros(len(numbers), bool)


def _ordered(name: str, numbers: Array, bound: float) -> Mask:
    """A range over float64 with any bound: between an integer and the float next to it lies no float."""
    near = _nearest(bound)
    if near != bound:
        below = name.startswith("lt")
        name = ("lt" if below else "gt") + ("e" if (near < bound) is below else "")
    return np.asarray(RANGES[name](numbers, near))


def _nearest(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf
