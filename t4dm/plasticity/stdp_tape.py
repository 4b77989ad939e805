"""Collects LTP and LTD while a network runs: two eligibility traces for each synapse, by the STDP rule."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from t4dm.plasticity.stdp import STDPParams, stdp_window_parts
from t4dm.plasticity.tape import Synapse
from t4dm.plasticity.three_factor import ThreeFactor

# Time constants in tokens, in the middle of what spike attention starts from; LTP to LTD as in Bi & Poo 1998.
TOKEN_STDP = STDPParams(a_plus=1.0, a_minus=0.35, tau_plus=4.0, tau_minus=8.0)


@final
class STDPTape:
    """Context manager: while it is open every forward pass of the watched synapses leaves LTP and LTD.

    Inputs are floats of either sign. A negative one is the spike of an OFF cell whose weight is -w, so its
    LTP lowers w: potentiation = LTP(x+) + LTD(x-), depression = LTD(x+) + LTP(x-), both non-negative.

    Args:
        synapses: what to watch.
        params: the rule; time constants in tokens.
        trace_decay: lambda per token, what is left of LTP and LTD until the window's end.
    """

    def __init__(
        self, synapses: list[Synapse], *, params: STDPParams = TOKEN_STDP, trace_decay: float = 1.0
    ) -> None:
        self.synapses, self.params, self.trace_decay = synapses, params, trace_decay
        self.parts: dict[nn.Linear, tuple[Tensor, Tensor]] = {}
        self.tokens = 0
        self._window: tuple[Tensor | None, Tensor | None] = (None, None)
        self._inputs: dict[nn.Linear, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> STDPTape:
        driven: dict[nn.Module, list[Synapse]] = {}
        for synapse in self.synapses:
            self._handles.append(synapse.linear.register_forward_hook(self._heard))
            driven.setdefault(synapse.neurons, []).append(synapse)
        for neurons, inputs in driven.items():
            self._handles.append(neurons.register_forward_hook(self._fired(inputs)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._inputs.clear()

    def window(self, *, mask: Tensor | None = None, reset: Tensor | None = None) -> None:
        """Tell the padding and the document starts of the next forward pass, both bool `[B, T]`."""
        self._window = (mask, reset)

    def deposit(self, optimizer: ThreeFactor, *, scale: float = 1.0) -> None:
        """Hand both traces over, the old ones fading by `trace_decay` per token, and start anew."""
        for linear, (up, down) in self.parts.items():
            decay = self.trace_decay**self.tokens
            optimizer.deposit(linear.weight, scale * up, depression=scale * down, decay=decay)
        self.parts.clear()
        self.tokens = 0

    def _heard(self, linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(linear, nn.Linear)
        self._inputs[linear] = args[0].detach()

    def _fired(self, inputs: list[Synapse]) -> Any:
        @torch.no_grad()
        def hook(neurons: Any, args: tuple[Any, ...], output: Any) -> None:
            steps = output.spikes.shape[1]
            for synapse in inputs:
                self._collect(synapse, self._inputs.pop(synapse.linear), output.spikes[..., synapse.part])
            if inputs[0] is self.synapses[0]:
                self.tokens += steps

        return hook

    def _collect(self, synapse: Synapse, x: Tensor, spikes: Tensor) -> None:
        x, spikes, (mask, reset) = x.float(), spikes.detach().float(), self._window
        ages = torch.arange(x.shape[1] - 1, -1, -1, device=x.device, dtype=x.dtype)
        fade = self.trace_decay**ages
        parts = [
            stdp_window_parts(side, spikes, self.params, mask=mask, reset=reset, fade=fade)
            for side in (x.clamp(min=0.0), (-x).clamp(min=0.0))
        ]
        (up_on, down_on, _), (up_off, down_off, _) = parts
        left = self.trace_decay ** x.shape[1]
        before = self.parts.get(synapse.linear)
        now = (up_on + down_off, down_on + up_off)
        self.parts[synapse.linear] = (
            now if before is None else (left * before[0] + now[0], left * before[1] + now[1])
        )
