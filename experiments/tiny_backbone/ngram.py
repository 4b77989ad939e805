"""N-gram baselines: what counting alone reaches on the same tokens."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


def unigram_perplexity(train: Sequence[int], held_out: Sequence[int], vocab_size: int) -> float:
    """Add-one smoothed token frequencies."""
    counts = np.bincount(np.asarray(train), minlength=vocab_size) + 1.0
    return math.exp(-np.log(counts / counts.sum())[np.asarray(held_out)].mean())


class KneserNey:
    """Interpolated Kneser-Ney smoothing (Kneser & Ney 1995; Chen & Goodman 1999, eq. 13), one discount
    per order.
    """

    def __init__(self, *, order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = order, vocab_size
        self._counts: list[Counter[tuple[int, ...]]] = []
        self._context: list[Counter[tuple[int, ...]]] = []
        self._followers: list[Counter[tuple[int, ...]]] = []
        self._discount: list[float] = []

    def fit(self, tokens: Sequence[int]) -> KneserNey:
        """Count: raw frequencies at the highest order, continuation counts below."""
        ids = [int(t) for t in tokens]
        counts: Counter[tuple[int, ...]] = Counter(zip(*(ids[i:] for i in range(self.order)), strict=False))
        levels = [counts]
        for _ in range(self.order - 1):
            levels.append(Counter(gram[1:] for gram in levels[-1]))
        self._counts = levels[::-1]
        for grams in self._counts:
            context: Counter[tuple[int, ...]] = Counter()
            followers: Counter[tuple[int, ...]] = Counter()
            for gram, count in grams.items():
                context[gram[:-1]] += count
                followers[gram[:-1]] += 1
            self._context.append(context)
            self._followers.append(followers)
            histogram: dict[int, int] = defaultdict(int, Counter(grams.values()))
            self._discount.append(histogram[1] / max(histogram[1] + 2 * histogram[2], 1) or 0.5)
        return self

    def probability(self, history: tuple[int, ...], token: int) -> float:
        """P(token | the last `order - 1` tokens of `history`)."""
        p = 1.0 / self.vocab_size
        for n in range(1, self.order + 1):
            context = history[len(history) - n + 1 :] if n > 1 else ()
            if len(context) < n - 1 or not (total := self._context[n - 1][context]):
                break
            d = self._discount[n - 1]
            kept = max(self._counts[n - 1][(*context, token)] - d, 0.0)
            p = (kept + d * self._followers[n - 1][context] * p) / total
        return p

    def perplexity(self, tokens: Sequence[int], *, window: int) -> float:
        """Per token, histories cut at window borders as for the backbone; a window's first token is not
        scored.
        """
        ids = [int(t) for t in tokens]
        logs = []
        for start in range(0, len(ids) - window + 1, window):
            part = ids[start : start + window]
            for i in range(1, window):
                logs.append(math.log(self.probability(tuple(part[max(0, i - self.order + 1) : i]), part[i])))
        return math.exp(-sum(logs) / len(logs))
