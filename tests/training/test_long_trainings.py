"""What a training of hours needs: no step on a loss that is no number, accumulation, bfloat16, a compiler."""

from __future__ import annotations

import csv

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from t4dm.data.mixture import MixtureDataModule
from t4dm.errors import NonFiniteLossError, SettingError
from t4dm.training.callbacks.finite_loss import FiniteLossCallback
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.surrogate_phase import SurrogatePhase


def phase(world, **options):
    given = {"memory": world.memory, "clock": world.clock, **options}
    return SurrogatePhase(model=world.model, **given)


def learnt(world) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in world.model.trainable_named_parameters()}


def poison(world) -> None:
    """One entry of the frozen embedding of every word that is NaN."""
    with torch.no_grad():
        world.model.backbone.decoder.embed_tokens.weight.fill_(torch.nan)


def test_a_loss_that_is_no_number_ends_the_training_before_it_reaches_a_weight_or_checkpoint(make_world):
    world = make_world()
    keep = ModelCheckpoint(dirpath=world.folder / "checkpoints", every_n_train_steps=1, save_top_k=-1)
    guard = FiniteLossCallback(folder=world.folder)
    writing = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    trainer = world.trainer(guard, writing, keep, enable_checkpointing=True, limit_train_batches=2)
    trainer.fit(phase(world, calibrate=False), world.data)
    good, kept = learnt(world), sorted(path.name for path in (world.folder / "checkpoints").iterdir())
    written = world.store.count()
    poison(world)
    again = world.trainer(guard, writing, enable_checkpointing=False, limit_train_batches=2)
    with pytest.raises(NonFiniteLossError) as caught:
        again.fit(phase(world, calibrate=False), world.data)
    told = str(caught.value)
    assert told.startswith("the loss is nan at step 0; the last good checkpoint is ")
    assert str(world.folder / "checkpoints" / "epoch=0-step=2.ckpt") in told
    assert told.endswith("phase.lr_projections=3e-4 trainer.gradient_clip_val=0.5")
    assert sorted(path.name for path in (world.folder / "checkpoints").iterdir()) == kept
    assert world.store.count() == written
    assert all(torch.equal(p, good[name]) for name, p in world.model.trainable_named_parameters())


def test_without_a_checkpoint_the_message_says_so():
    error = NonFiniteLossError(step=3, value=float("inf"), checkpoint=None)
    assert str(error).startswith("the loss is inf at step 3; there is no checkpoint yet; train anew")


def test_two_accumulated_batches_make_one_step_with_the_mean_of_their_gradients(make_world):
    world = make_world("accumulated")
    options = {"memory": None, "calibrate": False, "goodness_weight": 0.0}
    seen = list(world.data.train_dataloader())[:2]
    module = phase(world, **options)
    world.trainer(limit_train_batches=2, accumulate_grad_batches=2, limit_val_batches=0).fit(
        module, world.data
    )
    assert module.trainer.global_step == 1

    twin = make_world("by_hand")
    by_hand = phase(twin, **options)
    module.model.train()
    twin.model.train()
    made = by_hand.configure_optimizers()["optimizer"]
    for group in made.param_groups:
        group["lr"] = group["initial_lr"] / 21  # the first step of a warm-up of 20
    for batch in seen:
        (by_hand.wake(batch).loss / 2).backward()
    made.step()
    for (name, p), (_, q) in zip(
        world.model.trainable_named_parameters(), twin.model.trainable_named_parameters(), strict=True
    ):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_activation_checkpointing_gives_the_same_losses_and_weights(make_world):
    kept, checked = make_world("kept", working=2), make_world("checked", working=2, checkpointing=True)
    losses: dict[str, list[float]] = {}
    for world in (kept, checked):
        seen = losses[world.folder.name] = []
        watch = LambdaCallback(on_train_batch_end=lambda *a, seen=seen: seen.append(float(a[2]["loss"])))
        writing = MemoryWriteCallback(writer=world.writer(threshold=0.0))
        world.trainer(writing, watch, limit_val_batches=0).fit(phase(world), world.data)
    assert checked.model.language_model.is_gradient_checkpointing
    assert not kept.model.language_model.is_gradient_checkpointing
    assert len(losses["kept"]) == 3
    assert losses["checked"] == pytest.approx(losses["kept"], rel=1e-6)
    theirs = learnt(kept)
    for name, p in learnt(checked).items():
        torch.testing.assert_close(p, theirs[name], rtol=1e-5, atol=1e-6, msg=name)


