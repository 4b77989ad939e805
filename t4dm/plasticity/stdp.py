"""Spike-timing-dependent plasticity, pair and triplet: the one rule that replay, the language model and the
biology use.

Conventions. Lag = t_post - t_pre. Traces decay, are read, and only then take up the current spike, so that a
pre and a post spike of the same step form no pair. Pair rule (Bi & Poo 1998), triplet rule (Pfister &
Gerstner 2006, eq. 2-4):

    on a post spike   w += r1 (A2+ + A3+ o2)          on a pre spike   w -= o1 (A2- + A3- r2)

r1, r2 are traces of the pre spikes (tau_plus, tau_x), o1, o2 of the post spikes (tau_minus, tau_y). With A3
= 0 the triplet rule is the pair rule. `nearest` lets a trace jump to 1 at a spike instead of adding 1.
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

    `mu = 0` is additive; with `mu > 0` LTP is scaled by (1 - w)^mu and LTD by w^mu, for weights in [0, 1].
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


# Hippocampal culture, relative change per pairing of a 60-pairing protocol (Bi & Poo 1998; amplitudes 0.777
# and 0.273).
BI_POO = STDPParams(a_plus=0.777 / 60.0, a_minus=0.273 / 60.0)
# Visual cortex and hippocampal culture, Pfister & Gerstner 2006, tables 3 and 4.
VISUAL_CORTEX = STDPParams(5e-10, 7e-3, a3_plus=6.2e-3, a3_minus=2.3e-4, tau_x=101.0, tau_y=125.0)
VISUAL_CORTEX_MINIMAL = STDPParams(0.0, 7.1e-3, a3_plus=6.5e-3, tau_y=114.0)
VISUAL_CORTEX_NEAREST = STDPParams(
    8.8e-11, 6.6e-3, a3_plus=5.3e-2, a3_minus=3.1e-3, tau_x=714.0, tau_y=40.0, nearest=True
)
HIPPOCAMPAL_NEAREST = STDPParams(
    4.6e-3, 3e-3, a3_plus=9.1e-3, a3_minus=7.5e-9, tau_x=575.0, tau_y=47.0, nearest=True
)


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
        weight: `[M, N]` in [0, 1] for soft bounds, or None for the additive rule.
        traces: before this step.
        params: the rule.
        dt: time since the last step.
        euler: decay by 1 - dt/tau instead of exp(-dt/tau), to compare with codes that do.

    Returns:
        The change `[M, N]`, summed over the batch, and the traces.
    """
    p = params
    r1, r2 = _decay(traces.r1, p.tau_plus, dt, euler), _decay(traces.r2, p.tau_x, dt, euler)
    o1, o2 = _decay(traces.o1, p.tau_minus, dt, euler), _decay(traces.o2, p.tau_y, dt, euler)
    change = _change(pre, post, r1, r2, o1, o2, weight, p)
    parts = (_take_up(r1, pre, p), _take_up(r2, pre, p), _take_up(o1, post, p), _take_up(o2, post, p))
    return change, STDPTraces(*parts)


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
        weight: `[M, N]` or None.
        traces: before the window; zeros when None.

    Returns:
        The change `[M, N]`, summed over batch and time, and the traces after the window.
    """
    p = params
    start = traces or init_traces(pre.shape[0], pre.shape[2], post.shape[2], like=pre)
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
        trace, last = linear_scan(spikes, decay, initial)
        read.append(keep * torch.cat([initial.unsqueeze(1), trace[:, :-1]], dim=1).flatten(0, 1))
        after.append(last)
    change = _change(pre.flatten(0, 1), post.flatten(0, 1), read[0], read[1], read[2], read[3], weight, p)
    return change, STDPTraces(*after)


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


def _change(
    pre: Tensor,
    post: Tensor,
    r1: Tensor,
    r2: Tensor,
    o1: Tensor,
    o2: Tensor,
    weight: Tensor | None,
    p: STDPParams,
) -> Tensor:
    """LTP minus LTD `[M, N]` from rows of spikes and of traces read before them."""
    up = (post * (p.a_plus + p.a3_plus * o2)).t() @ r1
    down = o1.t() @ (pre * (p.a_minus + p.a3_minus * r2))
    if weight is not None and p.mu > 0.0:
        up = up * (1.0 - weight).clamp(min=0.0) ** p.mu
        down = down * weight.clamp(min=0.0) ** p.mu
    return up - down
