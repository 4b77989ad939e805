"""Stage 1, the thalamic gate: which channels of the stream may enter, given what memory says."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.spiking.context import Context


@final
class ThalamicGate(nn.Module):
    """x' = sigmoid(W2 W1 [m; x] + b + kappa_ACh (ACh - 1/2)) * x, low rank, open at the start (b = +2).

    Args:
        width: D.
        rank: of W2 W1.
    """

    def __init__(self, *, width: int, rank: int, memory: bool = True) -> None:
        super().__init__()
        self.from_stream = nn.Linear(width, rank, bias=False)
        self.from_memory = nn.Linear(width, rank, bias=False) if memory else None
        self.up = nn.Linear(rank, width)
        nn.init.constant_(self.up.bias, 2.0)

    def forward(
        self, x: Tensor, memory: Tensor | None, context: Context, name: str = "thalamic_gate"
    ) -> Tensor:
        """Gate the normalised stream `[B, T, D]`; `memory` `[B, T, D]` is what recall added, or None."""
        low = self.from_stream(x)
        if memory is not None and self.from_memory is not None:
            low = low + self.from_memory(memory)
        logit = F.linear(low, self.up.weight, self.up.bias)
        if context.effects.gate is not None:
            logit = logit + context.effects.gate.to(x.device)
        opening = torch.sigmoid(logit)
        if context.recorder is not None:
            context.recorder.keep(name, opening)
        return opening * x
