"""Into the cortical stack and back: normalise and project down, project up behind a gate that starts at
zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm


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


def reconstruction_error(stream: Tensor, *, entry: Entry, exit: Exit, mask: Tensor) -> Tensor:
    """What the way into the stack and back loses: mean over valid tokens of |n - W_out W_in n|^2 / |n|^2
    with n = RMSNorm(x), so 0 loses nothing and 1 as much as there is.

    The entry's learnt gains belong to the way, not to n. At the start it is the share of n outside the D
    directions of W_in: 0 where D is the stream's width W, about 1 - D / W below. No linear pair loses less
    than n has outside its first D principal directions (Eckart & Young 1936).

    Args:
        stream: `[B, T, W]`.
        entry, exit: the doors of one stack.
        mask: bool `[B, T]`, False at padding.
    """
    target = rms_norm(stream.float(), stream.shape[-1:], eps=1e-6)
    lost = (target - exit.project(entry(stream))).square().sum(-1)
    share = lost / target.square().sum(-1).clamp_min(1e-6)
    return (share * mask).sum() / mask.sum().clamp_min(1)
