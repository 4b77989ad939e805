"""Collects LTP and LTD by firing rate while a network runs: BCM's change, in two traces for each synapse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from t4dm.plasticity.bcm import BCMParams, bcm_window_parts
from t4dm.plasticity.tape import Synapse, TwoTraceTape
from t4dm.plasticity.traces import linear_scan

# In tokens. The threshold takes some windows to follow, weights take many more.
TOKEN_BCM = BCMParams(lr=1.0, tau_theta=1000.0)
TAU_RATE = 8.0


@final
class BCMTape(TwoTraceTape):
    """Context manager: while it is open every forward pass of the watched synapses leaves LTP and LTD.

    A neuron's rate y is the trace of its spikes in units of its target rate, so that a threshold of 1 is
    where activity at the target begins to potentiate. Inputs count as they come, without a trace.

    Args:
        synapses: what to watch.
        theta: thresholds `[M]` of each synapse's neurons, from where the last tape left them; 1 when None.
        params: the rule, in tokens; leave `lr` to the optimizer.
        tau_rate: time constant of a rate, in tokens.
        trace_decay: lambda per token, what is left of LTP and LTD until the window's end.
    """

    def __init__(
        self,
        synapses: list[Synapse],
        *,
        theta: Sequence[Tensor] | None = None,
        params: BCMParams = TOKEN_BCM,
        tau_rate: float = TAU_RATE,
        trace_decay: float = 1.0,
    ) -> None:
        super().__init__(synapses, trace_decay=trace_decay)
        self.params, self.tau_rate = params, tau_rate
        fresh = [torch.ones_like(synapse.linear.weight[:, 0]).float() for synapse in synapses]
        given = fresh if theta is None else theta  # from a checkpoint they come on the CPU
        self.theta = [level.detach().to(one.device) for level, one in zip(given, fresh, strict=True)]

    def _rule(
        self, synapse: Synapse, sides: tuple[Tensor, Tensor], spikes: Tensor, fade: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        mask, place = self._window.mask, self.synapses.index(synapse)
        y, before = self._rate(synapse.neurons, spikes), self.theta[place]
        found = [bcm_window_parts(side, y, before, self.params, mask=mask, fade=fade) for side in sides]
        self.theta[place] = found[0][2]
        return found[0][:2], found[1][:2]

    def _rate(self, neurons: Any, spikes: Tensor) -> Tensor:
        keep = math.exp(-1.0 / self.tau_rate)
        mask, reset = self._window
        trace, _ = linear_scan(spikes, spikes.new_full((spikes.shape[2],), keep), mask=mask, reset=reset)
        rate: Tensor = trace * ((1.0 - keep) / neurons.target_rate)
        return rate
