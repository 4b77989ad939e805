"""Capsule routing of the apical stage: one step of agreement with what was predicted, no loop."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from t4dm.errors import StackShapeError


@final
class CapsuleRouting(nn.Module):
    """Weigh C groups of channels by their agreement with the prediction: y'_j = C * softmax_j(<W_j y_j,
    c_j>/sqrt(p)) * y_j.

    After Sabour et al. 2017 with a single iteration. Equal agreement of all groups is the identity.

    Args:
        width: P, channels in all.
        capsules: C.

    Raises:
        StackShapeError: P is not a multiple of C.
    """

    def __init__(self, *, width: int, capsules: int) -> None:
        super().__init__()
        if width % capsules:
            raise StackShapeError("compartment", width, "capsules", capsules)
        size = width // capsules
        self.capsules = capsules
        self.vote = nn.Parameter(torch.randn(capsules, size, size) / math.sqrt(size))

    def forward(self, y: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Route `y` by `prediction`, both `[B, T, P]`: routed channels and coefficients `[B, T, C]`."""
        shape = (*y.shape[:-1], self.capsules, -1)
        groups, expected = y.reshape(shape), prediction.reshape(shape)
        # <W y, c> = <y, W^T c>: as a batched product over capsules
        back = torch.einsum("btcp,cpq->btcq", expected, self.vote)
        coefficients = torch.softmax((groups * back).sum(-1) / math.sqrt(groups.shape[-1]), dim=-1)
        routed = groups * (self.capsules * coefficients).unsqueeze(-1)
        return routed.flatten(-2), coefficients
