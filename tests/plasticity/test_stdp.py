"""STDP against hand-computed windows and published measurements."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from t4dm.plasticity.stdp import (
    BI_POO,
    HIPPOCAMPAL_NEAREST,
    VISUAL_CORTEX,
    VISUAL_CORTEX_MINIMAL,
    VISUAL_CORTEX_NEAREST,
    STDPParams,
    init_traces,
    stdp_events,
    stdp_step,
    stdp_window,
)

# Sjoestroem, Turrigiano & Nelson 2001, Neuron 32:1149: relative change at five frequencies, lag +10 and -10
# ms, with s.e.m.
FREQUENCIES = (0.1, 10.0, 20.0, 40.0, 50.0)
PLUS = ((-0.04, 0.05), (0.14, 0.10), (0.29, 0.14), (0.53, 0.11), (0.56, 0.26))
MINUS = ((-0.29, 0.08), (-0.41, 0.11), (-0.34, 0.10), (0.56, 0.32), (0.75, 0.19))


def pairings(params: STDPParams, frequency: float, lag: float, count: int = 60) -> float:
    """`count` pairings at `frequency` Hz, times in ms."""
    pre = [1000.0 + 1000.0 * n / frequency for n in range(count)]
    return stdp_events(pre, [t + lag for t in pre], params)


def sjostrom_error(params: STDPParams) -> float:
    misses = [
        ((pairings(params, f, lag) - mean) / sem) ** 2
        for lag, data in ((10.0, PLUS), (-10.0, MINUS))
        for f, (mean, sem) in zip(FREQUENCIES, data, strict=True)
    ]
    return sum(misses) / len(misses)


def trains(batch: int = 3, steps: int = 40, pre: int = 4, post: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw = (torch.rand(batch, steps, n, generator=generator, dtype=torch.float64) for n in (pre, post))
    a, b = ((x < 0.3).double() for x in draw)
    return a, b


def test_one_pair_follows_the_hand_computed_window() -> None:
    for lag in (2.0, 10.0, 40.0):
        assert stdp_events([0.0], [lag], BI_POO) == pytest.approx(
            0.777 / 60 * math.exp(-lag / 16.8), rel=1e-12
        )
        assert stdp_events([lag], [0.0], BI_POO) == pytest.approx(
            -0.273 / 60 * math.exp(-lag / 33.7), rel=1e-12
        )


def test_coincident_spikes_form_no_pair() -> None:
    assert stdp_events([5.0], [5.0], BI_POO) == 0.0


def test_sixty_pairings_at_one_hertz_reach_the_published_amplitudes() -> None:
    assert pairings(BI_POO, 1.0, 10.0) == pytest.approx(0.777 * math.exp(-10 / 16.8), rel=1e-6)
    assert pairings(BI_POO, 1.0, -10.0) == pytest.approx(-0.273 * math.exp(-10 / 33.7), rel=1e-6)


def test_three_spikes_follow_the_triplet_rule_by_hand() -> None:
    p = STDPParams(0.3, 0.2, tau_plus=10.0, tau_minus=20.0, a3_plus=0.5, a3_minus=0.7, tau_x=30.0, tau_y=40.0)
    # post at 0, pre at 4, post at 10
    ltd = math.exp(-4 / 20) * 0.2
    ltp = math.exp(-6 / 10) * (0.3 + 0.5 * math.exp(-10 / 40))
    assert stdp_events([4.0], [0.0, 10.0], p) == pytest.approx(ltp - ltd, rel=1e-12)
    # pre at 0, post at 4, pre at 10
    up = math.exp(-4 / 10) * 0.3
    down = math.exp(-6 / 20) * (0.2 + 0.7 * math.exp(-10 / 30))
    assert stdp_events([0.0, 10.0], [4.0], p) == pytest.approx(up - down, rel=1e-12)


def test_nearest_forgets_earlier_spikes_and_all_to_all_adds_them() -> None:
    p = STDPParams(1.0, 0.0, tau_plus=10.0)
    both = math.exp(-1.0) + math.exp(-0.5)
    assert stdp_events([0.0, 5.0], [10.0], p) == pytest.approx(both, rel=1e-12)
    assert stdp_events([0.0, 5.0], [10.0], p._replace(nearest=True)) == pytest.approx(
        math.exp(-0.5), rel=1e-12
    )


@pytest.mark.parametrize(
    ("params", "bound"), [(VISUAL_CORTEX, 0.40), (VISUAL_CORTEX_MINIMAL, 0.40), (VISUAL_CORTEX_NEAREST, 0.40)]
)
def test_the_triplet_rule_fits_the_frequency_dependence_of_visual_cortex(
    params: STDPParams, bound: float
) -> None:
    assert sjostrom_error(params) <= bound


def test_no_pair_rule_fits_it_even_with_its_amplitudes_chosen_best() -> None:
    # the change is linear in both amplitudes, so the best pair rule is a least-squares solution
    base = STDPParams(0.0, 0.0)
    rows, target = [], []
    for lag, data in ((10.0, PLUS), (-10.0, MINUS)):
        for f, (mean, sem) in zip(FREQUENCIES, data, strict=True):
            up = pairings(base._replace(a_plus=1.0), f, lag)
            down = pairings(base._replace(a_minus=1.0), f, lag)
            rows.append([up / sem, down / sem])
            target.append(mean / sem)
    best, *_ = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)
    fitted = base._replace(a_plus=float(best[0]), a_minus=float(best[1]))
    assert sjostrom_error(fitted) > 5.0


def test_the_triplet_rule_fits_wangs_triplets_and_quadruplets() -> None:
    # Wang et al. 2005, Nat. Neurosci. 8:187, 60 repeats at 1 Hz, pairs and triplets; times in ms within a
    # repeat
    data = [
        ([0.0], [10.0], 0.25, 0.05),
        ([10.0], [0.0], -0.17, 0.05),
        ([0.0, 10.0], [5.0], -0.01, 0.04),
        ([0.0, 20.0], [10.0], 0.03, 0.04),
        ([0.0, 20.0], [15.0], 0.01, 0.03),
        ([0.0, 20.0], [5.0], 0.24, 0.06),
        ([5.0], [0.0, 10.0], 0.33, 0.04),
        ([10.0], [0.0, 20.0], 0.34, 0.04),
        ([5.0], [0.0, 20.0], 0.22, 0.08),
        ([15.0], [0.0, 20.0], 0.29, 0.05),
    ]

    def error(params: STDPParams) -> float:
        total = 0.0
        for pre, post, mean, sem in data:
            starts = [1000.0 * n for n in range(60)]
            change = stdp_events(
                [s + t for s in starts for t in pre], [s + t for s in starts for t in post], params
            )
            total += ((change - mean) / sem) ** 2
        return total / len(data)

    assert error(HIPPOCAMPAL_NEAREST) < 3.6
    assert error(BI_POO) > 2.0 * error(HIPPOCAMPAL_NEAREST)


@pytest.mark.parametrize("params", [BI_POO, VISUAL_CORTEX, VISUAL_CORTEX_NEAREST])
def test_a_window_equals_its_steps_and_continues_across_its_border(params: STDPParams) -> None:
    pre, post = trains()
    traces = init_traces(3, 4, 2, like=pre)
    total = torch.zeros(2, 4, dtype=torch.float64)
    for t in range(40):
        change, traces = stdp_step(pre[:, t], post[:, t], None, traces, params, 2.0)
        total += change
    whole, after = stdp_window(pre, post, params, dt=2.0)
    torch.testing.assert_close(whole, total, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(after, traces, atol=1e-12, rtol=1e-12)
    first, carried = stdp_window(pre[:, :13], post[:, :13], params, dt=2.0)
    second, _ = stdp_window(pre[:, 13:], post[:, 13:], params, dt=2.0, traces=carried)
    torch.testing.assert_close(first + second, whole, atol=1e-12, rtol=1e-12)


def test_a_batch_equals_the_sum_of_its_rows() -> None:
    pre, post = trains()
    whole, _ = stdp_window(pre, post, VISUAL_CORTEX)
    rows = sum(stdp_window(pre[b : b + 1], post[b : b + 1], VISUAL_CORTEX)[0] for b in range(3))
    torch.testing.assert_close(whole, rows, atol=1e-14, rtol=1e-12)


def test_soft_bounds_stop_growth_at_one_and_decline_at_zero() -> None:
    p = STDPParams(0.1, 0.1, mu=1.0)
    pre, post = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [1.0]]])
    grow = [float(stdp_window(pre, post, p, weight=torch.tensor([[w]]))[0]) for w in (0.0, 0.5, 1.0)]
    assert grow[0] == pytest.approx(2 * grow[1], rel=1e-6)
    assert grow[2] == 0.0
    fall = [float(stdp_window(post, pre, p, weight=torch.tensor([[w]]))[0]) for w in (0.0, 0.5, 1.0)]
    assert fall[0] == 0.0
    assert fall[2] == pytest.approx(2 * fall[1], rel=1e-6)


def test_euler_decay_is_the_first_order_of_the_exponential() -> None:
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    p = STDPParams(1.0, 0.0, tau_plus=20.0)
    _, traces = stdp_step(one, none, None, init_traces(1, 1, 1), p, 1.0)
    exact, _ = stdp_step(none, one, None, traces, p, 1.0)
    euler, _ = stdp_step(none, one, None, traces, p, 1.0, euler=True)
    assert float(exact) == pytest.approx(math.exp(-0.05), rel=1e-6)
    assert float(euler) == pytest.approx(0.95, rel=1e-6)
