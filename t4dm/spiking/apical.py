"""Stage 4, two compartments: basal drive gated by apical context, prediction error."""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.capsules import CapsuleRouting
from t4dm.spiking.context import Context, shift
from t4dm.spiking.linear_attention import widened
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.state import ApicalState, LIFState


class ApicalOutput(NamedTuple):
    """Output `[B, T, D]`, state, prediction error `[B, T]`, capsules `[B, T, C]`, spikes `[B, T, 2P]`."""

    out: Tensor
    state: ApicalState
    prediction_error: Tensor
    capsules: Tensor
    spikes: Tensor


@final
class ApicalGate(nn.Module):
    """Basal b = W_b x, apical a = W_a (m + x_{t-1}), one LIF over [b; a].

    The apical compartment hears memory and the block's own previous token, never the present one. Coincident
    spikes load calcium, c = lambda c + s_b s_a (Larkum 2013), which opens the gate further:
    y = b * sigmoid(a + kappa * max(0, c - theta_Ca)) * (1/2 + s_b/2).
    The membranes of the previous token predict the present basal drive; the mean squared miss is the
    prediction error.

    Args:
        width: D of the stream.
        compartment: P, neurons per compartment.
        capsules: C, groups of channels that routing weighs.
        prediction_rank: of the predictor.
        neurons: the LIF layer over 2 * compartment currents.
        calcium_threshold: theta_Ca.
    """

    def __init__(
        self,
        *,
        width: int,
        compartment: int,
        capsules: int,
        prediction_rank: int,
        neurons: Neurons,
        calcium_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.calcium_threshold = calcium_threshold
        self.basal = nn.Linear(width, compartment, bias=False)
        self.apical = nn.Linear(width, compartment, bias=False)
        self.predict_down = nn.Linear(2 * compartment, prediction_rank, bias=False)
        self.predict_up = nn.Linear(prediction_rank, compartment, bias=False)
        self.out = nn.Linear(compartment, width, bias=False)
        self.capsules = CapsuleRouting(width=compartment, capsules=capsules)
        self.neurons = neurons
        self.calcium_gain = nn.Parameter(torch.ones(compartment))
        self.calcium_decay_logit = nn.Parameter(torch.full((compartment,), math.log(4.0)))
        for linear in (self.basal, self.apical):
            nn.init.normal_(linear.weight, std=width**-0.5)

    def forward(
        self, x: Tensor, memory: Tensor | None, state: ApicalState, context: Context, name: str
    ) -> ApicalOutput:
        """Gate the normalised stream `[B, T, D]`; `memory` `[B, T, D]` is what recall added, or None."""
        before, last = shift(x, state.x, context)
        b = self.basal(x)
        a = self.apical(before if memory is None else before + memory)
        fired = self.neurons(torch.cat([b, a], dim=-1), state.lif, context, f"{name}.apical")
        s_b, s_a = fired.spikes.chunk(2, dim=-1)
        calcium, ca = linear_scan(
            s_b * s_a,
            torch.sigmoid(self.calcium_decay_logit),
            state.ca,
            mask=context.mask,
            reset=context.reset,
        )
        opening = a + self.calcium_gain * F.relu(calcium - self.calcium_threshold)
        y = b * torch.sigmoid(opening) * (0.5 + 0.5 * s_b)
        if context.recorder is not None:
            context.recorder.keep(f"{name}.calcium", calcium)
            context.recorder.keep(f"{name}.opening", torch.sigmoid(opening))
        predicted = self._predict(self.neurons.after_reset(fired), state, context)
        routed, coefficients = self.capsules(y, predicted)
        if context.recorder is not None:
            context.recorder.keep(f"{name}.capsules", coefficients)
        error = (widened(b) - widened(predicted)).square().mean(dim=-1)
        return ApicalOutput(
            self.out(routed),
            ApicalState(LIFState(fired.state.u), ca, last),
            error,
            coefficients,
            fired.spikes,
        )

    def _predict(self, u: Tensor, state: ApicalState, context: Context) -> Tensor:
        """What the membranes after token t-1 say of token t's basal drive; padding freezes them by itself."""
        before = torch.cat([state.lif.u.to(u.dtype).unsqueeze(1), u[:, :-1]], dim=1)
        if context.reset is not None:
            before = before * (~context.reset).unsqueeze(-1)
        predicted: Tensor = self.predict_up(self.predict_down(before))
        return predicted
