"""Goodness and its negatives: by hand, and learned until what is fires more than what is not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from t4dm.errors import SettingError
from t4dm.spiking.goodness import corrupted_continuations, forward_forward_loss, goodness, wrong_memories
from t4dm.spiking.stack import CorticalStack


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_goodness_is_one_at_the_target_rate_and_grows_with_the_square() -> None:
    assert goodness(torch.ones(2, 3, 5)).tolist() == [[1.0] * 3] * 2
    assert goodness(2.0 * torch.ones(1, 5)).item() == 4.0
    assert goodness(torch.tensor([2.0, 0.0, 0.0, 0.0])).item() == 1.0


def test_a_wider_layer_at_the_same_rate_is_as_good() -> None:
    assert goodness(torch.full((7,), 1.5)).item() == goodness(torch.full((700,), 1.5)).item() == 2.25


def test_the_loss_by_hand_and_its_direction() -> None:
    positive, negative = torch.tensor([2.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    loss = forward_forward_loss(positive, negative)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.0)) + math.log1p(math.exp(-0.5)), rel=1e-6)
    loss.backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.item() < 0.0 < negative.grad.item()


def test_at_threshold_either_side_costs_ln_2_whatever_its_number_of_entries() -> None:
    assert forward_forward_loss(torch.ones(2, 3), torch.ones(5)).item() == pytest.approx(2 * math.log(2))
    assert forward_forward_loss(torch.full((2,), 3.0), torch.full((2,), 3.0), threshold=3.0).item() == (
        pytest.approx(2 * math.log(2))
    )


def test_padding_does_not_count() -> None:
    positive = torch.tensor([[[2.0, 1e6]], [[1.0, -1e6]]], requires_grad=True)  # [L, B, T]
    negative = torch.tensor([[[0.5, 1e6]], [[0.5, 1e6]]])
    mask = torch.tensor([[True, False]])
    loss = forward_forward_loss(positive, negative, mask=mask)
    softplus = [math.log1p(math.exp(x)) for x in (-1.0, 0.0, -0.5)]
    assert loss.item() == pytest.approx((softplus[0] + softplus[1]) / 2 + softplus[2], rel=1e-6)
    loss.backward()
    assert positive.grad is not None
    assert positive.grad[:, :, 1].tolist() == [[0.0], [0.0]]
    assert forward_forward_loss(positive, negative, mask=torch.zeros_like(mask)).item() == 0.0


def test_every_row_gets_the_memories_of_another() -> None:
    rows = torch.arange(3)[:, None, None].expand(3, 2, 4)
    assert wrong_memories(rows)[:, 0, 0].tolist() == [2, 0, 1]


def test_a_corrupted_row_is_its_own_up_to_a_token_and_another_rows_from_there() -> None:
    tokens = 100 * torch.arange(4)[:, None] + torch.arange(9)
    out, wrong = corrupted_continuations(tokens, generator=rng())
    starts = wrong.int().argmax(dim=1)
    assert bool((starts >= 1).all())
    assert bool(wrong.any(dim=1).all())
    for row, start in enumerate(starts.tolist()):
        assert wrong[row].tolist() == [t >= start for t in range(9)]
        assert out[row].tolist() == [100 * (row if t < start else (row - 1) % 4) + t for t in range(9)]


def test_all_starts_but_the_first_are_drawn_and_the_generator_decides_which() -> None:
    tokens = torch.zeros(200, 5, dtype=torch.long)
    _, wrong = corrupted_continuations(tokens, generator=rng(1))
    assert set(wrong.int().argmax(dim=1).tolist()) == {1, 2, 3, 4}
    assert torch.equal(wrong, corrupted_continuations(tokens, generator=rng(1))[1])
    assert not torch.equal(wrong, corrupted_continuations(tokens, generator=rng(2))[1])


def test_a_stream_is_corrupted_as_its_ids_are() -> None:
    ids, table = torch.randint(0, 50, (4, 7), generator=rng()), torch.randn(50, 3)
    out, wrong = corrupted_continuations(table[ids], generator=rng(3))
    same, where = corrupted_continuations(ids, generator=rng(3))
    assert torch.equal(out, table[same])
    assert torch.equal(wrong, where)


def test_a_negative_needs_another_row_and_a_token_to_keep() -> None:
    with pytest.raises(SettingError, match=r"rows=1 does not work; give a batch of 2 rows or more"):
        wrong_memories(torch.zeros(1, 2, 3))
    with pytest.raises(SettingError, match=r"rows=1 does not work; give a batch of 2 rows or more"):
        corrupted_continuations(torch.zeros(1, 8), generator=rng())
    with pytest.raises(SettingError, match=r"tokens=1 does not work; give windows of 2 tokens or more"):
        corrupted_continuations(torch.zeros(3, 1), generator=rng())


def remembered(seed: int) -> tuple[Callable[[CorticalStack], Tensor], Callable[[CorticalStack], Tensor]]:
    """Streams about one of four topics, and their memory too; their negatives have another row's memory."""
    topic = torch.randn(4, 1, 16, generator=rng()).repeat(4, 1, 1)
    h = topic + 0.3 * torch.randn(16, 10, 16, generator=rng(seed + 100))
    recall = topic.expand(-1, 2, -1)
    return (
        lambda stack: stack(h, recall=recall, local=True).aux.goodness[:, :, 3:],
        lambda stack: stack(h, recall=wrong_memories(recall), local=True).aux.goodness[:, :, 3:],
    )


def continued(seed: int) -> tuple[Callable[[CorticalStack], Tensor], Callable[[CorticalStack], Tensor]]:
    """Streams that stay with one of four topics; their negatives leave it, and what follows is compared."""
    topic = torch.randn(4, 1, 16, generator=rng()).repeat(4, 1, 1)
    h = topic + 0.3 * torch.randn(16, 10, 16, generator=rng(seed + 100))
    other, wrong = corrupted_continuations(h, generator=rng(seed + 200))
    return (
        lambda stack: stack(h, local=True).aux.goodness[:, wrong],
        lambda stack: stack(other, local=True).aux.goodness[:, wrong],
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [remembered, continued])
def test_every_block_learns_to_tell_what_is_from_what_is_not_on_data_it_has_not_seen(kind: Callable) -> None:
    torch.manual_seed(0)
    stack = CorticalStack(width=16, blocks=2, heads=2, capsules=2, recall_blocks=2)
    stack.calibrate(torch.randn(8, 32, 16))
    optimizer = torch.optim.Adam(stack.parameters(), lr=0.02)

    def unseen() -> list[float]:
        with torch.no_grad():
            right, wrong = kind(999)
            return [
                forward_forward_loss(*pair).item() for pair in zip(right(stack), wrong(stack), strict=True)
            ]

    before = unseen()
    for step in range(40):
        right, wrong = kind(step)
        loss = forward_forward_loss(right(stack), wrong(stack))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # 2 ln 2 = 1.386 is the best that goodness can do without telling them apart
    assert all(loss > 1.386 for loss in before)
    assert all(loss < 1.25 for loss in unseen())
