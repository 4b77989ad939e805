"""Cross-attention to memories: finds what is alike, passes on what is beside it, shows nothing unseen."""

from __future__ import annotations

import torch
from torch.nn.functional import rms_norm

from t4dm.spiking.recall_attention import RecallAttention

WIDTH = 32


def made(gate: float = 20.0) -> RecallAttention:
    torch.manual_seed(0)
    return RecallAttention(width=WIDTH, heads=1, gate_init=gate)


def test_before_training_the_row_that_is_alike_is_found_and_its_value_passed_on() -> None:
    attention = made()
    keys, values = torch.randn(1, 4, WIDTH), torch.randn(1, 4, WIDTH)
    h = 3.0 * keys[:, 2:3]
    out = attention(h, torch.cat([keys, values], dim=-1), torch.ones(1, 1, 4, dtype=torch.bool))
    expected = rms_norm(values[0, 2], (WIDTH,))
    assert torch.cosine_similarity(out[0, 0], expected, dim=0) > 0.95
    assert torch.allclose(attention.out.weight @ attention.value.weight, torch.eye(WIDTH), atol=1e-5)


def test_a_hidden_row_counts_for_nothing() -> None:
    attention = made()
    h, rows = torch.randn(1, 2, WIDTH), torch.randn(1, 3, WIDTH)
    mask = torch.tensor([[[True, True, False], [True, False, False]]])
    changed = rows.clone()
    changed[:, 2] += 5.0
    assert torch.equal(attention(h, rows, mask), attention(h, changed, mask))


def test_a_position_that_sees_nothing_gets_exactly_zero_and_no_nan_gradient() -> None:
    attention = made()
    h = torch.randn(1, 2, WIDTH, requires_grad=True)
    mask = torch.tensor([[[False, False], [True, True]]])
    out = attention(h, torch.randn(1, 2, WIDTH), mask)
    out.square().sum().backward()
    assert torch.equal(out[0, 0], torch.zeros(WIDTH))
    assert bool(torch.isfinite(h.grad).all())


def test_a_closed_gate_adds_exactly_nothing() -> None:
    out = made(gate=0.0)(
        torch.randn(2, 3, WIDTH), torch.randn(2, 4, WIDTH), torch.ones(2, 3, 4, dtype=torch.bool)
    )
    assert torch.equal(out, torch.zeros_like(out))
