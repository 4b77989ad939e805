"""What a LIF back-end is given and what it returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import ATAN, Surrogate


class LIFParams(NamedTuple):
    """Neuron parameters: `decay` `[D]` in (0, 1) is alpha = exp(-dt/tau); `threshold` is theta."""

    decay: Tensor
    threshold: float = 1.0
    surrogate: Surrogate = ATAN
    detach_reset: bool = True


class LIFTrajectory(NamedTuple):
    """Spikes and pre-reset membrane h at every step `[B, T, D]`, and the state after the last.

    `Neurons` adds what modulated them: `shift` of their thresholds and `gain` on their currents, which
    broadcast to `[B, T, D]`; None where nothing did.
    """

    spikes: Tensor
    membrane: Tensor
    state: LIFState
    shift: Tensor | None = None
    gain: Tensor | None = None


class Drive(NamedTuple):
    """One window ready for any back-end: everything of one dtype, fp32 or wider.

    `current` `[B, T, D]` has its gain applied and is 0 on padding; `u0` `[B, D]`; `decay` `[D]`; `theta`
    broadcasts to `[B, T, D]`, None where the threshold is the same everywhere; `mask` and `reset` bool
    `[B, T]`.
    """

    current: Tensor
    u0: Tensor
    decay: Tensor
    theta: Tensor | None
    mask: Tensor | None
    reset: Tensor | None
