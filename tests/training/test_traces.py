"""traces.npz: what the report draws beside the metrics."""

from __future__ import annotations

import numpy as np
import pytest

from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.traces import TracesCallback
from t4dm.training.surrogate_phase import SurrogatePhase


def load(world):
    with np.load(world.folder / "traces.npz", allow_pickle=False) as file:
        return dict(file)


def test_rates_gates_and_the_spikes_of_one_window_are_kept(make_world):
    world = make_world(rounds=2)
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    callbacks = [
        MemoryWriteCallback(writer=world.writer(threshold=0.0)),
        TracesCallback(folder=world.folder, taus=20),
    ]
    world.trainer(*callbacks, limit_val_batches=0).fit(module, world.data)
    traces = load(world)
    assert traces["steps"].tolist() == [1, 2, 3, 4, 5, 6]
    assert traces["rates"].shape == (6, 2)
    assert traces["write_rate"].tolist() == [1.0] * 6
    assert traces["tau"].shape == (20,)
    assert ((traces["tau"] > 0) & (traces["tau"] < 1)).all()
    for block in (0, 1):
        spikes = traces[f"spikes_block{block}"]
        assert spikes.dtype == np.uint8
        assert spikes.shape == (48, 16)
        assert set(np.unique(spikes)) <= {0, 1}
        assert spikes.any()
    text = "".join(traces["tokens"].tolist())
    assert text.startswith(" The ")
    assert "? " in text  # the example is a window that asks


def test_recording_changes_nothing_in_the_model(make_world):
    world = make_world()
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    world.trainer(TracesCallback(folder=world.folder), limit_val_batches=0).fit(module, world.data)
    assert world.model.training
    assert not world.model.stack._forward_pre_hooks


def test_a_training_that_fails_leaves_its_traces(make_world):
    world = make_world()
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    step = module.training_step

    def fails(batch, batch_idx):
        if batch_idx == 2:
            raise RuntimeError("power cut")
        return step(batch, batch_idx)

    module.training_step = fails
    with pytest.raises(RuntimeError, match="power cut"):
        world.trainer(TracesCallback(folder=world.folder), limit_val_batches=0).fit(module, world.data)
    traces = load(world)
    assert traces["steps"].tolist() == [1, 2]
    assert not any(name.startswith("spikes") for name in traces)


def test_every_nth_batch_is_sampled(make_world):
    world = make_world(rounds=2)
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    world.trainer(TracesCallback(folder=world.folder, every=3), limit_val_batches=0).fit(module, world.data)
    assert load(world)["steps"].tolist() == [1, 4]
