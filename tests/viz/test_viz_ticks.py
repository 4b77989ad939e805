from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4dm.viz.ticks import integer_ticks, nice_step, nice_ticks, tick_text, widened

FINITE = st.floats(min_value=-1e12, max_value=1e12)


@pytest.mark.parametrize(
    ("low", "high", "at"),
    [
        (0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.0, 10.0, (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)),
        (0.3, 11.7, (2.5, 5.0, 7.5, 10.0)),
        (-1.0, 1.0, (-1.0, -0.5, 0.0, 0.5, 1.0)),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, at: tuple[float, ...]) -> None:
    assert nice_ticks(low, high).at == pytest.approx(at)


def test_an_empty_range_has_one_tick() -> None:
    assert nice_ticks(3.0, 3.0).at == (3.0,)


def test_whole_quantities_never_get_a_tick_between_two_numbers() -> None:
    assert integer_ticks(0, 3).at == (0.0, 1.0, 2.0, 3.0)
    assert integer_ticks(0, 12).at == (0.0, 3.0, 6.0, 9.0, 12.0)


@given(FINITE, FINITE)
def test_ticks_lie_inside_and_the_widened_range_holds_the_data(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = nice_ticks(low, high)
    slack = 1e-6 * max(ticks.step, abs(low), abs(high))
    assert 1 <= len(ticks.at) <= 8
    assert all(low - slack <= tick <= high + slack for tick in ticks.at)
    outer_low, outer_high = widened(low, high)
    assert outer_low <= low + slack
    assert outer_high >= high - slack
    assert outer_high > outer_low


def test_a_step_is_1_2_25_or_5_times_a_power_of_ten() -> None:
    assert [nice_step(span, 5) for span in (4.0, 8.0, 12.0, 21.0, 40.0)] == [1.0, 2.0, 2.5, 5.0, 10.0]


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0.25, 0.25, "0.25"),
        (2.0, 2.0, "2"),
        (-0.0, 0.5, "0.0"),
        (30000.0, 10000.0, "30k"),
        (12500.0, 2500.0, "12.5k"),
        (1.5e6, 5e5, "1.5M"),
        (2e12, 1e12, "2e+12"),
        (3e-7, 1e-7, "3e-07"),
    ],
)
def test_tick_text_has_the_decimals_of_its_step(value: float, step: float, text: str) -> None:
    assert tick_text(value, step) == text
