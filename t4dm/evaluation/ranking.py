"""How good a ranking is when some of its entries are known to be right: recall, nDCG, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray


def recall_at(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of `relevant` among the first k; each counts once.

    Raises:
        ValueError: nothing is relevant, so that the share is none.
    """
    wanted = _some(relevant)
    return len(wanted & set(ranked[:k])) / len(wanted)


def ndcg_at(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Normalised discounted cumulative gain of the first k, gains 0 and 1 (Järvelin & Kekäläinen 2002, with
    the usual discount): sum over the hits' places i, from 1, of 1 / log2(i + 1), over that of the best order.

    Raises:
        ValueError: nothing is relevant.
    """
    wanted = _some(relevant)
    gained = sum(1.0 / math.log2(place + 2) for place, name in enumerate(ranked[:k]) if name in wanted)
    return gained / sum(1.0 / math.log2(place + 2) for place in range(min(k, len(wanted))))


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """1 / place of the first that is relevant, from 1; 0 where none is."""
    wanted = _some(relevant)
    return next((1.0 / place for place, name in enumerate(ranked, 1) if name in wanted), 0.0)


def _some(relevant: Collection[str]) -> set[str]:
    if not (wanted := set(relevant)):
        raise ValueError("no entry is relevant; leave such a question out")
    return wanted


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    draws: int = 10_000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a mean (Efron & Tibshirani 1993, ch. 13), `(low, high)`.

    Args:
        values: one per question.
        rng: draws.
        groups: the group of each value. Given, whole groups are drawn with all of their values: for values of
            one conversation are alike. With few groups the interval is a rough one.
        draws: resamples.
        level: share of the resampled means inside.

    Raises:
        ValueError: there is no value.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not numbers.size:
        raise ValueError("no value to take a mean of; pass one or more")
    if groups is None:
        sums, counts = numbers, np.ones_like(numbers)
    else:
        _, place = np.unique(np.asarray(groups), return_inverse=True)
        sums = np.asarray(np.bincount(place, weights=numbers), dtype=np.float64)
        counts = np.asarray(np.bincount(place), dtype=np.float64)
    # how often each is drawn is all that a mean needs to know
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=draws)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
