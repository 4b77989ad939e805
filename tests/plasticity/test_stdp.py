"""The STDP rule by hand: its conventions, its schemes, its bounds, and windows against steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.plasticity.published import BI_POO, VISUAL_CORTEX_ALL_TO_ALL, VISUAL_CORTEX_NEAREST
from t4dm.plasticity.stdp import (
    STDPParams,
    init_traces,
    stdp_events,
    stdp_parts,
    stdp_step,
    stdp_window,
)


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


@pytest.mark.parametrize("nearest", [False, True])
def test_coincident_spikes_form_no_pair_with_each_other_but_do_with_others(nearest: bool) -> None:
    p = VISUAL_CORTEX_ALL_TO_ALL._replace(a_plus=5e-3, nearest=nearest)
    assert stdp_events([5.0], [5.0], p) == 0.0
    # the earlier pre spike pairs with the post at 5; the coincident ones read only traces from before
    ltp = p.a_plus * math.exp(-5 / 16.8)
    assert stdp_events([0.0, 5.0], [5.0], p) == pytest.approx(ltp, rel=1e-12)
    ltd = -p.a_minus * math.exp(-5 / 33.7)
    assert stdp_events([5.0], [0.0, 5.0], p) == pytest.approx(ltd, rel=1e-12)


def test_a_post_spike_does_not_read_the_trace_that_it_leaves() -> None:
    """With A3+ alone a first post spike potentiates nothing, whatever came before it."""
    p = STDPParams(0.0, 0.0, a3_plus=1.0, tau_plus=10.0, tau_y=40.0)
    assert stdp_events([0.0], [4.0], p) == 0.0
    assert stdp_events([0.0], [4.0, 8.0], p) == pytest.approx(math.exp(-0.8) * math.exp(-0.1), rel=1e-12)


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


@pytest.mark.parametrize("params", [BI_POO, VISUAL_CORTEX_ALL_TO_ALL, VISUAL_CORTEX_NEAREST])
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
    whole, _ = stdp_window(pre, post, VISUAL_CORTEX_ALL_TO_ALL)
    rows = sum(stdp_window(pre[b : b + 1], post[b : b + 1], VISUAL_CORTEX_ALL_TO_ALL)[0] for b in range(3))
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


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0])
def test_a_weight_never_leaves_its_bounds_however_large_the_amplitudes(mu: float) -> None:
    pre, post = trains(steps=200)
    weight = torch.rand(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    params, traces = STDPParams(3.0, 2.0, mu=mu), init_traces(3, 4, 2, like=pre)
    low, high = 1.0, 0.0
    for t in range(200):
        change, traces = stdp_step(pre[:, t], post[:, t], weight, traces, params, 1.0)
        weight = weight + change
        low, high = min(low, float(weight.min())), max(high, float(weight.max()))
    assert -1e-15 <= low < 0.05
    assert 0.95 < high <= 1.0 + 1e-15
    window, _ = stdp_window(pre, post, params, weight=weight)
    assert bool(((weight + window >= -1e-15) & (weight + window <= 1.0 + 1e-15)).all())


def test_ltp_and_ltd_apart_are_non_negative_and_their_difference_is_the_change() -> None:
    pre, post = trains()
    traces = init_traces(3, 4, 2, like=pre)
    seen = torch.zeros(2)
    for t in range(40):
        change, _ = stdp_step(pre[:, t], post[:, t], None, traces, VISUAL_CORTEX_ALL_TO_ALL, 1.0)
        up, down, traces = stdp_parts(pre[:, t], post[:, t], None, traces, VISUAL_CORTEX_ALL_TO_ALL, 1.0)
        assert torch.equal(change, up - down)
        assert min(float(up.min()), float(down.min())) >= 0.0
        seen += torch.tensor([float(up.sum()), float(down.sum())])
    assert bool((seen > 0.0).all())
