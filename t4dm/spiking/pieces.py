"""A long window as several shorter ones with the state carried over: the same answer, in memory that fits a
cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.state import StackAux, StackOutput


class Piece(NamedTuple):
    """What a stack reads of some tokens: the stream `[B, t, D]` and what goes with each token."""

    h: Tensor
    recall_mask: Tensor | None
    modulators: Neuromod
    mask: Tensor | None
    reset: Tensor | None


def pieces(whole: Piece, size: int) -> Iterator[Piece]:
    """A window cut after every `size` tokens."""
    for start in range(0, whole.h.shape[1], size):
        part = slice(start, start + size)
        levels = (
            level[:, part] if isinstance(level, Tensor) and level.dim() == 2 else level
            for level in whole.modulators
        )
        yield Piece(
            whole.h[:, part],
            _cut(whole.recall_mask, part),
            Neuromod(*levels),
            _cut(whole.mask, part),
            _cut(whole.reset, part),
        )


def joined(outputs: Sequence[StackOutput], masks: Sequence[Tensor | None]) -> StackOutput:
    """The output of the whole window; a rate is the mean over its valid tokens."""
    tokens = torch.stack([_tokens(out.h, mask) for out, mask in zip(outputs, masks, strict=True)])
    shares = tokens / tokens.sum().clamp(min=1)
    rates = torch.stack([out.aux.rate for out in outputs])
    stage_rates = torch.stack([out.aux.stage_rate for out in outputs])
    aux = StackAux(
        torch.einsum("n,nld->ld", shares, rates),
        torch.einsum("n,nls->ls", shares, stage_rates),
        *(
            torch.cat([getattr(out.aux, name) for out in outputs], dim=2)
            for name in ("goodness", "prediction_error", "capsules")
        ),
    )
    return StackOutput(torch.cat([out.h for out in outputs], dim=1), outputs[-1].state, aux)


def _tokens(h: Tensor, mask: Tensor | None) -> Tensor:
    valid = h.new_tensor(h.shape[0] * h.shape[1]) if mask is None else mask.sum()
    return valid.to(h.dtype)


def _cut(x: Tensor | None, part: slice) -> Tensor | None:
    return None if x is None else x[:, part]
