"""Columns that one writer patches and readers share without a lock.

A column is a base array that never changes and a log of patches that only grows, each with its LSN. A reader
at LSN L takes the newest patch of a row up to L, or a copy of the base with all patches up to L, made at its
first use and kept. So a write costs the same whatever the size of the store, and an older reader is never
disturbed. From time to time the patches that are flushed are folded into a new base; readers keep the old
one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.types import Lsn

Array = NDArray[Any]
Rows = NDArray[np.int64]
Stamps = NDArray[np.uint64]


class Entries(NamedTuple):
    """The newest patches of some rows: rows [n], their values, and the LSN of each."""

    rows: list[int]
    values: list[Any]
    seqs: list[int]


@final
class Log:
    """Patches in the order of their LSNs. Appended by the writer, read by everyone up to an LSN."""

    __slots__ = ("before", "last", "rows", "seqs", "values")

    def __init__(self) -> None:
        self.rows, self.seqs, self.before = array("q"), array("Q"), array("q")
        self.values: list[Any] = []
        self.last: dict[int, int] = {}

    def add(self, row: int, value: Any, seq: Lsn) -> None:
        """Append one patch; it can be found only once it is whole."""
        last = self.last
        self.before.append(last.get(row, -1))
        self.rows.append(row)
        self.values.append(value)
        self.seqs.append(seq)
        last[row] = len(self.values) - 1

    def extend(self, rows: Sequence[int], values: Sequence[Any], seqs: Sequence[int] | int) -> None:
        """Append many, under one LSN or one for each."""
        last, start, count = self.last, len(self.values), len(rows)
        each = array("Q", [seqs]) * count if isinstance(seqs, int) else array("Q", seqs)
        places = np.fromiter(rows, np.int64, count)
        if bool((places[1:] > places[:-1]).all()) or len(set(rows)) == count:
            self.before.frombytes(np.fromiter(map(last.get, rows, repeat(-1)), np.int64, count).tobytes())
            self.rows.frombytes(places.tobytes())
            self.values.extend(values)
            self.seqs.extend(each)
            last.update(zip(rows, range(start, start + count), strict=True))
        else:
            for row, value, seq in zip(rows, values, each, strict=True):
                self.add(row, value, seq)

    def count(self, lsn: Lsn) -> int:
        """How many patches a reader at an LSN sees."""
        return bisect_right(self.seqs, lsn)

    def newest(self, row: int, lsn: Lsn) -> int:
        """The place of a row's newest patch up to an LSN, -1 where there is none."""
        place = self.last.get(row, -1)
        while place >= 0 and self.seqs[place] > lsn:
            place = self.before[place]
        return place

    def rest(self, lsn: Lsn) -> Log:
        """The patches behind an LSN, as a log of their own."""
        start, rest = self.count(lsn), Log()
        for place in range(start, len(self.values)):
            rest.add(self.rows[place], self.values[place], self.seqs[place])
        return rest


