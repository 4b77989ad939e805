"""What is written while awake, and what stays out of the store."""

from __future__ import annotations

import pytest
import torch

from t4dm.t4dx import Filter
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.surrogate_phase import SurrogatePhase


def fit(world, callback, **options):
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    trainer = world.trainer(callback, **options)
    trainer.fit(module, world.data)
    return module


def test_an_open_gate_stores_every_span_with_its_words_tokens_and_time(make_world):
    world = make_world()
    callback = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    fit(world, callback, limit_val_batches=0)
    told = [
        (episode.session, sentence.text)
        for episode in world.data.episodes("train", world.data.task, epoch=0, turn=0)
        for window in episode.windows
        for sentence in window
        if sentence.kind != "question"
    ]
    items = list(world.store.scan(Filter()))
    assert sorted((item.session, item.content) for item in items) == sorted(told)
    assert callback.offered == callback.written == len(told) == 12
    assert all(world.data.encoder.ids(item.content) == list(item.metadata["tokens"]) for item in items)
    assert {int(item.event_time // 60) for item in items} == {0, 1, 2}
    assert all(item.metadata["prediction_error"] > 0 for item in items)


def test_a_closed_gate_stores_nothing(make_world):
    world = make_world()
    callback = MemoryWriteCallback(writer=world.writer(threshold=1.0))
    fit(world, callback, limit_val_batches=0)
    assert world.store.count() == 0
    assert (callback.offered, callback.written) == (12, 0)


def test_what_was_recalled_is_linked(make_world):
    world = make_world()
    fit(world, MemoryWriteCallback(writer=world.writer(threshold=0.0)), limit_val_batches=0)
    derived = list(world.store.edges(edge_type="DERIVED_FROM"))
    assert derived
    items = {item.id: item for item in world.store.scan(Filter())}
    assert all(items[edge.source].event_time > items[edge.target].event_time for edge in derived)
    assert all(items[edge.source].session == items[edge.target].session for edge in derived)


def test_the_gate_learns_from_what_was_recalled_later(make_world):
    world = make_world(rounds=2)
    writer = world.writer(threshold=0.0, patience=2)
    before = writer.gate.state_dict()
    fit(world, MemoryWriteCallback(writer=writer), limit_val_batches=0)
    after = writer.gate.state_dict()
    assert after["intercept"] != before["intercept"]
    assert after["weights"] != before["weights"]


def test_a_validation_leaves_store_gate_and_counters_as_they_were(make_world):
    world = make_world()
    callback = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    trainer = world.trainer(callback)
    before = (world.store.lsn, callback.state_dict())
    recalled = []
    validate = module.validation_step

    def watched(batch, batch_idx, dataloader_idx=0):
        out = validate(batch, batch_idx, dataloader_idx)
        recalled.append(out["output"].recall)
        assert module.memory is not world.memory
        return out

    module.validation_step = watched
    trainer.validate(module, world.data)
    assert (world.store.lsn, callback.state_dict()) == before
    assert module.memory is world.memory
    assert recalled[0] is None
    assert recalled[-1] is not None  # it does remember, of the validation itself
    assert all(session.startswith("val-") for session in {"val-0-0-0"})
    assert bool(recalled[-1].mask.any())


def test_a_validation_that_fails_wakes_up_to_the_real_memory(make_world):
    world = make_world()
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)

    def broken(batch, batch_idx, dataloader_idx=0):
        raise RuntimeError("in the middle")

    module.validation_step = broken
    with pytest.raises(RuntimeError, match="in the middle"):
        world.trainer(MemoryWriteCallback(writer=world.writer())).validate(module, world.data)
    assert module.memory is world.memory


def test_without_a_memory_nothing_is_offered(make_world):
    world = make_world()
    callback = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    module = SurrogatePhase(model=world.model, memory=None)
    trainer = world.trainer(callback, limit_train_batches=2)
    trainer.fit(module, world.data)
    assert callback.offered == 0
    assert trainer.callback_metrics["store/items"] == torch.tensor(0.0)


def test_state_goes_through_plain_values(make_world):
    world = make_world()
    callback = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    fit(world, callback, limit_val_batches=0)
    other = MemoryWriteCallback(writer=world.writer())
    other.load_state_dict(callback.state_dict())
    assert other.state_dict() == callback.state_dict()
    assert other.written == 12
