"""Collects eligibility while a network runs: what each input did to the spikes that came after it."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from t4dm.plasticity.tape import Synapse, Tape, Window
from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.plasticity.traces import linear_scan, step_decay


@final
class EligibilityTape(Tape):
    """Context manager: while it is open every forward pass of the watched synapses leaves eligibility behind.

    For a synapse, e = sum over batch and time of lambda^(T-1-t) L_i(t) psi_i(t) xbar_ij(t): one matrix
    product per window, never a matrix per token. xbar is the input j, times the gain by which neuron i was
    modulated when it came in, filtered by the leak of neuron i; psi is the neuron's sensitivity. With
    `signal="none"` L is 1 and the sum is made in the forward pass; with `signal="gradient"` L is the
    derivative by the spikes and the sum is made when the backward pass brings it.

    Args:
        synapses: what to watch.
        trace_decay: lambda per token.
        signal: `"none"` or `"gradient"`.
    """

    def __init__(self, synapses: list[Synapse], *, trace_decay: float = 1.0, signal: str = "none") -> None:
        super().__init__(synapses, trace_decay=trace_decay)
        self.gradient = signal == "gradient"
        self.eligibility: dict[nn.Linear, Tensor] = {}

    def deposit(self, optimizer: ThreeFactor, *, scale: float = 1.0) -> None:
        """Hand the eligibility over, the old one fading by `trace_decay` per token, and start anew."""
        for linear, eligibility in self.eligibility.items():
            optimizer.deposit(linear.weight, scale * eligibility, decay=self.trace_decay**self.tokens)
        self.eligibility.clear()
        self.tokens = 0

    def _listen(self, neurons: Any, heard: list[tuple[Synapse, Tensor]], output: Any) -> None:
        with torch.no_grad():
            psi, leak = neurons.sensitivity(output), neurons.leak()
        gain, window = neurons.modulated_gain(output), self._window
        if self.gradient:
            output.spikes.register_hook(lambda g: self._collect(heard, g * psi, leak, gain, window))
        else:
            self._collect(heard, psi, leak, gain, window)

    @torch.no_grad()
    def _collect(
        self,
        heard: list[tuple[Synapse, Tensor]],
        factor: Tensor,
        leak: Tensor,
        gain: Tensor | None,
        window: Window,
    ) -> None:
        mask = window.mask
        if mask is not None:
            factor = factor * mask.unsqueeze(-1)
        factor = factor * self._fade(factor).unsqueeze(-1)
        gain = None if gain is None else gain.to(factor.dtype).expand_as(factor)
        for synapse, raw in heard:
            x = raw.to(factor.dtype) if mask is None else raw.to(factor.dtype) * mask.unsqueeze(-1)
            reach = _reach(factor[..., synapse.part], leak[synapse.part], window)
            if gain is not None:
                reach = reach * gain[..., synapse.part]
            new = reach.flatten(0, 1).t() @ x.flatten(0, 1)
            old = self.eligibility.get(synapse.linear)
            self.eligibility[synapse.linear] = (
                new if old is None else old * self.trace_decay ** factor.shape[1] + new
            )


def _reach(factor: Tensor, leak: Tensor, window: Window) -> Tensor:
    """What an input at step s counts for later, `[B, T, M]`: G_s = g_s + a_{s+1} G_{s+1}.

    sum_t g_i(t) xbar_ij(t) = sum_s G_i(s) x_j(s): filtering the post side backwards instead of the input
    forwards lets every neuron have its own leak without a trace for every synapse.
    """
    decay = step_decay(leak.to(factor.dtype), factor, mask=window.mask, reset=window.reset)
    if decay.dim() == factor.dim():  # backwards, the step from s + 1 to s takes the decay of s + 1
        decay = decay.flip(1).roll(1, dims=1)
    return linear_scan(factor.flip(1), decay)[0].flip(1)