def test_two_batches_of_one_lane_accumulated_give_the_losses_of_each_and_half_the_steps(make_world):
    losses: dict[int, list[float]] = {}
    for count in (1, 2):
        world = make_world(f"by{count}", rounds=2)
        module = phase(world, memory=None, calibrate=False, goodness_weight=0.0, lr_lora=0.0, lr_stack=0.0)
        module._rates["projections"] = 0.0
        seen = losses[count] = []
        watch = LambdaCallback(on_train_batch_end=lambda *a, seen=seen: seen.append(float(a[2]["loss"])))
        world.trainer(watch, accumulate_grad_batches=count, limit_val_batches=0).fit(module, world.data)
        assert module.trainer.global_step == 6 // count
    assert [2 * loss for loss in losses[2]] == pytest.approx(losses[1], rel=1e-6)


def test_mixed_precision_keeps_weights_and_state_in_float32_and_the_loss_near(make_world):
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        world = make_world(precision)
        module = phase(world)
        trainer = world.trainer(
            MemoryWriteCallback(writer=world.writer(threshold=0.0)), precision=precision, limit_val_batches=1
        )
        trainer.fit(module, world.data)
        losses.append(float(trainer.callback_metrics["val/loss"]))
        assert {p.dtype for _, p in world.model.trainable_named_parameters()} == {torch.float32}
        assert all(torch.isfinite(p).all() for _, p in world.model.trainable_named_parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # dynamo's own
def test_a_compiled_stack_computes_the_same(make_world):
    plain, compiled = make_world("plain", blocks=1), make_world("compiled", blocks=1)
    for world, backend in ((plain, None), (compiled, "eager")):
        world.trainer(limit_train_batches=2, limit_val_batches=0).fit(
            phase(world, compile=backend), world.data
        )
    assert compiled.model.stack._compiled_call_impl is not None
    assert plain.model.stack._compiled_call_impl is None
    theirs = dict(plain.model.trainable_named_parameters())
    for name, p in compiled.model.trainable_named_parameters():
        torch.testing.assert_close(p, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def test_an_unknown_compiler_is_refused_with_the_known_ones(make_world):
    with pytest.raises(SettingError, match=r"phase\.compile=fast does not work; choose one of .*inductor"):
        phase(make_world(), compile="fast")


def test_validation_tells_recall_by_distance(make_world):
    world = make_world()
    logger = CSVLogger(world.folder, name="csv", version="0")
    trainer = world.trainer(logger=logger, limit_train_batches=1)
    trainer.fit(phase(world), world.data)
    names = [f"val/recall_accuracy_{n}_windows" for n in (1, 2)]
    found = [float(trainer.callback_metrics[name]) for name in names]
    assert all(0.0 <= value <= 1.0 for value in found)
    with (world.folder / "csv" / "0" / "metrics.csv").open() as file:
        assert set(names) <= set(next(csv.reader(file)))
    asked = [sum(int((b["distance"][:, 1:] == n).sum()) for b in world.data.val_dataloader()) for n in (1, 2)]
    together = sum(n * value for n, value in zip(asked, found, strict=True)) / sum(asked)
    assert together == pytest.approx(float(trainer.callback_metrics["val/recall_accuracy"]))


def test_a_mixture_asks_at_the_distances_of_its_episodes(make_world):
    world = make_world()
    assert MixtureDataModule(recall=world.data, text=world.data).distances == (1, 2)


def test_training_stops_when_the_held_out_loss_no_longer_falls(make_world):
    world = make_world()
    early = EarlyStopping(monitor="val/loss", patience=2, min_delta=1e9, mode="min")
    trainer = world.trainer(early, max_epochs=20, limit_train_batches=1)
    trainer.fit(phase(world), world.data)
    assert trainer.current_epoch == 3  # the first sets the mark, two more do not pass it
