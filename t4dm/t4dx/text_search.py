"""A text against what a reader sees: BM25 with statistics that are exact for its moment, filters count first.

A document is a visible version of an item whose content has a word. How many there are, how long they are on
average and in how many a word stands is counted at each search among the rows that are visible then, so
deletes, new versions and reads of the past are in the scores at once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import TextQueryError
from t4dm.t4dx.bm25 import Bm25, Statistics
from t4dm.t4dx.filters import Filter
from t4dm.t4dx.matching import match
from t4dm.t4dx.postings import Posting, Postings
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Rows, View
from t4dm.t4dx.text_index import TextFiles, postings
from t4dm.t4dx.tokens import Analyzer
from t4dm.t4dx.types import AsOf
from t4dm.t4dx.zone_maps import pruned

_ALL: Final = Filter()
_NARROW: Final = 16  # postings per matching row from which each row is looked up instead
Line = Mapping[str, object]
Scores = NDArray[np.float64]


class Ranked(NamedTuple):
    """A hit and where it lies; sorted best first, ties by id."""

    minus_score: float
    id: str
    view: int
    row: int


class _Docs(NamedTuple):
    """The documents among the rows of a view: which, None for all of them; how many; their words."""

    mask: NDArray[np.bool_] | None
    number: int
    words: int


class _Part(NamedTuple):
    """A view, where its postings came from, those of the query's words, its lengths [n], its documents."""

    view: View
    postings: Postings
    how: str
    found: dict[str, Posting]
    lengths: NDArray[np.int32]
    docs: _Docs


