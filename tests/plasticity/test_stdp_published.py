"""STDP against published measurements, each with a rule that must fail on them.

The best pair rule is a least-squares solution: its change is linear in both amplitudes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from t4dm.plasticity.published import (
    BI_POO,
    HIPPOCAMPAL_ALL_TO_ALL,
    HIPPOCAMPAL_MINIMAL,
    HIPPOCAMPAL_NEAREST,
    VISUAL_CORTEX_ALL_TO_ALL,
    VISUAL_CORTEX_MINIMAL,
    VISUAL_CORTEX_NEAREST,
)
from t4dm.plasticity.stdp import STDPParams, init_traces, stdp_events, stdp_step, stdp_window


class Measurement(NamedTuple):
    """60 repeats of a pattern (ms): relative change of the synapse and its standard error."""

    pre: tuple[float, ...]
    post: tuple[float, ...]
    period: float
    mean: float
    sem: float


# Sjöström, Turrigiano & Nelson 2001, Neuron 32:1149: lags +10 and -10 ms at five frequencies.
SJOSTROM = [
    Measurement((0.0,), (10.0,), 1000.0 / frequency, mean, sem)
    for frequency, mean, sem in (
        (0.1, -0.04, 0.05),
        (10, 0.14, 0.10),
        (20, 0.29, 0.14),
        (40, 0.53, 0.11),
        (50, 0.56, 0.26),
    )
] + [
    Measurement((10.0,), (0.0,), 1000.0 / frequency, mean, sem)
    for frequency, mean, sem in (
        (0.1, -0.29, 0.08),
        (10, -0.41, 0.11),
        (20, -0.34, 0.10),
        (40, 0.56, 0.32),
        (50, 0.75, 0.19),
    )
]
# Wang et al. 2005, Nat. Neurosci. 8:187, at 1 Hz. Unverified: the intervals of the three quadruplets, two
# pairs of 5 ms whose centres are 85 and 25 ms apart (pre-post-post-pre) and 25 ms (post-pre-pre-post).
WANG = [
    Measurement((0.0,), (10.0,), 1000.0, 0.25, 0.05),
    Measurement((10.0,), (0.0,), 1000.0, -0.17, 0.05),
    Measurement((0.0, 10.0), (5.0,), 1000.0, -0.01, 0.04),
    Measurement((0.0, 20.0), (10.0,), 1000.0, 0.03, 0.04),
    Measurement((0.0, 20.0), (15.0,), 1000.0, 0.01, 0.03),
    Measurement((0.0, 20.0), (5.0,), 1000.0, 0.24, 0.06),
    Measurement((5.0,), (0.0, 10.0), 1000.0, 0.33, 0.04),
    Measurement((10.0,), (0.0, 20.0), 1000.0, 0.34, 0.04),
    Measurement((5.0,), (0.0, 20.0), 1000.0, 0.22, 0.08),
    Measurement((15.0,), (0.0, 20.0), 1000.0, 0.29, 0.05),
    Measurement((0.0, 90.0), (5.0, 85.0), 1000.0, -0.003, 0.03),
    Measurement((0.0, 30.0), (5.0, 25.0), 1000.0, 0.06, 0.04),
    Measurement((5.0, 25.0), (0.0, 30.0), 1000.0, 0.21, 0.04),
]


def predicted(params: STDPParams, m: Measurement) -> float:
    starts = [m.period * n for n in range(60)]
    return stdp_events(
        [s + t for s in starts for t in m.pre], [s + t for s in starts for t in m.post], params
    )


def error(params: STDPParams, data: list[Measurement]) -> float:
    """E, the mean squared miss in standard errors."""
    return sum(((predicted(params, m) - m.mean) / m.sem) ** 2 for m in data) / len(data)


def best_pair_rule(data: list[Measurement]) -> STDPParams:
    base = STDPParams(0.0, 0.0)
    ups, downs = base._replace(a_plus=1.0), base._replace(a_minus=1.0)
    rows = [[predicted(ups, m) / m.sem, predicted(downs, m) / m.sem] for m in data]
    best, *_ = np.linalg.lstsq(np.array(rows), np.array([m.mean / m.sem for m in data]), rcond=None)
    return base._replace(a_plus=float(best[0]), a_minus=float(best[1]))


def window(dt: float, *, euler: bool = False) -> float:
    """Largest relative miss of 60 clocked pairings against the configured window, lags of 2 to 100 ms.

    Lags lie off the grid by up to 0.47 steps; the worst possible, half a step, costs exp(dt / 2 tau) - 1.
    One pairing is run and counted 60 times: at 1 Hz the pairings do not see each other (exp(-900/33.7)).
    """
    lags = np.concatenate([sign * np.arange(2.0, 100.0, 5.23) for sign in (-1.0, 1.0)])
    one, none = np.round((100.0 + np.stack([0.0 * lags, lags])) / dt).astype(int)
    pre, post = (torch.zeros(int(220 / dt), len(lags), dtype=torch.float64) for _ in range(2))
    for column, (before, after) in enumerate(zip(one, none, strict=True)):
        pre[before, column] = post[after, column] = 1.0
    traces = init_traces(1, len(lags), len(lags), like=pre)
    total = torch.zeros(len(lags), len(lags), dtype=torch.float64)
    for a, b in zip(pre, post, strict=True):
        change, traces = stdp_step(a[None], b[None], None, traces, BI_POO, dt, euler=euler)
        total += 60.0 * change
    up, down = 0.777 * np.exp(-lags / 16.8), -0.273 * np.exp(lags / 33.7)
    expected = np.where(lags > 0, up, down)
    return float(np.abs(total.diagonal().numpy() / expected - 1.0).max())


def test_sixty_pairings_draw_the_configured_window() -> None:
    assert window(0.1) <= 0.01
    assert window(1.0) <= 0.03
    assert window(1.0, euler=True) > 0.10


def test_sixty_pairings_at_one_hertz_reach_the_amplitudes_of_the_protocol() -> None:
    for lag in (2.0, 10.0, 40.0):
        up = predicted(BI_POO, Measurement((0.0,), (lag,), 1000.0, 0.0, 1.0))
        down = predicted(BI_POO, Measurement((lag,), (0.0,), 1000.0, 0.0, 1.0))
        assert up == pytest.approx(0.777 * np.exp(-lag / 16.8), rel=1e-6)
        assert down == pytest.approx(-0.273 * np.exp(-lag / 33.7), rel=1e-6)


def test_the_configured_window_lies_within_what_the_data_of_bi_and_poo_allow() -> None:
    """95 % bootstrap intervals of a refit of 42 digitised points; the one of tau_plus is 4.8 to 31.8 ms."""
    assert 0.49 <= 60 * BI_POO.a_plus <= 1.66
    assert 0.20 <= 60 * BI_POO.a_minus <= 0.48
    assert 4.8 <= BI_POO.tau_plus <= 31.8
    assert 14.0 <= BI_POO.tau_minus <= 73.0


@pytest.mark.parametrize(
    ("params", "figure"),
    [(VISUAL_CORTEX_ALL_TO_ALL, 0.34), (VISUAL_CORTEX_MINIMAL, 0.36), (VISUAL_CORTEX_NEAREST, 0.23)],
)
def test_the_triplet_rule_fits_the_frequencies_of_visual_cortex(params: STDPParams, figure: float) -> None:
    found = error(params, SJOSTROM)
    assert found <= 0.40
    assert found == pytest.approx(figure, abs=0.02)


def test_the_best_pair_rule_fails_on_them_because_it_hardly_sees_frequency() -> None:
    best = best_pair_rule(SJOSTROM)
    assert error(best, SJOSTROM) == pytest.approx(7.6, abs=0.1)
    slow, fast = SJOSTROM[0], SJOSTROM[4]
    assert fast.mean - slow.mean == pytest.approx(0.6)
    assert abs(predicted(best, fast) - predicted(best, slow)) < 0.02
    assert predicted(VISUAL_CORTEX_ALL_TO_ALL, fast) - predicted(VISUAL_CORTEX_ALL_TO_ALL, slow) > 0.5


def test_the_default_parameters_of_nestml_fail_on_them() -> None:
    nestml = VISUAL_CORTEX_ALL_TO_ALL._replace(a_plus=7.5e-10, a3_plus=9.3e-3)
    assert error(nestml, SJOSTROM) == pytest.approx(5.6, abs=0.3)


@pytest.mark.parametrize(("params", "figure"), [(HIPPOCAMPAL_ALL_TO_ALL, 2.69), (HIPPOCAMPAL_MINIMAL, 2.92)])
def test_the_triplet_rule_fits_the_triplets_and_quadruplets_of_hippocampal_culture(
    params: STDPParams, figure: float
) -> None:
    found = error(params, WANG)
    assert found <= 3.0
    assert found == pytest.approx(figure, abs=0.02)


def paired_once(params: STDPParams, m: Measurement) -> float:
    """The nearest rule read otherwise: a spike that found its partner is spent and pairs no more."""
    one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    events = sorted([(t, 0) for t in m.pre] + [(t, 1) for t in m.post])
    traces, total, now = init_traces(1, 1, 1, like=one), 0.0, 0.0
    for n in range(60):
        for time, side in events:
            spikes = (none, one) if side else (one, none)
            change, traces = stdp_step(*spikes, None, traces, params, n * m.period + time - now)
            traces = traces._replace(**{"r1" if side else "o1": none})
            total, now = total + float(change), n * m.period + time
    return total


def test_with_nearest_spikes_the_published_set_misses_one_quadruplet() -> None:
    """2.72 is claimed for it, 3.0 asked, and 3.53 found where a trace jumps to 1 at every spike.

    All of the excess is the quadruplet pre-post-post-pre at 25 ms, whose second post spike finds the first
    pre spike again. Where a spike pairs once, the same numbers give 2.76; nothing else differs.
    """
    assert error(HIPPOCAMPAL_NEAREST, WANG) == pytest.approx(3.53, abs=0.02)
    jump, once = (
        np.array([((rule(HIPPOCAMPAL_NEAREST, m) - m.mean) / m.sem) ** 2 for m in WANG])
        for rule in (predicted, paired_once)
    )
    assert once.mean() == pytest.approx(2.76, abs=0.02)
    assert once.mean() <= 3.0
    np.testing.assert_allclose(jump[:10], once[:10], rtol=1e-6)
    assert int((jump - once).argmax()) == 11
    assert jump[11] - once[11] > 10.0
    for m in SJOSTROM:
        here, there = (rule(VISUAL_CORTEX_NEAREST, m) for rule in (predicted, paired_once))
        assert here == pytest.approx(there, abs=1e-9)  # trains of pairs cannot tell the two apart


def test_other_time_constants_do_not_bring_the_jumping_trace_to_three() -> None:
    """Best non-negative amplitudes for each pair of tau_x and tau_y: the rule is linear in them."""
    names = ("a_plus", "a3_plus", "a_minus", "a3_minus")
    silent = HIPPOCAMPAL_NEAREST._replace(**dict.fromkeys(names, 0.0))
    wanted = np.array([m.mean / m.sem for m in WANG])
    found = []
    for tau_x, tau_y in ((575.0, 47.0), (575.0, 150.0), (1500.0, 150.0)):
        rules = [silent._replace(**{name: 1.0}, tau_x=tau_x, tau_y=tau_y) for name in names]
        design = np.array([[predicted(rule, m) / m.sem for rule in rules] for m in WANG])
        found.append(nnls(design, wanted)[1] ** 2 / len(WANG))
    assert min(found) == pytest.approx(3.08, abs=0.02)
    assert found[0] == pytest.approx(3.21, abs=0.02)


def test_the_best_pair_rule_fails_on_them() -> None:
    assert error(best_pair_rule(WANG), WANG) == pytest.approx(9.0, abs=0.1)


def test_under_poisson_trains_the_triplet_rule_is_quadratic_in_the_post_rate_as_in_bcm() -> None:
    """Mean drift of the minimal rule: tau+ rho_x rho_y (A3+ tau_y rho_y) - A2- tau- rho_x rho_y."""
    p, rate_pre, steps, synapses = VISUAL_CORTEX_MINIMAL, 0.02, 20_000, 64
    rng = torch.Generator().manual_seed(0)
    rates = torch.linspace(0.002, 0.05, 9)  # spikes per ms
    pre = (torch.rand(1, steps, synapses, generator=rng) < rate_pre).double()
    each = rates.repeat_interleave(synapses)
    post = (torch.rand(1, steps, len(each), generator=rng) < each).double()
    change, _ = stdp_window(pre, post, p)
    drift = change.reshape(len(rates), -1).mean(dim=1) / steps
    y, measured = rates.double().numpy(), drift.numpy()
    design = np.stack([y, y**2], axis=1)
    fit, *_ = np.linalg.lstsq(design, measured, rcond=None)
    left = ((measured - design @ fit) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()
    assert 1.0 - left >= 0.98
    assert fit[0] == pytest.approx(-p.a_minus * p.tau_minus * rate_pre, rel=0.1)
    assert fit[1] == pytest.approx(p.a3_plus * p.tau_plus * p.tau_y * rate_pre, rel=0.1)
    assert measured[0] < 0.0 < measured[-1]
