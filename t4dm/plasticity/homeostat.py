"""Watches how often neurons fire, and scales what they hear back towards their target rate in the morning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from t4dm.errors import SettingError
from t4dm.plasticity.homeostasis import RateTracker, scaling_factor, track_rate

MAX_GAMMA = 0.25
"""A rate answers weights with an elasticity of up to 6.8, and gamma times that must stay below 2, or rates
end in a cycle around the target: at 0.25 they settle in 2 to 5 steps, at 0.3 the most elastic do not."""


@final
class Homeostat:
    """Synaptic scaling of whole layers (Turrigiano et al. 1998), with the rate's own time constant.

    Scaling all incoming weights of a neuron by one factor is scaling its input gain by it, so that the ranks
    of its synapses are kept: log_gain += log clip((target / rate)^gamma, 1/2, 2).

    Args:
        layers: modules with a `log_gain` `[D]`, a `target_rate`, and outputs that hold `spikes` `[B, T, D]`.
        gamma: at most `MAX_GAMMA`.
        tau: of the running rate, in tokens.
        least_tokens: a rate of fewer is not worth scaling by.

    Raises:
        SettingError: a gamma at which rates would not settle, or none.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        gamma: float = 0.2,
        tau: float = 1e4,
        least_tokens: float = 1e4,
    ) -> None:
        if not 0.0 < gamma <= MAX_GAMMA:
            fix = f"set a number above 0 and at most {MAX_GAMMA}: ++phase.homeostasis=0.2"
            raise SettingError("phase.homeostasis", gamma, fix)
        self.layers: list[Any] = list(layers)
        self.gamma, self.tau, self.least_tokens = gamma, tau, least_tokens
        self.trackers = [RateTracker(torch.zeros_like(layer.log_gain.detach())) for layer in self.layers]
        self._mask: Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> Homeostat:
        for index, layer in enumerate(self.layers):
            self._handles.append(layer.register_forward_hook(self._count(index)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def window(self, *, mask: Tensor | None = None) -> None:
        """Tell the padding of the next forward pass, bool `[B, T]`."""
        self._mask = mask

    @torch.no_grad()
    def scale(self) -> float:
        """Move every gain one step towards its target rate; rates are counted anew from there.

        Returns:
            The mean size of the step, |log factor|; 0.0 where too few tokens were seen.
        """
        steps = []
        for index, (layer, tracker) in enumerate(zip(self.layers, self.trackers, strict=True)):
            if tracker.tokens < self.least_tokens:
                continue
            step = scaling_factor(tracker.rate, target=layer.target_rate, gamma=self.gamma).log()
            layer.log_gain.add_(step.to(layer.log_gain.dtype))
            steps.append(float(step.abs().mean()))
            self.trackers[index] = RateTracker(torch.zeros_like(tracker.rate))
        return sum(steps) / len(steps) if steps else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Rates and tokens, for a checkpoint."""
        rates, tokens = zip(*self.trackers, strict=True)
        return {"rates": [rate.tolist() for rate in rates], "tokens": list(tokens)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.trackers = [
            RateTracker(tracker.rate.new_tensor(rate), tokens)
            for tracker, rate, tokens in zip(self.trackers, state["rates"], state["tokens"], strict=True)
        ]

    def _count(self, index: int) -> Any:
        @torch.no_grad()
        def hook(layer: Any, args: tuple[Any, ...], output: Any) -> None:
            spikes, mask = output.spikes.detach(), self._mask
            valid = spikes.flatten(0, 1) if mask is None else spikes[mask]
            if len(valid):
                mean = valid.mean(dim=0).to(self.trackers[index].rate.device)
                self.trackers[index] = track_rate(self.trackers[index], mean, len(valid), tau=self.tau)

        return hook
