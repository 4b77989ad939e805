"""The LIF neuron as its equations read, a loop recorded by autograd: the reference for the others."""

from __future__ import annotations

from typing import Any

import torch

from t4dm.plasticity.traces import step_decay
from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import spike


def run(drive: Drive, params: LIFParams) -> LIFTrajectory:
    """Integrate step by step."""
    current, u, mask = drive.current, drive.u0, drive.mask
    decay = step_decay(drive.decay, current, mask=mask, reset=drive.reset)
    spikes, membrane = [], []
    for t in range(current.shape[1]):
        level: Any = params.threshold if drive.theta is None else drive.theta.expand_as(current)[:, t]
        h = (decay[:, t] if decay.dim() == 3 else decay) * u + current[:, t]
        s = spike(h - level, params.surrogate)
        if mask is not None:
            s = s * mask[:, t, None]
        u = h - level * (s.detach() if params.detach_reset else s)
        spikes.append(s)
        membrane.append(h)
    return LIFTrajectory(torch.stack(spikes, 1), torch.stack(membrane, 1), LIFState(u))
