"""A training that was killed goes on as if nothing had happened: weights, gate, data, store and nights."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from t4dm.errors import BundleCorruptError, CheckpointMissingError, ModelMismatchError
from t4dm.persistence.bundle import inspect_bundle
from t4dm.persistence.recovery import newest_bundle, open_store_copy
from t4dm.sleep.pressure import SleepPressure
from t4dm.t4dx import Filter
from t4dm.training.bundle_io import BundleIO
from t4dm.training.callbacks.interrupt import InterruptCallback
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.sleep import SleepCallback
from t4dm.training.surrogate_phase import SurrogatePhase
from t4dm.training.three_factor_phase import ThreeFactorPhase


class Watch(pl.Callback):
    """Writes down every loss; fails or signals before a given batch."""

    def __init__(self, *, fail_at: int | None = None, signal_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.fail_at, self.signal_at = fail_at, signal_at

    def on_train_batch_start(self, *_: object) -> None:
        if len(self.losses) == self.fail_at:
            raise RuntimeError("power cut")
        if len(self.losses) == self.signal_at:
            signal.raise_signal(signal.SIGINT)

    def on_train_batch_end(self, trainer, module, outputs, *_: object) -> None:
        self.losses.append(float(outputs["loss"]))


def train(
    world,
    watch,
    *,
    kind=SurrogatePhase,
    every: int = 2,
    resume: Path | None = None,
    validate: int = 0,
    **options,
):
    module = kind(model=world.model, memory=world.memory, clock=world.clock, **options)
    callbacks = [
        MemoryWriteCallback(writer=world.writer(patience=4)),
        SleepCallback(pressure=SleepPressure(items_per_night=4), folder=world.folder),
        watch,
        InterruptCallback(folder=world.folder),
        ModelCheckpoint(dirpath=world.folder / "checkpoints", every_n_train_steps=every, save_top_k=-1),
    ]
    trainer = world.trainer(*callbacks, max_epochs=3, enable_checkpointing=True, limit_val_batches=validate)
    trainer.fit(module, world.data, ckpt_path=resume)
    return module, trainer


def go_on(make_world, name: str, bundle: Path, **world):
    """A world whose store is the one in a bundle."""
    folder = bundle.parents[2] / name
    folder.mkdir()
    open_store_copy(inspect_bundle(bundle), folder / "store", clock=lambda: 0.0).close()
    return make_world(name, **world)


def contents(store) -> list[tuple]:
    return sorted(
        (item.session, item.content, item.kappa, item.importance, item.access_count, item.event_time)
        for item in store.scan(Filter())
    )


@pytest.mark.parametrize("kind", [SurrogatePhase, ThreeFactorPhase])
@pytest.mark.parametrize("cut", [2, 3])
def test_a_killed_training_resumes_to_the_same_losses_weights_and_memories(make_world, kind, cut):
    model, options = {"dropout": 0.1}, {"kind": kind, "every": cut, "validate": cut - 2}
    whole = make_world("whole", **model)
    straight, killed, resumed = Watch(), Watch(fail_at=cut), Watch()
    expected, _ = train(whole, straight, **options)
    with pytest.raises(RuntimeError, match="power cut"):
        train(make_world("cut", **model), killed, **options)
    bundle = next((whole.folder.parent / "cut" / "checkpoints").glob(f"*step={cut}.ckpt"))
    rest = go_on(make_world, "rest", bundle, **model)
    module, trainer = train(rest, resumed, **options, resume=bundle)
    assert killed.losses + resumed.losses == pytest.approx(straight.losses, abs=1e-6)
    assert len(straight.losses) == trainer.global_step == 9
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], tensor, atol=1e-6, rtol=0)
    assert contents(rest.store) == contents(whole.store)
    assert contents(rest.store)


def test_ctrl_c_finishes_the_batch_saves_and_the_run_goes_on(make_world):
    straight, stopped, resumed = Watch(), Watch(signal_at=4), Watch()
    train(make_world("whole"), straight, every=100)
    world = make_world("stopped")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        train(world, stopped, every=100)
    signal.signal(signal.SIGINT, before)  # Lightning ignores further signals while it shuts down
    assert len(stopped.losses) == 5
    bundle, skipped = newest_bundle(world.folder / "checkpoints")
    assert bundle.info.path.name == "stopped.ckpt"
    assert not skipped
    assert bundle.state["global_step"] == 5
    world.store.insert_many([])  # it is open and takes writes
    train(go_on(make_world, "rest", bundle.info.path), resumed, every=100, resume=bundle.info.path)
    assert stopped.losses + resumed.losses == pytest.approx(straight.losses, abs=1e-6)


def test_there_is_something_to_resume_before_the_first_step(make_world):
    straight, killed, resumed = Watch(), Watch(fail_at=0), Watch()
    train(make_world("whole"), straight, every=100)
    with pytest.raises(RuntimeError):
        train(make_world("cut"), killed, every=100)
    bundle, _ = newest_bundle(Path(make_world("other").folder.parent / "cut" / "checkpoints"))
    assert bundle.info.path.name == "start.ckpt"
    train(go_on(make_world, "rest", bundle.info.path), resumed, every=100, resume=bundle.info.path)
    assert resumed.losses == pytest.approx(straight.losses, abs=1e-6)


def test_a_second_ctrl_c_stops_at_once_and_leaves_the_last_checkpoint(make_world):
    class Twice(Watch):
        def on_train_batch_start(self, *_: object) -> None:
            if len(self.losses) == 2:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    world, watch = make_world(), Twice()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        train(world, watch)
    signal.signal(signal.SIGINT, before)
    assert len(watch.losses) == 2
    assert newest_bundle(world.folder / "checkpoints")[0].state["global_step"] == 2


def test_top_k_and_save_last_work_on_folders(make_world):
    world = make_world(rounds=2)
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    folder = world.folder / "checkpoints"
    for save_last, is_link in (("link", True), (True, False)):
        keep = ModelCheckpoint(dirpath=folder, monitor="val/loss", save_top_k=2, save_last=save_last)
        options = {"max_epochs": 4, "limit_train_batches": 1, "limit_val_batches": 1}
        world.trainer(keep, enable_checkpointing=True, **options).fit(module, world.data)
        assert (folder / "last.ckpt").is_symlink() == is_link
        assert inspect_bundle(folder / "last.ckpt").lsn is not None
        assert len(list(folder.iterdir())) == 3
        assert Path(keep.best_model_path).is_dir()
        for path in folder.iterdir():
            BundleIO().remove_checkpoint(path)
        assert not list(folder.iterdir())


def test_a_bundle_is_verified_and_every_mistake_is_one_line(make_world, tmp_path):
    world = make_world()
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    trainer = world.trainer()
    trainer.fit(module, world.data)
    path = tmp_path / "x.ckpt"
    trainer.save_checkpoint(path)
    read = BundleIO().load_checkpoint(path)
    assert set(read["state_dict"]) == set(module.state_dict())
    assert inspect_bundle(path).lsn == world.store.lsn
    with (path / "lightning.pt").open("r+b") as file:
        file.write(b"broken")
    with pytest.raises(BundleCorruptError, match=r"lightning\.pt has been altered"):
        BundleIO().load_checkpoint(path)
    with pytest.raises(CheckpointMissingError, match=r"no checkpoint at .*; see which there are: ls"):
        BundleIO().load_checkpoint(tmp_path / "none.ckpt")


def test_a_resume_with_a_changed_model_is_refused_before_anything_is_trained(make_world):
    watch = Watch(fail_at=2)
    with pytest.raises(RuntimeError):
        train(make_world("cut"), watch)
    bundle, _ = newest_bundle(make_world("x").folder.parent / "cut" / "checkpoints")
    again = Watch()
    with pytest.raises(ModelMismatchError, match="it lacks stack"):
        train(make_world("other", blocks=3), again, resume=bundle.info.path)
    assert not again.losses
    other = make_world("words")
    other.model.embedder.seed += 1
    with pytest.raises(ModelMismatchError, match="its search keys count words otherwise"):
        train(other, again, resume=bundle.info.path)


def test_the_night_comes_before_the_checkpoint_of_the_same_hook(make_world):
    world = make_world(rounds=2)
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder)
    keep = ModelCheckpoint(dirpath=world.folder / "checkpoints", save_on_train_epoch_end=True)
    trainer = world.trainer(
        keep, MemoryWriteCallback(writer=world.writer(threshold=0.0)), sleep, enable_checkpointing=True
    )
    trainer.fit(module, world.data)
    assert sleep.nights == 1
    assert world.read_night()["step"] == trainer.global_step == 6
    info = inspect_bundle(Path(keep.best_model_path))
    assert info.lsn == world.store.lsn
    saved = BundleIO().load_checkpoint(info.path)["callbacks"]
    assert next(state for name, state in saved.items() if "Sleep" in name)["nights"] == 1