@final
class TextQuery:
    """One text against one version: statistics are taken when it is made, then any rows can be scored.

    Args:
        version: what the reader sees.
        text: any text; words that occur nowhere add nothing.
        as_of: documents and statistics are those of that time.
        corpus: the documents that statistics are taken over; None for all that are visible.
        bm25: the constants.
        analyzer: how texts become words.
        files: where postings are read from and left; None for nowhere.
    """

    def __init__(
        self,
        version: Version,
        text: str,
        *,
        as_of: AsOf | None,
        corpus: Filter | None,
        bm25: Bm25,
        analyzer: Analyzer,
        files: TextFiles | None,
    ) -> None:
        if not isinstance(text, str):
            raise TextQueryError(f"a text search was given {text!r}; pass a string")
        self._version, self._as_of, self._bm25 = version, as_of, bm25
        self._times = Counter(analyzer.words(text))
        self._parts = [self._part(view, corpus, analyzer, files) for view in version.views]
        self.statistics = self._counted()
        self._floor = 0.0
        self._weights: dict[str, float] = {}
        if self.statistics.documents:
            idfs = bm25.weights(self.statistics, self._every)
            self._weights = {word: idf * self._times[word] for word, idf in idfs.items()}
            self._floor = sum(self._weights.values()) * (bm25.delta if bm25.variant == "plus" else 0.0)
        self._norms: dict[int, Scores] = {}

    def search(self, k: int, where: Filter) -> tuple[list[Ranked], list[Line]]:
        """The k best of the items that pass a filter and hold a word of the query; how they were found."""
        ranked, plan = list[Ranked](), list[Line]([{"search": "text", **self.statistics._asdict()}])
        for number, part in enumerate(self._parts):
            started, rows, path, held = time.perf_counter(), np.zeros(0, np.int64), "skipped", 0
            reason = pruned(part.view, where, self._as_of)
            if not reason:
                rows = match(part.view, where, self._as_of, self._version.collections)
            if len(rows) and k and self._weights:
                path, found, scores = self._held(number, rows)
                ranked += _best(part.view, number, found, scores, k)
                held = len(found)
            plan.append(
                {
                    "search": "text",
                    "view": number,
                    "rows": part.view.n,
                    "matches": len(rows),
                    "pruned": reason,
                    "index": part.how,
                    "path": path,
                    "held": held,
                    "seconds": time.perf_counter() - started,
                }
            )
        return sorted(ranked)[:k], plan

    def scores(self, number: int, rows: Rows) -> Scores:
        """Scores of some rows of a view, 0 where no word of the query stands."""
        found = sum((self._one(number, rows, word) for word in self._weights), start=np.zeros(len(rows)))
        return np.where(found > 0, found + self._floor, 0.0)

    def explain(self, number: int, row: int) -> dict[str, float]:
        """What each word of the query adds to the score of one row."""
        rows, plus = np.array([row]), self._bm25.variant == "plus"
        floors = {word: self._bm25.delta * idf if plus else 0.0 for word, idf in self._weights.items()}
        added = {word: float(self._one(number, rows, word)[0]) + floors[word] for word in self._weights}
        return {word: value for word, value in added.items() if value}

    def _held(self, number: int, rows: Rows) -> tuple[str, Rows, Scores]:
        """How rows were scored, which of them have a positive score, and those scores."""
        part = self._parts[number]
        if _NARROW * len(rows) < sum(len(part.found[word].rows) for word in self._weights):
            scores = self.scores(number, rows)
            held = np.flatnonzero(scores > 0)
            return "rows", rows[held], scores[held]
        scores = self._all(number)[rows]
        held = np.flatnonzero(scores > 0)
        return "postings", rows[held], scores[held] + self._floor

    def _all(self, number: int) -> Scores:
        """The scores of all rows of a view, without what "plus" adds to every document."""
        part, norm = self._parts[number], self._norm(number)
        scores = np.zeros(part.view.n)
        for word, weight in self._weights.items():
            rows, counts = part.found[word]
            if len(rows):
                many = counts.astype(np.float64)
                scores[rows] += weight * (self._bm25.k1 + 1) * many / (many + norm[rows])
        return scores

    def _one(self, number: int, rows: Rows, word: str) -> Scores:
        """What one word adds to some rows: each is looked up among the postings."""
        known, counts = self._parts[number].found[word]
        if not len(known):
            return np.zeros(len(rows))
        places = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        many = np.where(known[places] == rows, counts[places], 0).astype(np.float64)
        return self._weights[word] * (self._bm25.k1 + 1) * many / (many + self._norm(number)[rows])

    def _norm(self, number: int) -> Scores:
        """k1 * (1 - b + b * length / average) of each row."""
        if number not in self._norms:
            k1, b = self._bm25.k1, self._bm25.b
            lengths = self._parts[number].lengths.astype(np.float64)
            self._norms[number] = lengths * (k1 * b / self.statistics.average) + k1 * (1 - b)
        return self._norms[number]

    def _part(self, view: View, corpus: Filter | None, analyzer: Analyzer, files: TextFiles | None) -> _Part:
        index, how = postings(view, analyzer, files, lambda: _segments(self._version))
        lengths = index.lengths(view.n)
        if self._as_of is None and corpus is None:
            docs: _Docs = view.memo(
                f"documents {analyzer.name}",
                (("items", "alive"), ("items", "record_until")),
                lambda: _documents(view.visible_items(None), lengths),
            )
        else:
            docs = _documents(match(view, corpus or _ALL, self._as_of, self._version.collections), lengths)
        return _Part(
            view, index, how, {word: index.find(word, view.n) for word in self._times}, lengths, docs
        )

    def _counted(self) -> Statistics:
        count = sum(part.docs.number for part in self._parts)
        words = sum(part.docs.words for part in self._parts)
        frequency = {
            word: sum(_seen(part.found[word], part.docs) for part in self._parts) for word in self._times
        }
        return Statistics(count, words / count if count else 0.0, frequency)

    def _every(self) -> Mapping[str, int]:
        """In how many documents each word of all documents stands."""
        frequency: Counter[str] = Counter()
        for part in self._parts:
            for word, posting in part.postings.all(part.view.n):
                if seen := _seen(posting, part.docs):
                    frequency[word] += seen
        return frequency


def _best(view: View, number: int, rows: Rows, scores: Scores, k: int) -> list[Ranked]:
    """The k best rows of a view, ties by id."""
    if len(rows) > k:
        edge = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= edge)
        rows, scores = rows[keep], scores[keep]
    pairs = zip(scores.tolist(), rows.tolist(), strict=True)
    return sorted(Ranked(-score, view.source.id_at(row), number, row) for score, row in pairs)[:k]


def _documents(rows: Rows, lengths: NDArray[Any]) -> _Docs:
    own = lengths[rows]
    held = own > 0
    count, words = int(np.count_nonzero(held)), int(own.sum(dtype=np.int64))
    if count == len(lengths):
        return _Docs(None, count, words)
    mask = np.zeros(len(lengths), bool)
    mask[rows[held]] = True
    return _Docs(mask, count, words)


def _seen(posting: Posting, docs: _Docs) -> int:
    """In how many documents a word stands."""
    if docs.mask is None:
        return len(posting.rows)
    return int(np.count_nonzero(docs.mask[posting.rows]))


def _segments(version: Version) -> list[int]:
    return [view.source.entry.id for view in version.views if isinstance(view.source, Segment)]
