"""First-spike coding: of each theta cycle a channel's first spike counts, the earlier the more.

    s'_t = s_t (1 - max_{t' < t in the cycle} s_t')        weight_t = exp(-(t - t_c) / tau)

t_c is where the cycle began, in tokens since the document's start. Off by default: what is dropped gets no
gradient. The order of first spikes as a code is Thorpe's (1990), the theta cycle as its frame that of Lisman
& Jensen (2013).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.spiking.context import Context, token_clock
from t4dm.spiking.state import FirstSpikeState

THETA_CYCLE = 1.0 / (6.0 * 0.025)
"""Tokens of one cycle at 6 Hz, a token being 25 ms."""


class FirstSpikes(NamedTuple):
    """The spikes that count `[B, T, C]`, the weight of their time `[B, T, 1]`, the state after."""

    spikes: Tensor
    weight: Tensor
    state: FirstSpikeState


def first_spikes(
    spikes: Tensor,
    state: FirstSpikeState | None,
    *,
    context: Context,
    cycle: float = THETA_CYCLE,
    tau: float = THETA_CYCLE / 2.0,
) -> FirstSpikes:
    """Keep the first spike of every channel in every cycle.

    Args:
        spikes: 0/1 `[B, T, C]`, 0 on padding.
        state: clock and who has fired; fresh when None.
        context: padding, which does not advance the clock, and document starts, which restart it.
        cycle: length in tokens.
        tau: decay of the weight within a cycle, tokens.
    """
    batch, steps, channels = spikes.shape
    if state is None:
        state = FirstSpikeState(spikes.new_zeros(batch), spikes.new_zeros(batch, channels))
    count = token_clock(state.clock, spikes, mask=context.mask, reset=context.reset)
    # padding before the first token of a document counts as its first moment
    elapsed = (count - 1.0).clamp(min=0.0)
    index = torch.floor(elapsed / cycle)
    carried = torch.floor((state.clock - 1.0).clamp(min=0.0) / cycle)
    new = torch.cat([index[:, :1] != carried.unsqueeze(1), index[:, 1:] != index[:, :-1]], dim=1)
    new = new if context.reset is None else new | context.reset
    place = torch.arange(1, steps + 1, device=spikes.device)
    # 1-based: 0 stands for the window before
    start = torch.where(new, place, 0).cummax(dim=1).values.unsqueeze(-1)
    fired = torch.where(spikes.detach() > 0.0, place.unsqueeze(-1), 0)
    latest = fired.cummax(dim=1).values
    before = torch.cat([torch.zeros_like(latest[:, :1]), latest[:, :-1]], dim=1)
    since = (start == 0) & (state.fired > 0.0).unsqueeze(1)
    taken = (before >= start.clamp(min=1)) | since
    holds = (latest[:, -1] >= start[:, -1].clamp(min=1)) | since[:, -1]
    return FirstSpikes(
        spikes * (~taken).to(spikes.dtype),
        torch.exp((index * cycle - elapsed) / tau).unsqueeze(-1),
        FirstSpikeState(count[:, -1], holds.to(spikes.dtype)),
    )
