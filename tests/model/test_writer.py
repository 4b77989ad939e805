"""What is written, with which key, and what the gate learns from it."""

from __future__ import annotations

import numpy as np
import torch

from t4dm.memory.temporal_gate import TemporalGate
from t4dm.model.writer import EMBEDDING_FEATURES, MemoryWriter, gate_features

from .conftest import reads_of


def forward(model, batch, **changes):
    return model(
        batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"], **changes
    )


def test_an_open_gate_stores_every_span_with_its_words_tokens_and_session(
    make_model, data, memory, writer
) -> None:
    model, batch = make_model(), data.train_dataloader().batch_at(0, 0)
    written = writer.write(model, memory, batch, forward(model, batch))
    assert written.kept.all()
    assert len(written.ids) == int((batch["write_end"] > 0).sum())
    item = memory.store.get(written.ids[0])
    tokens = batch["input_ids"][0, : int(batch["write_end"][0, 0])].tolist()
    assert item.metadata["tokens"] == tokens
    assert item.content == model.backbone.tokenizer.decode(tokens).strip()
    assert item.session == batch["sessions"][0]
    assert np.isclose(float(np.linalg.norm(item.vector)), 1.0, atol=1e-5)


def test_a_closed_gate_stores_nothing(make_model, data, memory) -> None:
    writer = MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=-9.0))
    model, batch = make_model(), data.train_dataloader().batch_at(0, 0)
    written = writer.write(model, memory, batch, forward(model, batch))
    assert not written.kept.any()
    assert set(written.ids) == {None}
    assert memory.store.count() == 0


def test_the_prediction_error_is_the_mean_loss_of_the_spans_tokens(make_model, data, memory, writer) -> None:
    model, batch = make_model().eval(), data.train_dataloader().batch_at(0, 0)
    out = forward(model, batch)
    written = writer.write(model, memory, batch, out)
    start, end = int(batch["write_start"][0, 1]), int(batch["write_end"][0, 1])
    expected = float(out.token_losses[0, start:end].detach().mean())
    assert np.isclose(memory.store.get(written.ids[1]).metadata["prediction_error"], expected, rtol=1e-5)


def test_what_was_recalled_is_linked_to_what_is_written(make_model, data, memory, writer) -> None:
    model, loader = make_model().eval(), data.train_dataloader()
    for w in (0, 1):
        batch = loader.batch_at(0, w)
        out = forward(model, batch, reads=reads_of(batch), memory=memory)
        written = writer.write(model, memory, batch, out)
    assert out.recall is not None
    best = out.recall.ids[0][0]
    targets = {edge.target for edge in memory.store.edges(source=written.ids[0])}
    assert best in targets


def test_the_gate_learns_to_keep_what_is_asked_for_and_to_let_chatter_go(make_model, data, memory) -> None:
    gate = TemporalGate(weights=gate_features(), bias=0.0, learning_rate=0.2)
    writer = MemoryWriter(gate=gate, threshold=0.0, patience=60)
    model, loader = make_model().eval(), data.train_dataloader()
    with torch.no_grad():
        for epoch in range(12):
            for w in range(3):
                batch = loader.batch_at(epoch, w)
                out = forward(model, batch, reads=reads_of(batch), memory=memory)
                written = writer.write(model, memory, batch, out)
    assert written.tau[written.told].mean() > 5 * written.tau[~written.told].mean()


def test_evaluation_moves_nothing_in_the_gate(make_model, data, memory, writer) -> None:
    model, batch = make_model(), data.train_dataloader().batch_at(0, 0)
    before = writer.gate.state_dict()
    writer.write(model, memory, batch, forward(model, batch), learn=False)
    assert writer.gate.state_dict() == before


def test_the_features_are_error_novelty_reward_and_kind() -> None:
    assert len(gate_features()) == 3 + EMBEDDING_FEATURES
    assert gate_features(error=1.0, novelty=2.0, reward=3.0)[:3] == [1.0, 2.0, 3.0]
