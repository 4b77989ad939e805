"""Sleep pressure: two time constants, two thresholds, a clock of activity."""

from __future__ import annotations

import json
import math

import pytest

from t4dm.sleep.pressure import SLEEP_HOURS, WAKE_HOURS, SleepPressure


def _nights(pressure: SleepPressure, moments: int) -> list[int]:
    """The moments at which a night is due, each slept through at once."""
    due = []
    for moment in range(moments):
        pressure.record(1)
        if pressure.due(float(moment)):
            due.append(moment)
            pressure.slept(0)
    return due


def test_a_night_is_due_after_items_per_night() -> None:
    assert _nights(SleepPressure(items_per_night=100), 301) == [99, 199, 299]


def test_pressure_rises_by_the_two_process_equation() -> None:
    """From 0.17, one time constant later: 1 - 0.83 / e."""
    pressure = SleepPressure(items_per_night=10)
    pressure.record(pressure.tau_wake)
    assert pressure.level == pytest.approx(1 - 0.83 / math.e)


def test_constants_give_sixteen_hours_awake_and_eight_asleep() -> None:
    """With hours as activity and without the daily swing: 18.2 ln(0.83 / 0.33) = 16.8 h, 4.2 ln(0.67 /
    0.17) = 5.8 h.
    """
    pressure = SleepPressure(items_per_night=WAKE_HOURS * math.log(0.83 / 0.33))
    assert pressure.tau_wake == pytest.approx(18.2)
    assert pressure.tau_sleep == pytest.approx(4.2)
    assert pressure.tau_sleep / pressure.tau_wake == pytest.approx(SLEEP_HOURS / WAKE_HOURS)


def test_replaying_a_third_of_the_day_clears_it() -> None:
    """4.2 / 18.2 * ln(0.67 / 0.17) / ln(0.83 / 0.33) = 0.343."""
    pressure = SleepPressure(items_per_night=1000)
    pressure.record(1001)
    assert pressure.due(0.0)
    pressure.slept(340, finished=False)
    assert pressure.due(0.0)
    pressure.slept(10, finished=False)
    assert not pressure.due(0.0)


def test_hysteresis_keeps_an_unfinished_night_due() -> None:
    pressure = SleepPressure(items_per_night=100)
    pressure.record(101)
    assert pressure.due(0.0)
    pressure.slept(10, finished=False)
    assert pressure.level < pressure.upper
    assert pressure.due(0.0)


def test_a_finished_night_without_replay_is_not_due_again() -> None:
    """With nothing left to replay the level would not fall, and every step would be a night."""
    pressure = SleepPressure(items_per_night=10)
    pressure.record(50)
    assert pressure.due(0.0)
    pressure.slept(0)
    assert not pressure.due(0.0)


def test_surprise_tires() -> None:
    calm, shaken = SleepPressure(error_gain=0.5), SleepPressure(error_gain=0.5)
    calm.record(100, 0.0)
    shaken.record(50, 2.0)
    assert shaken.level == pytest.approx(calm.level)


def test_idleness_asks_for_sleep_only_after_experience() -> None:
    pressure = SleepPressure(items_per_night=1000, idle_seconds=60.0)
    assert not pressure.due(1e6)
    pressure.record(5, now=1e6)
    assert not pressure.due(1e6 + 59)
    assert pressure.due(1e6 + 60)
    pressure.slept(5)
    assert not pressure.due(2e6)


def test_the_daily_swing_moves_the_upper_threshold() -> None:
    morning, evening = (SleepPressure(items_per_night=100, circadian=0.12) for _ in range(2))
    for pressure in (morning, evening):
        pressure.record(90)
    assert not morning.due(6 * 3600.0)
    assert evening.due(18 * 3600.0)


def test_state_survives_json() -> None:
    pressure = SleepPressure(items_per_night=10)
    pressure.record(20, now=3.0)
    pressure.due(3.0)
    copy = SleepPressure(items_per_night=10)
    copy.load_state_dict(json.loads(json.dumps(pressure.state_dict())))
    assert copy.state_dict() == pressure.state_dict()
    assert copy.due(4.0)


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="lower < upper"):
        SleepPressure(upper=0.1, lower=0.5)
