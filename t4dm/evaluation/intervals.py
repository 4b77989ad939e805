"""Confidence intervals for accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.stats import norm, t

Z95 = float(norm.ppf(0.975))


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927, eq. 4), `(low, high)`; (0, 1) where nothing was
    asked.
    """
    if not total:
        return 0.0, 1.0
    p, z2 = right / total, Z95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of a few seeds and the half width of its 95 % interval (Student's t); NaN half width for a
    single one.
    """
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, float(t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
