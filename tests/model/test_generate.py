"""Decoding token by token gives what one pass gives, and the memory is asked once."""

from __future__ import annotations

import torch

from t4dm.model.generate import generate

from .conftest import open_gate

PROMPT = " The color of Anna is"


def test_greedy_decoding_with_a_cache_equals_whole_passes(make_model) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    tokenizer = model.backbone.tokenizer
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert "".join(generate(model, PROMPT, max_new_tokens=5)) == tokenizer.decode(ids[0])[len(PROMPT) :]


def test_the_same_generator_draws_the_same_text(make_model) -> None:
    model = open_gate(make_model())
    draw = lambda seed: list(  # noqa: E731
        generate(
            model, PROMPT, max_new_tokens=6, temperature=1.0, generator=torch.Generator().manual_seed(seed)
        )
    )
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_the_memory_is_asked_once_and_seen_by_every_new_token(make_model, data, memory, writer) -> None:
    model = open_gate(make_model())
    model.stack.blocks[0].recall.out.weight.data.mul_(100.0)
    batch = data.train_dataloader().batch_at(0, 0)
    out = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    writer.write(model, memory, batch, out)
    session = batch["sessions"][0]
    fact = next(item.content for item in memory.store.scan() if item.session == session)
    plain = list(generate(model, f" {fact}", max_new_tokens=6))
    recalling = list(generate(model, f" {fact}", max_new_tokens=6, memory=memory, session=session))
    assert plain != recalling
    memory.flush_accesses()
    counts = sorted((item.access_count for item in memory.store.scan()), reverse=True)
    assert counts[:3] == [1, 1, 0]
