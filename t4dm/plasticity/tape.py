"""What every tape has in common: hooks that bring a linear's input and its neurons' output together.

A tape listens while a network runs; what it makes of what it hears is the rule of its kind
(`EligibilityTape`, `STDPTape`, `BCMTape`). What it collected goes to a `ThreeFactor`, which lets it wait for
a modulator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, Protocol, Self, final

import torch
from torch import Tensor, nn

from t4dm.plasticity.three_factor import ThreeFactor


class Postsynaptic(Protocol):
    """Neurons as a tape sees them: a module whose output holds `spikes`."""

    @property
    def target_rate(self) -> float:
        """Spikes per token that the neurons are meant to fire."""
        ...

    def leak(self) -> Tensor:
        """Membrane decay `[D]`."""
        ...

    def sensitivity(self, output: Any) -> Tensor:
        """d spike / d membrane times the neuron's own gain `[B, T, D]`, from the module's output."""
        ...

    def modulated_gain(self, output: Any) -> Tensor | None:
        """What multiplies an input when it comes in, beyond that; broadcasts to `[B, T, D]`."""
        ...


class Synapse(NamedTuple):
    """A linear layer, the neurons it drives, and which of their channels are its own."""

    linear: nn.Linear
    neurons: nn.Module
    part: slice = slice(None)


class Window(NamedTuple):
    """Padding and document starts of a pass, both bool `[B, T]` or None."""

    mask: Tensor | None = None
    reset: Tensor | None = None


class Tape(ABC):
    """Context manager: while it is open every forward pass of the watched synapses leaves something behind.

    Args:
        synapses: what to watch.
        trace_decay: lambda per token, what is left of it until the window's end.
    """

    def __init__(self, synapses: list[Synapse], *, trace_decay: float = 1.0) -> None:
        self.synapses, self.trace_decay = synapses, trace_decay
        self.tokens = 0
        self._window = Window()
        self._inputs: dict[nn.Linear, Tensor] = {}
        self._handles: list[Any] = []

    @abstractmethod
    def deposit(self, optimizer: ThreeFactor, *, scale: float = 1.0) -> None:
        """Hand over what was collected, what was there before fading by `trace_decay` per token, and start
        anew.
        """

    @abstractmethod
    def _listen(self, neurons: Any, heard: list[tuple[Synapse, Tensor]], output: Any) -> None:
        """Take up one pass of neurons: the inputs of the synapses that drive them, and their output."""

    def __enter__(self) -> Self:
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

    @final
    def window(self, *, mask: Tensor | None = None, reset: Tensor | None = None) -> None:
        """Tell the padding and the document starts of the next forward pass, both bool `[B, T]`."""
        self._window = Window(mask, reset)

    def _heard(self, linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(linear, nn.Linear)
        self._inputs[linear] = args[0].detach()

    def _fired(self, inputs: list[Synapse]) -> Any:
        def hook(neurons: Any, args: tuple[Any, ...], output: Any) -> None:
            if inputs[0] is self.synapses[0]:  # once for each pass, however many layers it takes
                self.tokens += output.spikes.shape[1]
            self._listen(neurons, [(synapse, self._inputs.pop(synapse.linear)) for synapse in inputs], output)

        return hook

    def _fade(self, like: Tensor) -> Tensor:
        """What is left of each step at the window's end, `[T]`."""
        ages = torch.arange(like.shape[1] - 1, -1, -1, device=like.device, dtype=like.dtype)
        return self.trace_decay**ages


class TwoTraceTape(Tape):
    """A tape that leaves LTP and LTD apart: two eligibility traces for each synapse (He et al. 2015).

    Inputs are floats of either sign. A negative one is the spike of an OFF cell whose weight is -w, so its
    LTP lowers w: potentiation = LTP(x+) + LTD(x-), depression = LTD(x+) + LTP(x-), both non-negative.
    """

    def __init__(self, synapses: list[Synapse], *, trace_decay: float = 1.0) -> None:
        super().__init__(synapses, trace_decay=trace_decay)
        self.parts: dict[nn.Linear, tuple[Tensor, Tensor]] = {}

    def deposit(self, optimizer: ThreeFactor, *, scale: float = 1.0) -> None:
        """Hand both traces over, the old ones fading by `trace_decay` per token, and start anew."""
        for linear, (up, down) in self.parts.items():
            decay = self.trace_decay**self.tokens
            optimizer.deposit(linear.weight, scale * up, depression=scale * down, decay=decay)
        self.parts.clear()
        self.tokens = 0

    @abstractmethod
    def _rule(
        self, synapse: Synapse, sides: tuple[Tensor, Tensor], spikes: Tensor, fade: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """LTP and LTD `[M, N]` of ON inputs, and of OFF inputs; all four non-negative."""

    @final
    @torch.no_grad()
    def _listen(self, neurons: Any, heard: list[tuple[Synapse, Tensor]], output: Any) -> None:
        for synapse, raw in heard:
            x, spikes = raw.float(), output.spikes[..., synapse.part].detach().float()
            sides = (x.clamp(min=0.0), (-x).clamp(min=0.0))
            (up_on, down_on), (up_off, down_off) = self._rule(synapse, sides, spikes, self._fade(x))
            now, before = (up_on + down_off, down_on + up_off), self.parts.get(synapse.linear)
            left = self.trace_decay ** x.shape[1]
            self.parts[synapse.linear] = (
                now if before is None else (left * before[0] + now[0], left * before[1] + now[1])
            )
