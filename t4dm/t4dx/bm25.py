"""BM25: its constants, and the weight of a word by how many documents hold it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from t4dm.errors import TextQueryError

VARIANTS: Final = ("lucene", "okapi", "plus")


class Statistics(NamedTuple):
    """Of the documents that count: how many, their mean length in words, and the documents of each word of a
    query.
    """

    documents: int
    average: float
    frequency: dict[str, int]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bm25:
    """The constants of BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and
    Beyond"). With N documents, n of them with a word that stands f times in one of length L, the word adds
    idf * f * (k1 + 1) / (f + k1 * (1 - b + b * L / average)).

    The default k1 and b are Anserini's for passages (Yang, Fang and Lin 2017): what is remembered is short.

    Attributes:
        variant: "lucene": idf = ln(1 + (N - n + 0.5) / (n + 0.5)), never negative. "okapi": idf =
            ln((N - n + 0.5) / (n + 0.5)), where negative `epsilon` times the mean over all words. "plus":
            idf = ln((N + 1) / n), and each word adds idf * `delta` to every document (Lv and Zhai, "Lower-
            bounding term frequency normalization", 2011). The last two are those of the package rank-bm25.
        k1: how late repetitions of a word stop counting, > 0.
        b: how much length counts, in [0, 1].
        epsilon: of "okapi", 0 or more.
        delta: of "plus", 0 or more.
    """

    variant: str = "lucene"
    k1: float = 0.9
    b: float = 0.4
    epsilon: float = 0.25
    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise TextQueryError(f"Bm25 has no variant {self.variant!r}; choose one of {', '.join(VARIANTS)}")
        if not (0 < self.k1 < math.inf and 0 <= self.b <= 1):
            raise TextQueryError(f"Bm25 has k1={self.k1} and b={self.b}; write k1 above 0 and b in [0, 1]")
        if not (0 <= self.epsilon < math.inf and 0 <= self.delta < math.inf):
            raise TextQueryError(
                f"Bm25 has epsilon={self.epsilon} and delta={self.delta}; write numbers from 0 on"
            )

    def weights(self, told: Statistics, every: Callable[[], Mapping[str, int]]) -> dict[str, float]:
        """The idf of each word that some document holds. `every` counts the documents of all words there are:
        only "okapi" needs it, and only for a word that more than half of the documents hold.
        """
        known = {word: self._idf(told.documents, n) for word, n in told.frequency.items() if n}
        negative = [word for word, idf in known.items() if idf < 0]
        if negative:
            all_words = every().values()
            mean = math.fsum(self._idf(told.documents, n) for n in all_words) / len(all_words)
            known |= dict.fromkeys(negative, self.epsilon * mean)
        return known

    def _idf(self, documents: int, n: int) -> float:
        match self.variant:
            case "plus":
                return math.log((documents + 1) / n)
            case "lucene":
                return math.log1p((documents - n + 0.5) / (n + 0.5))
        return math.log(documents - n + 0.5) - math.log(n + 0.5)
