"""When a training calibrates its stack: before its first step, once, and never over what was learnt."""

from __future__ import annotations

import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from t4dm.errors import CalibrationError
from t4dm.spiking.neuron import Neurons
from t4dm.training.surrogate_phase import SurrogatePhase
from t4dm.training.three_factor_phase import ThreeFactorPhase


def centres(world) -> list[torch.Tensor]:
    return [layer.centre.clone() for layer in world.model.stack.modules() if isinstance(layer, Neurons)]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Centres(pl.Callback):
    """The centres after each batch."""

    def __init__(self, world) -> None:
        self.world, self.seen = world, []

    def on_train_batch_end(self, *_: object) -> None:
        self.seen.append(centres(self.world))


def fit(world, *, kind=SurrogatePhase, resume=None, epochs: int = 1, **options):
    watch = Centres(world)
    keep = ModelCheckpoint(dirpath=world.folder / "checkpoints", every_n_train_steps=2, save_top_k=-1)
    module = kind(model=world.model, memory=world.memory, clock=world.clock, **options)
    trainer = world.trainer(watch, keep, max_epochs=epochs, enable_checkpointing=True, limit_val_batches=0)
    trainer.fit(module, world.data, ckpt_path=resume)
    return watch.seen


def test_a_fresh_training_calibrates_on_its_first_batch_and_tells_so(make_world, caplog) -> None:
    world = make_world()
    with caplog.at_level(logging.INFO, logger="t4dm.training"):
        seen = fit(world)
    assert all(bool(centre.any()) for centre in seen[0])
    assert all(same(later, seen[0]) for later in seen[1:])
    assert len(seen) == 3
    lines = [record.getMessage() for record in caplog.records if record.name == "t4dm.training"]
    assert [line.partition(":")[0] for line in lines] == ["block 0", "block 1"]


def test_what_was_learnt_before_a_checkpoint_is_not_calibrated_away(make_world) -> None:
    first = make_world("first")
    fit(first)
    bundle = next((first.folder / "checkpoints").glob("*step=2.ckpt"))
    second = make_world("second")
    with torch.no_grad():
        second.model.stack.blocks[0].readout.centre.fill_(7.0)  # what calibrating anew would show
    seen = fit(second, resume=bundle, epochs=2)
    assert same(seen[0], centres(first))
    assert same(seen[-1], centres(first))


@pytest.mark.parametrize(
    ("kind", "options"), [(SurrogatePhase, {"calibrate": False}), (ThreeFactorPhase, {})]
)
def test_a_training_that_does_not_calibrate_leaves_the_neurons_alone(make_world, kind, options) -> None:
    world = make_world()
    assert not any(bool(centre.any()) for centre in fit(world, kind=kind, **options)[-1])


def test_phase_2_calibrates_where_it_is_told_that_its_stack_is_fresh(make_world) -> None:
    world = make_world()
    assert all(bool(centre.any()) for centre in fit(world, kind=ThreeFactorPhase, calibrate=True)[0])


def test_a_batch_that_is_no_sample_leaves_the_stack_as_it_was_made_and_the_log_says_so(
    make_world, caplog
) -> None:
    world = make_world()
    with torch.no_grad():
        world.model.entry.project.weight.zero_()
    gains = [part.log_gain.clone() for part in world.model.stack.modules() if hasattr(part, "log_gain")]
    seen = fit(world)
    assert [record.getMessage() for record in caplog.records if "not calibrated" in record.getMessage()] == [
        f"the stack is not calibrated: {CalibrationError('block0.integrate', 0.0, 0.05)}"
    ]
    assert not any(bool(centre.any()) for centre in seen[-1])
    now = [part.log_gain for part in world.model.stack.modules() if hasattr(part, "log_gain")]
    assert all(float((a - b).detach().abs().max()) < 0.1 for a, b in zip(gains, now, strict=True))


def test_a_model_without_a_stack_trains_as_before(make_world) -> None:
    world = make_world(blocks=0)
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    trainer = world.trainer(limit_val_batches=0)
    trainer.fit(module, world.data)
    assert trainer.global_step == 3
