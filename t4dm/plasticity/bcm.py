"""The BCM rule: change depends on activity against a threshold that follows it (Bienenstock et al. 1982)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.plasticity.traces import linear_scan


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


def bcm_window_parts(
    x: Tensor,
    y: Tensor,
    theta: Tensor,
    params: BCMParams,
    *,
    dt: float = 1.0,
    mask: Tensor | None = None,
    fade: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """LTP and LTD of a window apart, `[M, N]` each and non-negative for inputs that are.

    Their difference is the sum of `bcm_step`'s changes over the window, summed over the batch instead of
    averaged.

    Args:
        x: pre rates `[B, T, N]`.
        y: post rates `[B, T, M]`.
        theta: threshold `[M]` before the window.
        params: the rule.
        dt: length of a step.
        mask: bool `[B, T]`, False on padding, which changes nothing and is left out of the mean of y^2.
        fade: `[T]`, what of each step's LTP and LTD is left at the end of the window; all of it when None.

    Returns:
        LTP, LTD, and the threshold after the window.
    """
    levels, after = _thresholds(y, theta, params, dt, mask)
    phi = bcm_phi(y, levels) * (params.lr * dt)
    if mask is not None:
        phi = phi * mask.unsqueeze(-1)
    if fade is not None:
        phi = phi * fade.unsqueeze(-1)
    heard = x.flatten(0, 1)
    up, down = (part.clamp(min=0.0).flatten(0, 1).t() @ heard for part in (phi, -phi))
    return up, down, after


def _thresholds(
    y: Tensor, theta: Tensor, params: BCMParams, dt: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The threshold before each step `[T, M]` and after the last; frozen where all is padding."""
    keep = math.exp(-dt / params.tau_theta)
    if mask is None:
        power, live = y.square().mean(dim=0), None
    else:
        count = mask.sum(dim=0).clamp(min=1).unsqueeze(-1)
        power, live = (y.square() * mask.unsqueeze(-1)).sum(dim=0) / count, mask.any(dim=0).unsqueeze(0)
    step = ((1.0 - keep) * power).unsqueeze(0)
    levels, _ = linear_scan(step, torch.full_like(theta, keep), theta.unsqueeze(0), mask=live)
    before = torch.cat([theta.unsqueeze(0), levels[0]])
    return before[:-1], before[-1]


def bcm_phi(y: Tensor, theta: Tensor | float) -> Tensor:
    """y (y - theta): negative below the threshold, positive above."""
    return y * (y - torch.as_tensor(theta, dtype=y.dtype, device=y.device))
