"""Two eligibility traces and the modulators that cash them in."""

from __future__ import annotations

import math

import pytest
import torch

from t4dm.plasticity.eligibility import (
    EligibilityParams,
    convert,
    eligibility_step,
    eligible,
    init_eligibility,
)


def change_at(
    delay: float, params: EligibilityParams, *, potentiate: float = 1.0, depress: float = 0.0
) -> float:
    """One pairing that marks both traces at 0; modulators `delay` seconds later (before it if negative)."""
    weight = torch.zeros(1, 1, dtype=torch.float64)
    state = init_eligibility(weight)
    if delay < 0:
        return float(convert(state, potentiate=potentiate, depress=depress))
    mark, none = torch.ones_like(weight), torch.zeros_like(weight)
    state = eligibility_step(state, mark, mark, params, 0.0)
    state = eligibility_step(state, none, none, params, delay)
    return float(convert(state, potentiate=potentiate, depress=depress))


def test_a_trace_rises_and_decays_as_the_difference_of_two_exponentials() -> None:
    p = EligibilityParams(tau_plus=1.0, tau_rise=0.3)
    for delay in (0.0, 0.5, 2.0):
        expected = math.exp(-delay) - math.exp(-delay / 0.3)
        assert change_at(delay, p) == pytest.approx(expected, abs=1e-12)


def test_the_best_moment_for_dopamine_is_some_hundred_milliseconds_after_the_pairing() -> None:
    p = EligibilityParams(tau_plus=1.0, tau_rise=0.3)
    grid = [0.1 * n for n in range(60)]
    effect = {delay: change_at(delay, p) for delay in grid}
    best = max(effect, key=effect.__getitem__)
    assert 0.3 <= best <= 1.2
    assert change_at(-1.0, p) == 0.0
    assert change_at(5.0, p) <= 0.1 * effect[best]


def test_without_a_rise_the_best_moment_is_at_once() -> None:
    p = EligibilityParams(tau_plus=1.0, tau_rise=0.0)
    assert change_at(0.0, p) == 1.0
    assert change_at(0.1, p) < 1.0


def test_noradrenaline_potentiates_serotonin_depresses_and_neither_does_nothing() -> None:
    p = EligibilityParams()
    assert change_at(0.5, p, potentiate=1.0, depress=0.0) > 0.1
    assert change_at(0.5, p, potentiate=0.0, depress=1.0) < -0.1
    assert change_at(0.5, p, potentiate=0.0, depress=0.0) == 0.0


def test_many_small_steps_equal_one_long_one() -> None:
    p = EligibilityParams()
    weight = torch.ones(2, 3, dtype=torch.float64)
    none = torch.zeros_like(weight)
    start = eligibility_step(init_eligibility(weight), weight, 2 * weight, p, 0.0)
    fine = start
    for _ in range(10):
        fine = eligibility_step(fine, none, none, p, 0.07)
    torch.testing.assert_close(eligible(fine), eligible(eligibility_step(start, none, none, p, 0.7)))
