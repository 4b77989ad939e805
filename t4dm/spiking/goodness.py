"""The forward-forward objective of every block: how much it fires for what is, how little for what is not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from t4dm.errors import SettingError


def goodness(trace: Tensor) -> Tensor:
    """Forward-forward goodness of float rate traces `[..., D]`: the MEAN of h^2.

    h is the rate in units of the target, so that 1 means "at target". The sum over binary spikes would be
    the spike count, and maximising it would fight the sparsity target (Hinton 2022, sec. 2, with mean in
    place of sum).
    """
    return trace.square().mean(dim=-1)


def forward_forward_loss(
    positive: Tensor, negative: Tensor, *, threshold: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """softplus(threshold - G+) + softplus(G- - threshold), each averaged over its entries: a scalar
    (Hinton 2022, sec. 2).

    Args:
        positive: goodness on what is, any shape.
        negative: goodness on what is not, any shape: `wrong_memories`, `corrupted_continuations`.
        threshold: goodness that separates the two; 1 is a layer firing evenly at its target rate.
        mask: which entries count, False at padding; of a shape that broadcasts to both, all when None.
    """
    return _mean(F.softplus(threshold - positive), mask) + _mean(F.softplus(negative - threshold), mask)


def _mean(losses: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return losses.mean()
    counted = mask.expand_as(losses)
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)


def wrong_memories(recall: Tensor) -> Tensor:
    """Each row's memories `[B, ...]` replaced by those of the row before it; the same for their mask.

    Raises:
        SettingError: there is one row only.
    """
    return _two_rows(recall).roll(1, dims=0)


def corrupted_continuations(tokens: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each row goes on, from a token drawn at random, as the row before it does: real text that does not
    follow.

    Args:
        tokens: ids `[B, T]` or a stream `[B, T, D]`, at least two rows and two tokens.
        generator: draws the first corrupted token of each row, uniform in 1..T-1.

    Returns:
        The corrupted tokens, and bool `[B, T]`, True from the first corrupted token of each row on.

    Raises:
        SettingError: there is one row or one token only.
    """
    batch, steps = _two_rows(tokens).shape[:2]
    if steps < 2:
        raise SettingError("tokens", steps, "give windows of 2 tokens or more: the first one is always kept")
    first = torch.randint(1, steps, (batch, 1), generator=generator, device=generator.device)
    corrupted = torch.arange(steps, device=tokens.device) >= first.to(tokens.device)
    chosen = corrupted.view(batch, steps, *(1,) * (tokens.dim() - 2))
    return torch.where(chosen, tokens.roll(1, dims=0), tokens), corrupted


def _two_rows(x: Tensor) -> Tensor:
    if len(x) < 2:
        raise SettingError("rows", len(x), "give a batch of 2 rows or more: one is the other's negative")
    return x
