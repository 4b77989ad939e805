"""Eligibility: what a synapse remembers until a neuromodulator tells whether it was worth it.

Each synapse keeps one trace for potentiation and one for depression (He et al. 2015), each with a rise and a
decay, so that a signal some hundred milliseconds late finds it at its peak (Yagishita et al. 2014).
Noradrenaline cashes in the first, serotonin the second.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class EligibilityParams(NamedTuple):
    """Time constants in the unit of `dt`: decay of either trace and their common rise, 0 = at once."""

    tau_plus: float = 1.0
    tau_minus: float = 0.6
    tau_rise: float = 0.3


class EligibilityState(NamedTuple):
    """Decaying and rising parts of the two traces, each of the weight's shape `[M, N]`."""

    plus: Tensor
    minus: Tensor
    plus_rise: Tensor
    minus_rise: Tensor


def init_eligibility(weight: Tensor) -> EligibilityState:
    """Empty traces for a weight, at least fp32."""
    like = weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
    return EligibilityState(*(torch.zeros_like(like) for _ in range(4)))


def eligibility_step(
    state: EligibilityState, potentiation: Tensor, depression: Tensor, params: EligibilityParams, dt: float
) -> EligibilityState:
    """Let `dt` pass, then mark the synapses.

    Args:
        state: traces before.
        potentiation: `[M, N]`, non-negative; for example the LTP part of STDP, or psi(h_i) * trace_j.
        depression: `[M, N]`, non-negative.
        params: time constants.
        dt: time since the last step.
    """
    fast = math.exp(-dt / params.tau_rise) if params.tau_rise > 0.0 else 0.0
    rise_plus, rise_minus = (potentiation, depression) if params.tau_rise > 0.0 else (0.0, 0.0)
    return EligibilityState(
        plus=math.exp(-dt / params.tau_plus) * state.plus + potentiation,
        minus=math.exp(-dt / params.tau_minus) * state.minus + depression,
        plus_rise=fast * state.plus_rise + rise_plus,
        minus_rise=fast * state.minus_rise + rise_minus,
    )


def eligible(state: EligibilityState) -> tuple[Tensor, Tensor]:
    """The two traces as a modulator finds them: decay minus rise, zero at the event and at infinity."""
    return state.plus - state.plus_rise, state.minus - state.minus_rise


def convert(state: EligibilityState, *, potentiate: Tensor | float, depress: Tensor | float) -> Tensor:
    """Weight change `[M, N]` that the modulators call for now.

    Args:
        state: the traces.
        potentiate: noradrenaline (beta-2) or dopamine above baseline, per unit of time; broadcasts to `[M,
            N]`.
        depress: serotonin (5-HT2C) above baseline.
    """
    return cash_in(*eligible(state), potentiate=potentiate, depress=depress)


def cash_in(plus: Tensor, minus: Tensor, *, potentiate: Tensor | float, depress: Tensor | float) -> Tensor:
    """potentiate * plus - depress * minus: the one place where two traces become a change of a weight."""
    return potentiate * plus - depress * minus
