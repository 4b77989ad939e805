"""The BCM rule: change depends on activity against a threshold that follows it (Bienenstock et al. 1982)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class BCMParams(NamedTuple):
    """Learning rate and time constant of the sliding threshold; keep `tau_theta` well below 1/lr."""

    lr: float = 1e-3
    tau_theta: float = 100.0


def bcm_step(
    x: Tensor, y: Tensor, theta: Tensor, params: BCMParams, dt: float = 1.0
) -> tuple[Tensor, Tensor]:
    """dw = lr * y (y - theta) x, and theta moves towards the mean of y^2.

    Args:
        x: pre rates `[B, N]`.
        y: post rates `[B, M]`.
        theta: modification threshold `[M]`.
        params: the rule.
        dt: time that passes.

    Returns:
        The change `[M, N]`, averaged over the batch and scaled by `dt`, and the new threshold `[M]`.
    """
    change = params.lr * dt * bcm_phi(y, theta).t() @ x / x.shape[0]
    keep = math.exp(-dt / params.tau_theta)
    return change, keep * theta + (1.0 - keep) * y.square().mean(dim=0)


def bcm_phi(y: Tensor, theta: Tensor | float) -> Tensor:
    """y (y - theta): negative below the threshold, positive above."""
    return y * (y - torch.as_tensor(theta, dtype=y.dtype, device=y.device))
