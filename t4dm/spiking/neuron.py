"""A layer of neurons with its parameters: LIF, or the non-spiking twin that the ablation compares it with."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.errors import CalibrationError, UnknownNeuronError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.context import Context
from t4dm.spiking.lif import LIFParams, LIFTrajectory, lif_trajectory
from t4dm.spiking.lif_backends import known_backend
from t4dm.spiking.oscillators import threshold_shift
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import surrogate as surrogate_named

NEURONS = ("lif", "gelu")
LOG_FACTORS = (-10.0, 10.0)
HALVINGS = 16
TOLERANCE = 0.2


@final
class Neurons(nn.Module):
    """Neurons with a learned leak and input gain each: I = gain * (current - centre).

    The centre is zero until `calibrate` sets it; it is not learned.

    `neuron="gelu"` is the twin without spikes and without reset, u = alpha * u + I and out = GELU(u -
    theta): the same parameters, the same temporal integration, so that a difference between the two is due
    to spiking alone.

    Args:
        width: D.
        gain: initial input gain; about 0.55 gives 5 % of LIF spikes for currents of unit variance.
        target_rate: firing rate that `calibrate` aims at.
        tau: range of the initial membrane time constants in tokens, uniform.
        threshold: theta.
        neuron: `"lif"` or `"gelu"`.
        surrogate: name of the surrogate derivative.
        backend: of the LIF scan, see `lif_scan`; the twin has none.

    Raises:
        UnknownNeuronError, UnknownSurrogateError, UnknownBackendError: no such name.
    """

    def __init__(
        self,
        *,
        width: int,
        gain: float = 0.55,
        target_rate: float = 0.05,
        tau: tuple[float, float] = (2.0, 16.0),
        threshold: float = 1.0,
        neuron: str = "lif",
        surrogate: str = "atan",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if neuron not in NEURONS:
            raise UnknownNeuronError(neuron, list(NEURONS))
        self.neuron = neuron
        self.threshold = threshold
        self.target_rate = target_rate
        self.surrogate = surrogate_named(surrogate)
        self.backend = known_backend(backend)
        alpha = torch.exp(-1.0 / torch.empty(width).uniform_(*tau))
        self.decay_logit = nn.Parameter(torch.logit(alpha))
        self.log_gain = nn.Parameter(torch.full((width,), math.log(gain)))
        self.register_buffer("centre", torch.zeros(width))
        self.centre: Tensor

    def forward(self, current: Tensor, state: LIFState, context: Context, name: str) -> LIFTrajectory:
        """Spikes of a current `[B, T, D]`; `name` is what a recorder files them under."""
        if context.calibrate:
            self.calibrate(current, state, context, name)
        gain, moved = self.log_gain.exp(), None
        modulation = None if context.effects.gain is None else context.effects.gain.to(gain.device)
        if modulation is not None:
            gain = gain * modulation
        if context.signal is not None:
            moved = threshold_shift(context.signal, current.shape[-1])
        out = self._run(current - self.centre, state, context, gain, moved)
        out = out._replace(shift=moved, gain=modulation)
        if context.recorder is not None:
            context.recorder.record(name, out.spikes, out.membrane)
        return out

    def _run(
        self, current: Tensor, state: LIFState, context: Context, gain: Tensor, moved: Tensor | None
    ) -> LIFTrajectory:
        decay = self.leak()
        if self.neuron == "lif":
            params = LIFParams(decay, self.threshold, self.surrogate)
            return lif_trajectory(
                current,
                state,
                params,
                gain=gain,
                threshold_shift=moved,
                reset=context.reset,
                mask=context.mask,
                backend=self.backend,
            )
        u, last = linear_scan(current.float() * gain, decay, state.u, mask=context.mask, reset=context.reset)
        out = F.gelu(u - self.threshold if moved is None else u - self.threshold - moved)
        if context.mask is not None:
            out = out * context.mask.unsqueeze(-1)
        return LIFTrajectory(out, u, LIFState(last))

    def leak(self) -> Tensor:
        """Membrane decay alpha `[D]`."""
        return torch.sigmoid(self.decay_logit)

    def sensitivity(self, out: LIFTrajectory) -> Tensor:
        """d spike / d membrane times the learned gain `[B, T, D]`: surrogate (the twin: GELU's slope) x gain.

        What a modulator multiplies inputs by is `modulated_gain`: it acts when they come in, not later.
        """
        x, gain = out.membrane - self._level(out), self.log_gain.exp()
        if self.neuron == "lif":
            return self.surrogate.derivative(x) * gain
        cumulative = 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))
        density = torch.exp(-0.5 * x.square()) / math.sqrt(2.0 * math.pi)
        return (cumulative + x * density) * gain

    def modulated_gain(self, out: LIFTrajectory) -> Tensor | None:
        """The modulators' factor on currents, which broadcasts to `[B, T, D]`; None where nothing acts."""
        return out.gain

    def after_reset(self, out: LIFTrajectory) -> Tensor:
        """The membrane u that each step leaves behind `[B, T, D]`; on padding it is the frozen one. Its
        gradient is that of the state after the last step: none through the reset.
        """
        if self.neuron != "lif":
            return out.membrane
        return out.membrane - self._level(out) * out.spikes.detach()

    def _level(self, out: LIFTrajectory) -> Tensor | float:
        return self.threshold if out.shift is None else self.threshold + out.shift.to(out.membrane.dtype)

    @torch.no_grad()
    def calibrate(
        self, current: Tensor, state: LIFState, context: Context, name: str = "a layer of neurons"
    ) -> float:
        """Centre each neuron's current, and find by bisection the gain at which that neuron fires at the
        target.

        One data pass (in the manner of LSUV, Mishkin & Matas 2016, with a centre and a size for each unit,
        Salimans & Kingma 2016). Each neuron by itself, because in a stream with a few huge channels one
        factor for all would let these alone fire; about the median, because a few huge tokens must not
        decide where it lies. Neurons that no gain brings to the target take the middle gain of the others.
        The twin takes the gains that make LIF neurons fire at the target.

        Returns:
            The mean rate reached. The centres and the gains are changed only where it is near the target.

        Raises:
            CalibrationError: it misses the target by more than 20 %, as when the current is constant.
        """
        valid = (current if context.mask is None else current[context.mask]).flatten(0, -2).float()
        centre = valid.median(dim=0).values
        size = (valid - centre).abs().mean(dim=0)
        base = torch.where(size > 0.0, -size.log(), self.log_gain)
        params = LIFParams(self.leak(), self.threshold, self.surrogate)

        def rates(factor: Tensor) -> Tensor:
            gain = (base + factor).exp()
            fired = lif_trajectory(
                current - centre,
                state,
                params,
                gain=gain,
                reset=context.reset,
                mask=context.mask,
                backend=self.backend,
            )
            return mean_rate(fired.spikes, context)

        # rates are whole numbers of spikes over the tokens: the nearest one will do
        enough = self.target_rate - 0.5 / len(valid)
        low, high = (torch.full_like(base, bound) for bound in LOG_FACTORS)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = rates(middle) < enough
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        found = high < LOG_FACTORS[1]
        factor = torch.where(found, high, high[found].median() if bool(found.any()) else 0.0)
        reached = float(rates(factor).mean())
        if not abs(reached - self.target_rate) <= TOLERANCE * self.target_rate:
            raise CalibrationError(name, reached, self.target_rate)
        self.centre.copy_(centre)
        self.log_gain.copy_(base + factor)
        return reached


def mean_rate(spikes: Tensor, context: Context) -> Tensor:
    """Mean over the valid tokens of a window, `[D]`, detached."""
    spikes = spikes.detach()
    if context.mask is None:
        return spikes.mean(dim=(0, 1))
    return spikes.sum(dim=(0, 1)) / context.mask.sum().clamp(min=1)