@final
class Column:
    """One field of the rows of a source. `stamps` [n] is the LSN of the newest patch that the base has taken
    in, 0 where there is none; patches up to `upto` are in the base, all later ones in the log.
    """

    __slots__ = ("_base", "_cells", "_load", "_made", "log", "stamps", "upto")

    def __init__(
        self,
        base: Array | Callable[[], Array],
        *,
        upto: Lsn,
        stamps: Stamps | None = None,
        log: Log | None = None,
    ) -> None:
        self._load: Callable[[], Array] | None = None if isinstance(base, np.ndarray) else base
        self._base: Array | None = base if isinstance(base, np.ndarray) else None
        self._cells: Any = None
        self.stamps, self.upto, self.log = stamps, upto, log or Log()
        self._made: tuple[int, int, Array] | None = None

    @property
    def base(self) -> Array:
        """The values without the log; read, and checked, at their first use."""
        if self._base is None:
            assert self._load is not None
            self._base = self._load()
        return self._base

    @property
    def cells(self) -> Any:
        """The base as a memoryview: one value at a time is several times faster than from the array."""
        if self._cells is None:
            self._cells = self.base.data
        return self._cells

    def now(self, row: int) -> Any:
        """The present value of a row: for the writer."""
        place = self.log.last.get(row)
        return self.cells[row] if place is None else self.log.values[place]

    def at(self, row: int, lsn: Lsn) -> Any:
        """The value of a row that a reader at an LSN sees."""
        log = self.log
        if row in log.last and (place := log.newest(row, lsn)) >= 0:
            return log.values[place]
        return (self._cells or self.cells)[row]

    def array(self, lsn: Lsn, n: int) -> Array:
        """At least the first n values, as a reader at an LSN sees them; shared, so nobody may write to it."""
        log = self.log
        if not log.last:
            return self.base
        count, made = log.count(lsn), self._made
        if count == 0:
            return self.base
        if made is not None and made[0] == count and made[1] >= n:
            return made[2]
        values = self.base[:n].copy()
        start = 0
        if made is not None and made[0] <= count and made[1] <= n:
            start, values[: made[1]] = made[0], made[2]
        rows = np.frombuffer(log.rows[start:count], np.int64)
        values[rows] = np.array(log.values[start:count], values.dtype)
        self._made = (count, n, values)
        return values

    def stamp(self, row: int, lsn: Lsn) -> Lsn:
        """The LSN of a row's newest patch up to an LSN, 0 where there is none."""
        place = self.log.newest(row, lsn) if row in self.log.last else -1
        if place >= 0:
            return self.log.seqs[place]
        return 0 if self.stamps is None else int(self.stamps[row])

    def stamps_at(self, lsn: Lsn, n: int) -> Stamps:
        """`stamp` of the first n rows."""
        stamps = np.zeros(n, np.uint64) if self.stamps is None else self.stamps[:n].copy()
        if count := self.log.count(lsn):
            rows = np.frombuffer(self.log.rows[:count], np.int64)
            stamps[rows] = np.frombuffer(self.log.seqs[:count], np.uint64)
        return stamps

    def entries(self, since: Lsn, upto: Lsn) -> Entries:
        """The newest patch in (since, upto] of each row that has one."""
        found = logged(self.log, since, upto)
        if self.stamps is not None and since < self.upto:
            taken = np.flatnonzero(self.stamps > since)
            known = set(found.rows)
            rows = [row for row in taken.tolist() if row not in known]
            values = self.base[np.array(rows, np.int64)].tolist()
            seqs = self.stamps[np.array(rows, np.int64)].tolist()
            found = Entries(rows + found.rows, values + found.values, seqs + found.seqs)
        return found

    def patched(self, since: Lsn, upto: Lsn) -> int:
        """About how many rows have a patch in (since, upto]."""
        taken = 0 if self.stamps is None or since >= self.upto else int((self.stamps > since).sum())
        return taken + self.log.count(upto) - self.log.count(since)

    def over(self, base: Array) -> Column:
        """The same patches over a longer base."""
        return Column(base, upto=self.upto, stamps=self.stamps, log=self.log)


@final
class Metas:
    """Metadata that was replaced after the insert: packed bytes by row, with a log like that of a column."""

    __slots__ = ("_made", "log", "taken", "upto")

    def __init__(
        self, *, upto: Lsn, taken: dict[int, tuple[bytes, Lsn]] | None = None, log: Log | None = None
    ) -> None:
        self.taken, self.upto, self.log = taken or {}, upto, log or Log()
        self._made: tuple[int, dict[int, bytes]] | None = None

    def at(self, row: int, lsn: Lsn) -> bytes | None:
        """The metadata that replaced a row's, None where it is the one it was inserted with."""
        place = self.log.newest(row, lsn) if row in self.log.last else -1
        if place >= 0:
            replaced: bytes = self.log.values[place]
            return replaced
        found = self.taken.get(row) if self.taken else None
        return None if found is None else found[0]

    def all(self, lsn: Lsn) -> dict[int, bytes]:
        """All of them as a reader at an LSN sees them; nobody may change it."""
        count = self.log.count(lsn)
        if self._made is None or self._made[0] != count:
            rows, values = self.log.rows[:count], self.log.values[:count]
            taken = {row: value for row, (value, _) in self.taken.items()}
            self._made = count, {**taken, **dict(zip(rows, values, strict=True))}
        return self._made[1]

    def entries(self, since: Lsn, upto: Lsn) -> Entries:
        """The newest replacement in (since, upto] of each row that has one."""
        found = logged(self.log, since, upto)
        known = set(found.rows)
        old = [(row, *pair) for row, pair in self.taken.items() if pair[1] > since and row not in known]
        return Entries(
            [row for row, _, _ in old] + found.rows,
            [value for _, value, _ in old] + found.values,
            [seq for *_, seq in old] + found.seqs,
        )

    def patched(self, since: Lsn, upto: Lsn) -> int:
        """About how many rows were replaced in (since, upto]."""
        taken = sum(seq > since for _, seq in self.taken.values()) if since < self.upto else 0
        return taken + self.log.count(upto) - self.log.count(since)

    def folded(self, lsn: Lsn) -> dict[int, tuple[bytes, Lsn]]:
        """All replacements up to an LSN, with their LSNs."""
        found = logged(self.log, 0, lsn)
        return {**self.taken, **{r: (v, s) for r, v, s in zip(*found, strict=True)}}


def logged(log: Log, since: Lsn, upto: Lsn) -> Entries:
    """The newest patch in (since, upto] of each row of a log, in the order of their LSNs."""
    start, end = log.count(since), log.count(upto)
    places = dict(zip(log.rows[start:end], range(start, end), strict=True))
    chosen = sorted(places.values())
    return Entries(
        [log.rows[place] for place in chosen],
        [log.values[place] for place in chosen],
        [log.seqs[place] for place in chosen],
    )
