"""The model with a memory: nothing before training, causal, blind to padding, and truly reading."""

from __future__ import annotations

import pytest
import torch

from t4dm.backbone.tap import stream_at
from t4dm.model import Reads

from .conftest import asked, open_gate, told

IDS = torch.arange(2, 42).reshape(2, 20)


def test_at_step_zero_the_logits_are_the_backbones_bit_for_bit(make_model, data, memory, writer) -> None:
    model = make_model().train()
    batch = told(data, model, memory, writer)
    with torch.no_grad():
        plain = model(batch["input_ids"], attention_mask=batch["attention_mask"], bypass=True).logits
        out = asked(model, batch, memory)
    assert out.recall is not None
    assert bool(out.recall.mask.any())
    assert torch.equal(plain, out.logits)


def test_only_the_output_gate_learns_first_and_everything_from_the_second_step(
    make_model, data, memory, writer
) -> None:
    model = make_model(blocks=2)
    batch = told(data, model, memory, writer)
    parameters = [p for _, p in model.trainable_named_parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    moved: list[set[str]] = []
    for _ in range(3):
        optimizer.zero_grad()
        asked(
            model, batch, memory, labels=batch["labels"], loss_weights=batch["loss_weights"]
        ).loss.backward()
        moved.append(
            {n for n, p in model.trainable_named_parameters() if p.grad is not None and bool(p.grad.any())}
        )
        optimizer.step()
    assert "exit.gamma" in moved[0]
    assert not any(n.startswith(("stack.", "entry.")) for n in moved[0])
    silent = {n for n, _ in model.trainable_named_parameters()} - moved[1] - moved[2]
    assert silent == set()


def test_a_change_of_the_last_token_leaves_every_earlier_logit_bit_identical(
    make_model, data, memory, writer
) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    batch = told(data, model, memory, writer)
    last = int(batch["attention_mask"][0].sum()) - 1
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0, last] += 1
    with torch.no_grad():
        a, b = asked(model, batch, memory).logits, asked(model, other, memory).logits
    assert torch.equal(a[0, :last], b[0, :last])
    assert not torch.equal(a[0, last], b[0, last])


def test_the_query_of_a_read_holds_nothing_after_the_question(make_model, data, memory, writer) -> None:
    """Were the answer in the query, recall would be exact search for the answer."""
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    answer = int(batch["read_end"][0, 0])
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0, answer] = 77
    with torch.no_grad():
        a, b = asked(model, batch, memory), asked(model, other, memory)
    assert a.recall.ids[0] == b.recall.ids[0]
    assert torch.equal(a.logits[0, :answer], b.logits[0, :answer])


def test_memories_reach_the_question_mark_and_not_the_tokens_before_it(
    make_model, data, memory, writer
) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    with torch.no_grad():
        with_memory, without = asked(model, batch, memory).logits, asked(model, batch, None).logits
    first = int(batch["read_end"][0, 0]) - 1
    assert torch.equal(with_memory[0, :first], without[0, :first])
    assert not torch.equal(with_memory[0, first], without[0, first])


