"""The spike attention's window and what it carries from token to token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class STDPWindow(NamedTuple):
    """Log decays `[H, K]` of the LTP and LTD windows and their amplitudes `[H, 1]`."""

    log_plus: Tensor
    log_minus: Tensor
    a_plus: Tensor
    a_minus: Tensor


class FastWeights(NamedTuple):
    """`S` `[B, H, K, V]`, `z` and the query trace `ybar` (current token included) `[B, H*K]`; fp32 or up."""

    S: Tensor
    z: Tensor
    ybar: Tensor


class Reading(NamedTuple):
    """What queries meet: `value` q S `[B, T, H, V]`, `evidence` |q| . z `[B, T, H, 1]`; `fast` after."""

    value: Tensor
    evidence: Tensor
    fast: FastWeights


def size(x: Tensor) -> Tensor:
    """|x|, with the slope 1 at 0 where `abs` has none: a silent neuron would count if it fired."""
    return torch.where(x < 0.0, -x, x)
