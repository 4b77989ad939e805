"""Keeping activity in range: synaptic scaling of neurons by their rate, and sleep's downscaling of edges by
their rank.

The two act on different variables. Neurons are scaled by firing rates (Turrigiano et al. 1998), edges by
their own weights: sleep shrinks synapses in proportion to their size and spares the largest fifth (de Vivo
et al. 2017).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class RateTracker(NamedTuple):
    """Running firing rate `[D]` and how many tokens it has seen; needs some 1e4 to be worth scaling by."""

    rate: Tensor
    tokens: float = 0.0


def track_rate(tracker: RateTracker, mean: Tensor, tokens: float, *, tau: float = 1e4) -> RateTracker:
    """Take up the mean rate `[D]` of a window of `tokens` tokens; the first are averaged without bias."""
    seen = tracker.tokens + tokens
    # exponential forgetting, but never slower than the plain average of what has been seen
    weight = max(1.0 - math.exp(-tokens / tau), tokens / seen)
    return RateTracker(tracker.rate + weight * (mean.detach() - tracker.rate), seen)


def scaling_factor(
    rate: Tensor,
    *,
    target: float = 0.05,
    gamma: float = 0.2,
    floor: float = 1e-3,
    low: float = 0.5,
    high: float = 2.0,
) -> Tensor:
    """Multiplier of a neuron's incoming weights (or its gain): clip((target / max(rate, floor))^gamma, low,
    high).

    Rates answer weights with an elasticity of 1 to 7, and gamma times that must stay below 2: at gamma = 1
    the rate oscillates, at 0.2 it settles in a few steps.
    """
    return (target / rate.clamp(min=floor)).pow(gamma).clamp(low, high)


def scale_neurons(weight: Tensor, rate: Tensor, *, target: float = 0.05, gamma: float = 0.2) -> Tensor:
    """Incoming weights `[M, N]` after one step of scaling by the rates `[M]`; a neuron keeps its ranks."""
    return weight * scaling_factor(rate, target=target, gamma=gamma).unsqueeze(-1)


def downscaling_factor(
    weight: Tensor, *, fraction: float = 0.18, spare: float = 0.2, power: float = 4.0
) -> Tensor:
    """Multiplier of each edge weight `[n]` for one night.

    1 - depth * max(0, 1 - (rank / (1 - spare))^power), rank in (0, 1) from the weakest by size, the sign
    aside; the strongest `spare` of them keep their weight, and depth is such that the mean multiplier is
    1 - fraction. Edges of equal size share the mean multiplier of their ranks, so that they stay equal, order
    is kept, and the mean is met however many are equal.
    """
    n = weight.numel()
    if n == 0:
        return weight.clone()
    wide = torch.promote_types(weight.dtype, torch.float32)
    rank = (torch.arange(n, dtype=torch.float64, device=weight.device) + 0.5) / n
    loss = 1.0 - (rank / (1.0 - spare)).clamp(max=1.0) ** power
    depth = min(fraction / float(loss.mean()), 1.0)
    return 1.0 - depth * _shared_by_equals(loss, weight.abs()).to(wide)


def downscale_edges(
    weight: Tensor, *, fraction: float = 0.18, spare: float = 0.2, power: float = 4.0
) -> Tensor:
    """Edge weights `[n]` after one night's downscaling."""
    return weight * downscaling_factor(weight, fraction=fraction, spare=spare, power=power)


def _shared_by_equals(by_rank: Tensor, size: Tensor) -> Tensor:
    """The value of each element of `size`, given values by rank; equal elements get the mean of theirs."""
    _, group, count = torch.unique(size, return_inverse=True, return_counts=True)
    owner = torch.repeat_interleave(count)  # of each rank: the groups are sorted
    mean: Tensor = torch.zeros_like(count, dtype=by_rank.dtype).index_add_(0, owner, by_rank) / count
    return mean[group]
