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
from t4dm.plasticity.published import BI_POO
from t4dm.plasticity.stdp import init_traces, stdp_parts


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


def pairing(lags: tuple[float, ...], noradrenaline: float, serotonin: float, *, delay: float = 0.5) -> float:
    """Change of a synapse after pairings of the given lags (ms), then one pulse of modulators (s later).

    LTP and LTD of the STDP rule mark a trace each, and nothing but the pulse turns them into weight.
    """
    one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    state, p = init_eligibility(none), EligibilityParams()
    for lag in lags:
        order = ((one, none), (none, one)) if lag > 0 else ((none, one), (one, none))
        traces = init_traces(1, 1, 1, like=one)
        for (pre, post), dt in zip(order, (0.0, abs(lag)), strict=True):
            up, down, traces = stdp_parts(pre, post, None, traces, BI_POO, dt)
            state = eligibility_step(state, up, down, p, dt / 1000.0)
        state = eligibility_step(state, none, none, p, 0.1)
    state = eligibility_step(state, none, none, p, delay)
    return float(convert(state, potentiate=noradrenaline, depress=serotonin))


def test_after_pairings_of_both_orders_noradrenaline_potentiates_and_serotonin_depresses() -> None:
    """He et al. 2015, Neuron 88:528: either pulse picks its trace, whatever the order of the pairing was."""
    lags = (10.0, -10.0) * 5
    by_noradrenaline, by_serotonin = pairing(lags, 1.0, 0.0), pairing(lags, 0.0, 1.0)
    assert by_noradrenaline > 0.0
    assert by_serotonin < 0.0
    neither = pairing(lags, 0.0, 0.0)
    assert abs(neither) < 0.05 * min(by_noradrenaline, -by_serotonin)


def test_an_order_that_never_occurred_leaves_nothing_for_its_modulator() -> None:
    assert pairing((10.0,) * 5, 1.0, 0.0) > 0.0
    assert pairing((10.0,) * 5, 0.0, 1.0) == 0.0
    assert pairing((-10.0,) * 5, 1.0, 0.0) == 0.0
    assert pairing((-10.0,) * 5, 0.0, 1.0) < 0.0


def test_the_trace_of_depression_is_gone_sooner() -> None:
    """Seconds for both; that LTD's is the shorter is unverified."""
    left = [
        pairing((lag,), *pulse, delay=3.0) / pairing((lag,), *pulse, delay=0.5)
        for lag, pulse in ((10.0, (1.0, 0.0)), (-10.0, (0.0, 1.0)))
    ]
    assert 0.0 < left[1] < 0.5 * left[0]


def test_many_small_steps_equal_one_long_one() -> None:
    p = EligibilityParams()
    weight = torch.ones(2, 3, dtype=torch.float64)
    none = torch.zeros_like(weight)
    start = eligibility_step(init_eligibility(weight), weight, 2 * weight, p, 0.0)
    fine = start
    for _ in range(10):
        fine = eligibility_step(fine, none, none, p, 0.07)
    torch.testing.assert_close(eligible(fine), eligible(eligibility_step(start, none, none, p, 0.7)))
