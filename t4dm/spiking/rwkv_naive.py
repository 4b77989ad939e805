"""The RWKV-6 recurrence, one token at a time and recorded by autograd: the other back-ends' reference."""

from __future__ import annotations

import torch
from torch import Tensor

from t4dm.spiking.context import Context


def recurrent(
    r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor, S: Tensor, context: Context
) -> tuple[Tensor, Tensor]:
    """Shapes and arguments of `rwkv6`; k and log_decay zero on padding."""
    outs = []
    for t in range(r.shape[1]):
        if context.reset is not None:
            S = S * (~context.reset[:, t, None, None, None])
        written = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outs.append((r[:, t].unsqueeze(-2) @ (S + bonus.unsqueeze(-1) * written)).squeeze(-2))
        S = log_decay[:, t].exp().unsqueeze(-1) * S + written
    return torch.stack(outs, dim=1), S
