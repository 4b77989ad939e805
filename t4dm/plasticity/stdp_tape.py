"""Collects LTP and LTD by spike timing while a network runs: two eligibility traces for each synapse."""

from __future__ import annotations

from typing import final

from torch import Tensor

from t4dm.plasticity.stdp import STDPParams, stdp_window_parts
from t4dm.plasticity.tape import Synapse, TwoTraceTape

# Time constants in tokens, in the middle of what spike attention starts from; LTP to LTD as in Bi & Poo 1998.
TOKEN_STDP = STDPParams(a_plus=1.0, a_minus=0.35, tau_plus=4.0, tau_minus=8.0)


@final
class STDPTape(TwoTraceTape):
    """Context manager: while it is open every forward pass of the watched synapses leaves LTP and LTD.

    Args:
        synapses: what to watch.
        params: the rule; time constants in tokens.
        trace_decay: lambda per token, what is left of LTP and LTD until the window's end.
    """

    def __init__(
        self, synapses: list[Synapse], *, params: STDPParams = TOKEN_STDP, trace_decay: float = 1.0
    ) -> None:
        super().__init__(synapses, trace_decay=trace_decay)
        self.params = params

    def _rule(
        self, synapse: Synapse, sides: tuple[Tensor, Tensor], spikes: Tensor, fade: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        mask, reset = self._window
        on, off = (
            stdp_window_parts(side, spikes, self.params, mask=mask, reset=reset, fade=fade)[:2]
            for side in sides
        )
        return on, off