def test_another_episodes_memories_change_the_answer(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    strangers = Reads(batch["read_start"], batch["read_end"], batch["sessions"][1:] + batch["sessions"][:1])
    with torch.no_grad():
        own, strange = asked(model, batch, memory), asked(model, batch, memory, reads=strangers)
    assert not set(own.recall.ids[0]) & set(strange.recall.ids[0])
    assert not torch.equal(own.logits, strange.logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_and_no_mask_gives_nan(make_model, side: str) -> None:
    model = open_gate(make_model()).eval()
    pad = torch.ones(2, 5, dtype=torch.long)
    parts = (pad, IDS) if side == "left" else (IDS, pad)
    mask = torch.cat([torch.full_like(p, p is IDS) for p in parts], dim=1).bool()
    positions = slice(5, 25) if side == "left" else slice(0, 20)
    with torch.no_grad():
        plain = model(IDS).logits
        padded = model(torch.cat(parts, dim=1), attention_mask=mask).logits
    assert bool(torch.isfinite(padded).all())
    assert torch.allclose(plain, padded[:, positions], atol=1e-4)


def test_a_read_before_anything_was_written_recalls_nothing(make_model, data, memory) -> None:
    model = open_gate(make_model()).eval()
    batch = data.train_dataloader().batch_at(0, 1)
    with torch.no_grad():
        out, plain = asked(model, batch, memory), asked(model, batch, None)
    assert not bool(out.recall.mask.any())
    assert torch.equal(out.logits, plain.logits)


def test_the_fact_asked_for_is_among_what_is_recalled(make_model, data, memory, writer) -> None:
    model = make_model().eval()
    batch = told(data, model, memory, writer)
    out = asked(model, batch, memory)
    tokenizer = model.backbone.tokenizer
    for b in range(4):
        for q in range(2):
            start, end = int(batch["read_start"][b, q]), int(batch["read_end"][b, q])
            answer = tokenizer.decode(batch["input_ids"][b, end]).strip()
            question = tokenizer.decode(batch["input_ids"][b, start:end]).strip()
            fact = question.replace("What is the", "The").replace("?", f" is {answer}.")
            assert fact in out.recall.contents[2 * b + q]


def test_the_state_carries_over_windows(make_model) -> None:
    model = open_gate(make_model()).eval()
    with torch.no_grad():
        first = model(IDS)
        fresh, carried = model(IDS).logits, model(IDS, state=first.state).logits
    assert not torch.equal(fresh, carried)


def test_the_same_rows_are_contrasted_with_their_own_memories_and_with_anothers(
    make_model, data, memory, writer
) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    batch = told(data, model, memory, writer)
    out = asked(model, batch, memory, negatives=2)
    right, wrong, mask = out.contrast
    assert torch.equal(mask, batch["attention_mask"][:2].bool())
    torch.testing.assert_close(right[:, mask], out.aux.goodness[:, :2][:, mask], atol=1e-5, rtol=1e-4)
    assert wrong.shape == right.shape
    assert bool((wrong != right).any(dim=2).all())
    assert asked(model, batch, memory).contrast is None


def test_goodness_reaches_the_block_that_it_is_of_and_nothing_else(make_model, data, memory, writer) -> None:
    model = open_gate(make_model(blocks=2)).train()
    batch = told(data, model, memory, writer)
    contrast = asked(model, batch, memory, negatives=2).contrast
    for block in (0, 1):
        model.zero_grad()
        (contrast.right[block] + contrast.wrong[block]).sum().backward(retain_graph=True)
        reached = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        assert reached
        assert all(name.startswith(f"stack.blocks.{block}.") for name in reached), reached


def test_without_a_stack_the_model_is_the_backbone(make_model) -> None:
    model = make_model(stack=False)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, model.language_model(input_ids=IDS).logits)
    assert list(model.projection_parameters()) == []


def test_the_loss_is_the_weighted_cross_entropy_of_the_next_token(make_model) -> None:
    model = make_model().eval()
    weights = torch.zeros(2, 20)
    weights[0, 7] = 3.0
    out = model(IDS, labels=IDS, loss_weights=weights)
    expected = -out.logits[0, 6].log_softmax(-1)[IDS[0, 7]]
    assert torch.allclose(out.loss, expected)
    assert torch.allclose(out.token_losses[0, 7], expected)


def test_a_row_holds_the_state_before_a_token_and_that_token(make_model, data, memory, writer) -> None:
    model = make_model().eval()
    batch = told(data, model, memory, writer)
    with torch.no_grad():
        out = asked(model, batch, memory)
        ids = torch.tensor([out.recall.tokens[0][0]])
        stream = stream_at(model.backbone, 2, ids, torch.ones_like(ids, dtype=torch.bool))
        newest = out.recall.ages[0].argsort().tolist().index(0)
        key = model.entry(stream)[0, 3] + model.recency[newest]
        value = model.entry(model.backbone.decoder.embed_tokens.weight[ids])[0, 4]
    assert torch.allclose(out.rows.states[0, 3], torch.cat([key, value]), atol=1e-5)
