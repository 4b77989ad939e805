"""x -> clip(a*x + b, lo, hi) with a >= 0: the one operator for weights, kappa and counters.

The family is closed under composition, so any number of updates of one edge is a single operator, and the
order of addition and clamping is kept (adding up the deltas and clamping once gives other weights).
"""

from __future__ import annotations

import math
from typing import NamedTuple


class AffineClip(NamedTuple):
    """x -> min(max(a*x + b, lo), hi), a >= 0, in float64."""

    a: float
    b: float
    lo: float
    hi: float

    def __call__(self, x: float) -> float:
        return min(max(self.a * x + self.b, self.lo), self.hi)

    def then(self, after: AffineClip) -> AffineClip:
        """The operator that applies self first, `after` second."""
        if after.a == 0.0:
            return assign(after(0.0))
        return AffineClip(after.a * self.a, after.a * self.b + after.b, after(self.lo), after(self.hi))


IDENTITY = AffineClip(1.0, 0.0, -math.inf, math.inf)


def add(delta: float, *, lo: float = 0.0, hi: float = 1.0) -> AffineClip:
    """x + delta, kept in [lo, hi]."""
    return AffineClip(1.0, delta, lo, hi)


def scale(factor: float, *, lo: float = 0.0, hi: float = 1.0) -> AffineClip:
    """x * factor, kept in [lo, hi]."""
    return AffineClip(factor, 0.0, lo, hi)


def assign(value: float) -> AffineClip:
    """The constant `value`."""
    return AffineClip(0.0, value, value, value)


def approach_one(eta: float) -> AffineClip:
    """kappa + eta*(1 - kappa): consolidation that saturates at 1 and never passes it."""
    return AffineClip(1.0 - eta, eta, 0.0, 1.0)
