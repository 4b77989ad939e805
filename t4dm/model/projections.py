"""Into the cortical stack and back: normalise and project down, project up behind a gate that starts at
zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Entry(nn.Module):
    """e = W_in RMSNorm(x), `[B, T, W]` to `[B, T, D]`.

    Deep layers carry a few huge channels; neurons on the raw stream would saturate, so it is normalised
    first. Memory rows enter through the same door, so stream and memories live in one space.
    """

    def __init__(self, *, stream_width: int, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(stream_width, eps=1e-6)
        self.project = nn.Linear(stream_width, width, bias=False)
        nn.init.orthogonal_(self.project.weight)

    def forward(self, stream: Tensor) -> Tensor:
        return self.project(self.norm(stream.float()))


class Exit(nn.Module):
    """x' = x + gamma * W_out e, with gamma = 0 for each channel at the start.

    W_out starts as the way back through the entry: were it zero too, neither would get a gradient. In the
    first step only gamma learns.
    """

    def __init__(self, *, entry: Entry) -> None:
        super().__init__()
        width, stream_width = entry.project.weight.shape
        self.project = nn.Linear(width, stream_width, bias=False)
        self.gamma = nn.Parameter(torch.zeros(stream_width))
        with torch.no_grad():
            self.project.weight.copy_(entry.project.weight.T)

    def forward(self, stream: Tensor, e: Tensor) -> Tensor:
        return stream + (self.gamma * self.project(e)).to(stream.dtype)
