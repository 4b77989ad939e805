"""Losses against hand-computed values."""

from __future__ import annotations

import math

import torch

from t4dm.model.losses import token_losses, weighted_mean


def test_the_loss_of_a_token_comes_from_the_position_before_it() -> None:
    logits = torch.zeros(1, 3, 4)
    logits[0, 0, 2] = 5.0
    losses = token_losses(logits, torch.tensor([[1, 2, -100]]))
    expected = -math.log(math.exp(5) / (math.exp(5) + 3))
    assert torch.allclose(losses, torch.tensor([[0.0, expected, 0.0]]), atol=1e-6)


def test_the_mean_counts_labelled_tokens_by_weight_and_never_the_first() -> None:
    losses = torch.tensor([[9.0, 1.0, 3.0, 7.0]])
    labels = torch.tensor([[5, 5, 5, -100]])
    assert float(weighted_mean(losses, labels, None)) == 2.0
    assert float(weighted_mean(losses, labels, torch.tensor([[1.0, 3.0, 1.0, 1.0]]))) == 1.5
