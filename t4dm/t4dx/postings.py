"""Postings: for each word the rows whose text holds it, and how often. `Packed` is a segment's, in a few
arrays that can be mapped from a file; `Growing` follows a memtable.

Both hold every row of their source, dead ones too: whether a row is seen is asked at the search, so a delete,
a new version or a read of the past costs no change here.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.sources import Source
from t4dm.t4dx.tokens import Analyzer

Codes = NDArray[np.int32]
_NONE: Final = np.zeros(0, np.int32)


class Posting(NamedTuple):
    """Rows [p] that hold a word, ascending, and how often each does; in as few bytes as they fit in."""

    rows: NDArray[Any]
    counts: NDArray[Any]


NOWHERE: Final = Posting(_NONE, _NONE)


class Postings(ABC):
    """The words of the first rows of a source."""

    @abstractmethod
    def lengths(self, n: int) -> Codes:
        """Words of each of the first n rows, repetitions counted."""

    @abstractmethod
    def find(self, word: str, n: int) -> Posting:
        """Where a word stands among the first n rows."""

    @abstractmethod
    def all(self, n: int) -> Iterator[tuple[str, Posting]]:
        """Every word of the first n rows."""


class Arrays(NamedTuple):
    """A packed index: word i is blob[ends[i]:ends[i + 1]], its postings lie at starts[i]:starts[i + 1].
    Words are sorted by their UTF-8 bytes.
    """

    blob: NDArray[np.uint8]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    rows: NDArray[Any]
    counts: NDArray[Any]
    lengths: Codes


@final
class Packed(Postings):
    """The postings of an immutable source."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._blob, self._ends = arrays.blob.data, arrays.ends.data
        self._places: dict[str, int] = {}

    def lengths(self, n: int) -> Codes:
        return self.arrays.lengths[:n]

    def find(self, word: str, n: int) -> Posting:
        place = self._places.get(word)
        if place is None:
            if len(self._places) >= 1 << 16:
                self._places.clear()
            place = self._places[word] = self._search(word.encode())
        return NOWHERE if place < 0 else self._at(place)

    def all(self, n: int) -> Iterator[tuple[str, Posting]]:
        for place in range(len(self._ends) - 1):
            yield str(self._word(place), "utf-8"), self._at(place)

    def _at(self, place: int) -> Posting:
        starts = self.arrays.starts
        lo, hi = int(starts[place]), int(starts[place + 1])
        return Posting(self.arrays.rows[lo:hi], self.arrays.counts[lo:hi])

    def _word(self, place: int) -> bytes:
        return bytes(self._blob[self._ends[place] : self._ends[place + 1]])

    def _search(self, word: bytes) -> int:
        size = len(self._ends) - 1
        place = bisect_left(range(size), word, key=self._word)
        return place if place < size and self._word(place) == word else -1


@final
class Growing(Postings):
    """The postings of a memtable, as far as anybody searched: what was inserted since is added at the next
    search, so a write pays nothing.
    """

    def __init__(self, source: Source, analyzer: Analyzer) -> None:
        self._source, self._analyzer = source, analyzer
        self._lengths = array("i")
        self._rows: dict[str, tuple[array[int], array[int]]] = {}
        self._lock = threading.Lock()

    def lengths(self, n: int) -> Codes:
        self._grow(n)
        return np.frombuffer(self._lengths[:n], np.int32)

    def find(self, word: str, n: int) -> Posting:
        self._grow(n)
        found = self._rows.get(word)
        return NOWHERE if found is None else _first(found, n)

    def all(self, n: int) -> Iterator[tuple[str, Posting]]:
        self._grow(n)
        with self._lock:
            known = list(self._rows.items())
        for word, found in known:
            if len((posting := _first(found, n)).rows):
                yield word, posting

    def _grow(self, n: int) -> None:
        if len(self._lengths) >= n:
            return
        with self._lock:
            for row in range(len(self._lengths), n):
                words = self._analyzer.words(self._source.text_at(row)[0])
                for word, count in Counter(words).items():
                    found = self._rows.get(word)
                    if found is None:
                        found = self._rows[word] = array("i"), array("i")
                    found[1].append(count)  # before its row: who sees the row sees the count
                    found[0].append(row)
                self._lengths.append(len(words))


def _first(found: tuple[array[int], array[int]], n: int) -> Posting:
    rows = np.frombuffer(found[0][:], np.int32)
    used = int(np.searchsorted(rows, n))
    return Posting(rows[:used], np.frombuffer(found[1][:used], np.int32))


def pack(texts: Sequence[str] | Iterator[str], analyzer: Analyzer) -> Arrays:
    """The postings of texts, row by row."""
    codes: dict[str, int] = {}
    lengths, tokens = array("i"), array("i")
    for text in texts:
        words = analyzer.words(text)
        lengths.append(len(words))
        tokens.extend([codes.setdefault(word, len(codes)) for word in words])
    return _arranged(list(codes), np.frombuffer(tokens, np.int32), np.frombuffer(lengths, np.int32))


def _arranged(words: list[str], tokens: Codes, lengths: Codes) -> Arrays:
    """Occurrences, in the order of the texts, as postings by word."""
    packed = [word.encode() for word in words]
    order = sorted(range(len(packed)), key=packed.__getitem__)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys, counts = np.unique(ranks[tokens] * max(1, len(lengths)) + rows, return_counts=True)
    places, kept = np.divmod(keys, max(1, len(lengths)))
    starts, ends = np.zeros(len(order) + 1, np.int64), np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.bincount(places, minlength=len(order)), out=starts[1:])
    np.cumsum([len(packed[place]) for place in order], out=ends[1:])
    blob = np.frombuffer(b"".join(packed[place] for place in order), np.uint8)
    rows_kind = np.uint16 if len(lengths) <= 1 << 16 else np.int32
    count_kind = np.uint8 if int(counts.max(initial=0)) < 256 else np.int32
    return Arrays(blob, ends, starts, kept.astype(rows_kind), counts.astype(count_kind), lengths.copy())
