"""FSRS-6: when a memory should be reviewed, from how stable and how difficult it is.

After t days an item of stability S (days) is recalled with probability

    R(t) = (1 + F t / S)^(-w20),   F = 0.9^(-1 / w20) - 1,   hence R(S) = 0.9

and each review moves S and the difficulty D (1 to 10) by its rating. Equations and the 21 default weights are
those of FSRS-6 (Ye, Su & Cao 2022, KDD, for the model; open-spaced-repetition, py-fsrs 6.3 for the weights).

py-fsrs counts whole days and uses one equation below a day and another from a day on. Here time is
continuous: within the first day the two are blended linearly, so that this agrees with py-fsrs at every whole
number of days, 0 included, and nothing jumps in between. The blend is ours.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

from t4dm.errors import LearningRuleError

DEFAULT_WEIGHTS = (
    0.212, 1.2931, 2.3065, 8.2956,                    # stability after a first review, by rating
    6.4133, 0.8334, 3.0194, 0.001,                    # difficulty
    1.8722, 0.1666, 0.796,                            # recalled
    1.4835, 0.0614, 0.2629, 1.6483,                   # forgotten
    0.6014, 1.8729,                                   # hard, easy
    0.5425, 0.0912, 0.0658,                           # the same day
    0.1542,                                           # forgetting curve
)  # fmt: skip
MIN_STABILITY = 0.001
MIN_DIFFICULTY, MAX_DIFFICULTY = 1.0, 10.0


class Rating(IntEnum):
    """How a review went."""

    AGAIN = 1
    HARD = 2
    GOOD = 3
    EASY = 4


class Recallable(NamedTuple):
    """What FSRS knows of an item after its last review: stability in days, difficulty in [1, 10]."""

    stability: float
    difficulty: float


def retrievability(
    elapsed: float, stability: float, *, weights: tuple[float, ...] = DEFAULT_WEIGHTS
) -> float:
    """Probability of recall `elapsed` days after the last review; 1 at once, 0.9 after `stability` days."""
    decay = -_checked(weights)[20]
    factor = 0.9 ** (1.0 / decay) - 1.0
    return float((1.0 + factor * max(0.0, elapsed) / stability) ** decay)


def interval(
    stability: float, *, retention: float = 0.9, weights: tuple[float, ...] = DEFAULT_WEIGHTS
) -> float:
    """Days until recall has fallen to `retention`, unrounded.

    Raises:
        LearningRuleError: a retention outside (0, 1).
    """
    if not 0.0 < retention < 1.0:
        raise LearningRuleError(f"a retention of {retention} is never met; set it between 0 and 1")
    decay = -_checked(weights)[20]
    return float(stability * (retention ** (1.0 / decay) - 1.0) / (0.9 ** (1.0 / decay) - 1.0))


def first_review(rating: Rating, *, weights: tuple[float, ...] = DEFAULT_WEIGHTS) -> Recallable:
    """The state after an item's first review."""
    w = _checked(weights)
    return Recallable(max(w[rating - 1], MIN_STABILITY), _clamp(_initial_difficulty(rating, w)))


def review(
    state: Recallable, rating: Rating, elapsed: float, *, weights: tuple[float, ...] = DEFAULT_WEIGHTS
) -> Recallable:
    """The state after another review.

    Args:
        state: after the review before.
        rating: how this one went.
        elapsed: days since the one before, any fraction; a clock that went backwards counts as 0.
        weights: the 21 weights w0 to w20.
    """
    w, days = _checked(weights), max(0.0, elapsed)
    stability = 0.0
    if days < 1.0:
        stability += (1.0 - days) * _same_day(state.stability, rating, w)
    if days > 0.0:
        stability += min(days, 1.0) * _later(
            state, rating, retrievability(days, state.stability, weights=w), w
        )
    return Recallable(max(stability, MIN_STABILITY), _next_difficulty(state.difficulty, rating, w))


def _same_day(stability: float, rating: Rating, w: tuple[float, ...]) -> float:
    """S * exp(w17 (G - 3 + w18)) * S^-w19; what was recalled does not become less stable."""
    rise = math.exp(w[17] * (rating - 3 + w[18])) * stability ** -w[19]
    return stability * (max(rise, 1.0) if rating > Rating.AGAIN else rise)


def _later(state: Recallable, rating: Rating, recall: float, w: tuple[float, ...]) -> float:
    """Stability after a review on another day, when recall had the probability `recall`."""
    s, d = state
    if rating == Rating.AGAIN:
        left = w[11] * d ** -w[12] * ((s + 1.0) ** w[13] - 1.0) * math.exp((1.0 - recall) * w[14])
        return float(min(left, s / math.exp(w[17] * w[18])))
    bonus = {Rating.HARD: w[15], Rating.GOOD: 1.0, Rating.EASY: w[16]}[rating]
    rise = math.exp(w[8]) * (11.0 - d) * s ** -w[9] * (math.exp((1.0 - recall) * w[10]) - 1.0)
    return float(s * (1.0 + rise * bonus))


def _initial_difficulty(rating: Rating, w: tuple[float, ...]) -> float:
    return w[4] - math.exp(w[5] * (rating - 1)) + 1.0


def _next_difficulty(difficulty: float, rating: Rating, w: tuple[float, ...]) -> float:
    """A step that shrinks towards 10, and a slight return to the difficulty of what was easy at once."""
    moved = difficulty - w[6] * (rating - 3) * (10.0 - difficulty) / 9.0
    return _clamp(w[7] * _initial_difficulty(Rating.EASY, w) + (1.0 - w[7]) * moved)


def _clamp(difficulty: float) -> float:
    return min(max(difficulty, MIN_DIFFICULTY), MAX_DIFFICULTY)


def _checked(weights: tuple[float, ...]) -> tuple[float, ...]:
    if len(weights) != len(DEFAULT_WEIGHTS):
        raise LearningRuleError(f"FSRS-6 has 21 weights, not {len(weights)}; pass w0 to w20")
    return weights
