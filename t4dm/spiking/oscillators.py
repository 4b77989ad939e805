"""Delta, theta and gamma on the token clock: a bias on thresholds and a phase for encoding and retrieval.

    phi(t + 1) = phi(t) + 2 pi f dt
    I = A_theta cos theta + A_delta cos delta + A_gamma (1 + m cos theta) / (1 + m) cos gamma

One token is 25 ms, one gamma cycle. Theta at 6 Hz lasts 6.7 tokens, delta at 1 Hz 40. Gamma at 40 Hz would
alias to a constant, so each neuron takes a phase of its own within the cycle. Phases restart with every
document. Thresholds fall by I; encoding is strongest in theta's trough and retrieval at its peak (Hasselmo
2002), gamma rides on theta's peak (Tort et al. 2009), and replay happens in delta's up state.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Oscillators(NamedTuple):
    """Frequencies in Hz, `token_seconds`, amplitudes in units of the threshold (keep them at 0.1 or less in
    training).

    `nesting` m in [0, 1] is how deeply theta modulates gamma. `phase_coding` p in [0, 1) scales writes up in
    the theta trough and readout up at its peak, by (1 + p) / (1 - p) between the two: twice from p = 1/3 on.
    All amplitudes at 0 leave the stack's output bit for bit as without oscillators.
    """

    theta: float = 0.05
    gamma: float = 0.05
    delta: float = 0.0
    nesting: float = 1.0
    phase_coding: float = 0.0
    theta_hz: float = 6.0
    gamma_hz: float = 40.0
    delta_hz: float = 1.0
    token_seconds: float = 0.025


class OscillatorSignal(NamedTuple):
    """The rhythms at every token, each `[B, T, 1]`: slow current, gamma's carrier, factors, up state."""

    slow: Tensor
    carrier_cos: Tensor
    carrier_sin: Tensor
    encode: Tensor
    retrieve: Tensor
    up_state: Tensor


def oscillator_signal(clock: Tensor, oscillators: Oscillators) -> OscillatorSignal:
    """Rhythms at the token counts `clock` `[B, T]`.

    `up_state` is 1 in the half of the delta cycle in which replay may happen, whatever delta's amplitude.
    """
    o = oscillators
    seconds = clock.unsqueeze(-1) * o.token_seconds
    theta, gamma, delta = (2.0 * math.pi * hz * seconds for hz in (o.theta_hz, o.gamma_hz, o.delta_hz))
    peak = torch.cos(theta)
    nested = o.gamma * (1.0 + o.nesting * peak) / (1.0 + o.nesting)
    return OscillatorSignal(
        slow=o.theta * peak + o.delta * torch.cos(delta),
        carrier_cos=nested * torch.cos(gamma),
        carrier_sin=nested * torch.sin(gamma),
        encode=1.0 - o.phase_coding * peak,
        retrieve=1.0 + o.phase_coding * peak,
        up_state=(torch.cos(delta) > 0.0).to(clock.dtype),
    )


def threshold_shift(signal: OscillatorSignal, width: int) -> Tensor:
    """What to add to `width` neurons' thresholds, `[B, T, width]`: the bias current with its sign turned."""
    offset = torch.arange(width, device=signal.slow.device, dtype=signal.slow.dtype) * (2.0 * math.pi / width)
    fast = signal.carrier_cos * torch.cos(offset) + signal.carrier_sin * torch.sin(offset)
    return -(signal.slow + fast)
