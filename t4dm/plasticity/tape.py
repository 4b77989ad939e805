"""Collects eligibility while a network runs: forward hooks on linears and on the neurons that they drive."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, final

import torch
from torch import Tensor, nn

from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.plasticity.traces import linear_scan, step_decay


class Postsynaptic(Protocol):
    """Neurons as a tape sees them: a module whose output holds `spikes`."""

    def leak(self) -> Tensor:
        """Membrane decay `[D]`."""
        ...

    def sensitivity(self, output: Any) -> Tensor:
        """d spike / d current `[B, T, D]`, from the module's output."""
        ...


class Synapse(NamedTuple):
    """A linear layer, the neurons it drives, and which of their channels are its own."""

    linear: nn.Linear
    neurons: nn.Module
    part: slice = slice(None)


@final
class EligibilityTape:
    """Context manager: while it is open every forward pass of the watched synapses leaves eligibility behind.

    For a synapse, e = sum over batch and time of lambda^(T-1-t) L_i(t) psi_i(t) xbar_ij(t): one matrix
    product per window, never a matrix per token. xbar is the input j filtered by the leak of neuron i, psi
    its sensitivity. With `signal="none"` L is 1 and the sum is made in the forward pass; with
    `signal="gradient"` L is the derivative by the spikes and the sum is made when the backward pass brings
    it.

    Args:
        synapses: what to watch.
        trace_decay: lambda per token.
        signal: `"none"` or `"gradient"`.
    """

    def __init__(self, synapses: list[Synapse], *, trace_decay: float = 1.0, signal: str = "none") -> None:
        self.synapses = synapses
        self.trace_decay = trace_decay
        self.gradient = signal == "gradient"
        self.eligibility: dict[nn.Linear, Tensor] = {}
        self.tokens = 0
        self._mask: Tensor | None = None
        self._reset: Tensor | None = None
        self._inputs: dict[nn.Linear, Tensor] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> EligibilityTape:
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
        self._mask, self._reset = mask, reset

    def deposit(self, optimizer: ThreeFactor, *, scale: float = 1.0) -> None:
        """Hand the eligibility over, the old one fading by `trace_decay` per token, and start anew."""
        for linear, eligibility in self.eligibility.items():
            optimizer.deposit(linear.weight, scale * eligibility, decay=self.trace_decay**self.tokens)
        self.eligibility.clear()
        self.tokens = 0

    def _heard(self, linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(linear, nn.Linear)
        self._inputs[linear] = args[0].detach()

    def _fired(self, inputs: list[Synapse]) -> Any:
        def hook(neurons: Any, args: tuple[Any, ...], output: Any) -> None:
            with torch.no_grad():
                psi, leak = neurons.sensitivity(output), neurons.leak()
            if inputs[0] is self.synapses[0]:  # once for each pass, however many layers it takes
                self.tokens += psi.shape[1]
            kept = [(synapse, self._inputs.pop(synapse.linear)) for synapse in inputs]
            window = (self._mask, self._reset)
            if self.gradient:
                output.spikes.register_hook(lambda g: self._collect(kept, g * psi, leak, window))
            else:
                self._collect(kept, psi, leak, window)

        return hook

    @torch.no_grad()
    def _collect(
        self,
        kept: list[tuple[Synapse, Tensor]],
        factor: Tensor,
        leak: Tensor,
        window: tuple[Tensor | None, Tensor | None],
    ) -> None:
        mask, reset = window
        if mask is not None:
            factor = factor * mask.unsqueeze(-1)
        steps = torch.arange(factor.shape[1] - 1, -1, -1, device=factor.device, dtype=factor.dtype)
        factor = factor * (self.trace_decay**steps).unsqueeze(-1)
        for synapse, x in kept:
            heard = x.to(factor.dtype) if mask is None else x.to(factor.dtype) * mask.unsqueeze(-1)
            reach = _reach(factor[..., synapse.part], leak[synapse.part], mask, reset)
            new = reach.flatten(0, 1).t() @ heard.flatten(0, 1)
            old = self.eligibility.get(synapse.linear)
            self.eligibility[synapse.linear] = (
                new if old is None else old * self.trace_decay ** factor.shape[1] + new
            )


def _reach(factor: Tensor, leak: Tensor, mask: Tensor | None, reset: Tensor | None) -> Tensor:
    """What an input at step s counts for later, `[B, T, M]`: G_s = g_s + a_{s+1} G_{s+1}.

    sum_t g_i(t) xbar_ij(t) = sum_s G_i(s) x_j(s): filtering the post side backwards instead of the input
    forwards lets every neuron have its own leak without a trace for every synapse.
    """
    decay = step_decay(leak.to(factor.dtype), factor, mask=mask, reset=reset)
    if decay.dim() == factor.dim():  # backwards, the step from s + 1 to s takes the decay of s + 1
        decay = decay.flip(1).roll(1, dims=1)
    return linear_scan(factor.flip(1), decay)[0].flip(1)
