"""Intervals against published values."""

from __future__ import annotations

import math

import pytest

from t4dm.evaluation.intervals import mean_interval, wilson


def test_wilson_matches_the_worked_example_of_newcombe_1998() -> None:
    """81 of 263: 0.2553 to 0.3662 (Newcombe 1998, table I, method 3)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_stays_inside_zero_and_one_and_says_nothing_of_nothing() -> None:
    assert wilson(0, 10)[0] == 0.0
    assert 0.99999 < wilson(10, 10)[1] <= 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_three_seeds_use_students_t() -> None:
    """t(0.975, 2) = 4.3027; sd of 1, 2, 3 is 1."""
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(mean_interval([0.5])[1])
