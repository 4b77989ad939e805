"""What phase 1 minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats of each label given the tokens before it, `[B, T]`; 0 at the first token and
    at label -100.
    """
    losses = cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), reduction="none", ignore_index=-100
    )
    return torch.cat(
        [torch.zeros_like(losses[:0]).new_zeros(labels.shape[0], 1), losses.view(labels.shape[0], -1)], dim=1
    )


def weighted_mean(losses: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over the labelled tokens, each with its weight."""
    scored = (labels != -100).to(losses.dtype)
    scored[:, 0] = 0.0
    scored = scored if weights is None else scored * weights.to(losses.dtype)
    return (losses * scored).sum() / scored.sum().clamp_min(1e-8)
