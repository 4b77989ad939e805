"""Spike-timing-dependent plasticity, pair and triplet: the one rule that replay, the language model and the
biology use.

Conventions. Lag = t_post - t_pre. Traces decay, are read, and only then take up the current spike, so that a
pre and a post spike of the same step form no pair. Pair rule (Bi & Poo 1998), triplet rule (Pfister &
Gerstner 2006, eq. 2-4):

    on a post spike   w += r1 (A2+ + A3+ o2)          on a pre spike   w -= o1 (A2- + A3- r2)

r1, r2 are traces of the pre spikes (tau_plus, tau_x), o1, o2 of the post spikes (tau_minus, tau_y). With A3
= 0 the triplet rule is the pair rule. `nearest` lets a trace jump to 1 at a spike instead of adding 1.
Published parameter sets are in `t4dm.plasticity.published`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.plasticity.traces import linear_scan


class STDPParams(NamedTuple):
    """Amplitudes per spike, time constants in any unit (that of `dt`), the scheme, and the exponent of the
    soft bounds.

    LTP is scaled by (1 - w)^mu and LTD by w^mu where the rule is given weights, which then stay in [0, 1]
    whatever `mu` is; `mu = 0` has hard bounds alone.
    """

    a_plus: float
    a_minus: float
    tau_plus: float = 16.8
    tau_minus: float = 33.7
    a3_plus: float = 0.0
    a3_minus: float = 0.0
    tau_x: float = 101.0
    tau_y: float = 125.0
    nearest: bool = False
    mu: float = 0.0


class STDPTraces(NamedTuple):
    """Pre traces r1, r2 `[B, N]` and post traces o1, o2 `[B, M]`, after the last spike."""

    r1: Tensor
    r2: Tensor
    o1: Tensor
    o2: Tensor


def init_traces(batch: int, pre: int, post: int, *, like: Tensor | None = None) -> STDPTraces:
    """Traces before any spike; `like` gives dtype and device."""
    like = torch.zeros(()) if like is None else like
    sizes = (pre, pre, post, post)
    return STDPTraces(*(like.new_zeros(batch, size) for size in sizes))


def stdp_step(
    pre: Tensor,
    post: Tensor,
    weight: Tensor | None,
    traces: STDPTraces,
    params: STDPParams,
    dt: float,
    *,
    euler: bool = False,
) -> tuple[Tensor, STDPTraces]:
    """One step of `dt` after the previous one; steps may differ in length, so events can be fed one by one.

    Args:
        pre: spikes `[B, N]`, 0/1 or graded.
        post: spikes `[B, M]`.
        weight: `[M, N]` in [0, 1], which the change does not leave; None for no bounds.
        traces: before this step.
        params: the rule.
        dt: time since the last step.
        euler: decay by 1 - dt/tau instead of exp(-dt/tau), to compare with codes that do.

    Returns:
        The change `[M, N]`, summed over the batch, and the traces.
    """
    up, down, after = stdp_parts(pre, post, weight, traces, params, dt, euler=euler)
    return _within_bounds(up - down, weight), after


def stdp_parts(
    pre: Tensor,
    post: Tensor,
    weight: Tensor | None,
    traces: STDPTraces,
    params: STDPParams,
    dt: float,
    *,
    euler: bool = False,
) -> tuple[Tensor, Tensor, STDPTraces]:
    """LTP and LTD of a step apart, `[M, N]` each and non-negative: what marks two eligibility traces.

    Arguments are those of `stdp_step`, whose change is the difference of the two.
    """
    p = params
    r1, r2 = _decay(traces.r1, p.tau_plus, dt, euler), _decay(traces.r2, p.tau_x, dt, euler)
    o1, o2 = _decay(traces.o1, p.tau_minus, dt, euler), _decay(traces.o2, p.tau_y, dt, euler)
    up, down = _softened(*_parts(pre, post, STDPTraces(r1, r2, o1, o2), p), weight, p)
    after = (_take_up(r1, pre, p), _take_up(r2, pre, p), _take_up(o1, post, p), _take_up(o2, post, p))
    return up, down, STDPTraces(*after)


def stdp_window(
    pre: Tensor,
    post: Tensor,
    params: STDPParams,
    *,
    dt: float = 1.0,
    weight: Tensor | None = None,
    traces: STDPTraces | None = None,
) -> tuple[Tensor, STDPTraces]:
    """A whole window of spike trains at once, two matrix products instead of one per step.

    Equal to the sum of `stdp_step` over the window; soft bounds use the weights at its start throughout.

    Args:
        pre: `[B, T, N]`.
        post: `[B, T, M]`.
        params: the rule.
        dt: length of a step.
        weight: `[M, N]` in [0, 1] at the start of the window, or None.
        traces: before the window; zeros when None.

    Returns:
        The change `[M, N]`, summed over batch and time, and the traces after the window.
    """
    up, down, after = stdp_window_parts(pre, post, params, dt=dt, traces=traces)
    return stdp_change(up, down, weight, params), after


def stdp_window_parts(
    pre: Tensor,
    post: Tensor,
    params: STDPParams,
    *,
    dt: float = 1.0,
    traces: STDPTraces | None = None,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    fade: Tensor | None = None,
) -> tuple[Tensor, Tensor, STDPTraces]:
    """LTP and LTD of a window apart, before any bound: `[M, N]` each, summed over batch and time.

    `stdp_change` turns them into the change of weights.

    Args:
        pre: `[B, T, N]`.
        post: `[B, T, M]`.
        params: the rule.
        dt: length of a step.
        traces: before the window; zeros when None.
        mask: bool `[B, T]`, False on padding, where no time passes and no spike counts.
        reset: bool `[B, T]`, True at the first step of a document, before which traces are zeroed.
        fade: `[T]`, what of each step's LTP and LTD is left at the end of the window; all of it when None.
    """
    p = params
    start = traces or init_traces(pre.shape[0], pre.shape[2], post.shape[2], like=pre)
    if mask is not None:
        pre, post = pre * mask.unsqueeze(-1), post * mask.unsqueeze(-1)
    plan = (
        (pre, p.tau_plus, start.r1),
        (pre, p.tau_x, start.r2),
        (post, p.tau_minus, start.o1),
        (post, p.tau_y, start.o2),
    )
    read, after = [], []
    for spikes, tau, initial in plan:
        keep = math.exp(-dt / tau)
        decay = keep * (1.0 - spikes) if p.nearest else spikes.new_full((spikes.shape[2],), keep)
        trace, last = linear_scan(spikes, decay, initial, mask=mask, reset=reset)
        before = torch.cat([initial.unsqueeze(1), trace[:, :-1]], dim=1)
        if reset is not None:
            before = before * (~reset).unsqueeze(-1)
        read.append(keep * before.flatten(0, 1))
        after.append(last)
    if fade is not None:
        pre, post = pre * fade.unsqueeze(-1), post * fade.unsqueeze(-1)
    up, down = _parts(pre.flatten(0, 1), post.flatten(0, 1), STDPTraces(*read), p)
    return up, down, STDPTraces(*after)


def stdp_change(up: Tensor, down: Tensor, weight: Tensor | None, params: STDPParams) -> Tensor:
    """What LTP and LTD do to weights: each part softened by the bound ahead of it, the sum cut there.

    dw = up (1 - w)^mu - down w^mu (van Rossum, Bi & Turrigiano 2000, for mu = 1; Gütig et al. 2003 between).
    The only place where plasticity meets the bounds of a weight, awake, asleep and in the benchmarks.

    Args:
        up: LTP without bounds, any shape, non-negative.
        down: LTD, same shape.
        weight: same shape, in [0, 1], which the change does not leave; None for no bounds.
        params: the rule, of which only `mu` is used.
    """
    up, down = _softened(up, down, weight, params)
    return _within_bounds(up - down, weight)


def stdp_events(pre_times: Sequence[float], post_times: Sequence[float], params: STDPParams) -> float:
    """Total additive change of one synapse for two lists of spike times, exact at any spacing.

    Coincident times count as one step, in which no pair forms.
    """
    pre, post = set(pre_times), set(post_times)
    traces = init_traces(1, 1, 1, like=torch.zeros((), dtype=torch.float64))
    total, now = 0.0, 0.0
    one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for time in sorted(pre | post):
        step = (one if time in pre else none, one if time in post else none)
        change, traces = stdp_step(*step, None, traces, params, time - now)
        total, now = total + float(change), time
    return total


def _decay(trace: Tensor, tau: float, dt: float, euler: bool) -> Tensor:
    return trace * ((1.0 - dt / tau) if euler else math.exp(-dt / tau))


def _take_up(trace: Tensor, spikes: Tensor, params: STDPParams) -> Tensor:
    return trace * (1.0 - spikes) + spikes if params.nearest else trace + spikes


def _parts(pre: Tensor, post: Tensor, read: STDPTraces, p: STDPParams) -> tuple[Tensor, Tensor]:
    """LTP and LTD `[M, N]` from rows of spikes and of traces read before them."""
    up = (post * (p.a_plus + p.a3_plus * read.o2)).t() @ read.r1
    down = read.o1.t() @ (pre * (p.a_minus + p.a3_minus * read.r2))
    return up, down


def _softened(up: Tensor, down: Tensor, weight: Tensor | None, p: STDPParams) -> tuple[Tensor, Tensor]:
    if weight is None or p.mu == 0.0:
        return up, down
    return up * (1.0 - weight).clamp(min=0.0) ** p.mu, down * weight.clamp(min=0.0) ** p.mu


def _within_bounds(change: Tensor, weight: Tensor | None) -> Tensor:
    """The change, cut where it would take a weight out of [0, 1]."""
    return change if weight is None else torch.minimum(torch.maximum(change, -weight), 1.0 - weight)
