"""Phase 1: what learns, what is logged, what is saved."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from t4dm.data.mixture import MixtureDataModule
from t4dm.data.packing import pack
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.data.text import TextDataModule, text_batch
from t4dm.errors import ModelMismatchError, NothingToTrainError
from t4dm.sleep.pressure import SleepPressure
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.resources import ResourcesCallback
from t4dm.training.callbacks.sleep import SleepCallback
from t4dm.training.surrogate_phase import SurrogatePhase, warmup_cosine


def phase(world, **options):
    return SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock, **options)


def test_only_lora_stack_and_projections_learn(make_world):
    world = make_world()
    before = {name: p.detach().clone() for name, p in world.model.named_parameters()}
    world.trainer(MemoryWriteCallback(writer=world.writer(threshold=0.0)), max_epochs=3).fit(
        phase(world), world.data
    )
    moved = {name for name, p in world.model.named_parameters() if not torch.equal(p, before[name])}
    learning = {name for name, _ in world.model.trainable_named_parameters()}
    assert moved <= learning
    assert {name.split(".")[0] for name in moved} == {"language_model", "stack", "entry", "exit", "recency"}
    assert all("lora_" in name for name in moved if name.startswith("language_model"))


def test_groups_have_their_own_rate_and_only_matrices_decay(make_world):
    world = make_world()
    module = phase(world, lr_lora=1.0, lr_stack=2.0, lr_projections=3.0, weight_decay=0.5)
    groups = {group["name"]: group for group in module._groups()}
    assert {name: group["lr"] for name, group in groups.items()} == {
        "lora/matrices": 1.0,
        "stack/matrices": 2.0,
        "stack/vectors": 2.0,
        "projections/matrices": 3.0,
        "projections/vectors": 3.0,
    }
    assert all((g["weight_decay"] == 0.5) == name.endswith("matrices") for name, g in groups.items())
    grouped = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for _, p in world.model.trainable_named_parameters())


def test_the_loss_falls_on_the_same_batches(make_world):
    world = make_world()
    batches = list(world.data.train_dataloader())
    module = phase(world, lr_lora=2e-2, lr_stack=2e-2, lr_projections=2e-2)
    optimizer = torch.optim.AdamW(list(module._groups()))
    losses = []
    for _ in range(12):
        loss = sum(module.wake(batch).loss for batch in batches)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_goodness_enters_the_loss_with_its_weight_where_something_was_recalled(make_world):
    world = make_world()
    world.model.train()
    module = phase(world, goodness_weight=0.25)
    writes = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    for index, batch in enumerate(world.data.train_dataloader()):
        wake = module.wake(batch, negatives=1)
        assert wake.loss.item() == pytest.approx(wake.ce.item() + 0.25 * wake.goodness.item())
        assert (wake.goodness.item() > 0) == (index > 0)
        writes.writer.write(world.model, world.memory, batch, wake.output)


def test_the_reconstruction_error_enters_the_loss_with_its_weight_and_is_logged_by_name(make_world):
    world = make_world()
    plain, weighted = phase(world), phase(world, reconstruction_weight=0.5)
    batch = next(iter(world.data.train_dataloader()))
    wake = weighted.wake(batch)
    assert plain.wake(batch).output.reconstruction is None
    assert 0.1 < wake.output.reconstruction.item() < 0.9  # 16 of 32 directions
    assert wake.loss.item() == pytest.approx(wake.ce.item() + 0.5 * wake.output.reconstruction.item())
    assert set(weighted.step_metrics) - set(plain.step_metrics) == {"train/reconstruction_error"}
    trainer = world.trainer(limit_train_batches=1, limit_val_batches=0)
    trainer.fit(weighted, world.data)
    assert 0.1 < float(trainer.callback_metrics["train/reconstruction_error"]) < 0.9


def test_a_training_with_a_working_memory_reads_what_its_own_step_told(make_world):
    world = make_world(working=2)
    module = phase(world)
    world.model.eval()
    together = RecallDataModule(
        encode=world.data.encoder.ids,
        task=RecallTask(windows=2, facts=2, questions=1, distances=(1,), distractors=0, entities=4),
        lanes=2, rounds=1, length=64, reads=1, writes=4, windows_per_step=2,
    )  # fmt: skip
    rows = module.wake(next(iter(together.train_dataloader()))).output.rows
    assert rows.visible[2:].any()
    assert not rows.visible[:2].any()
    trainer = world.trainer(limit_val_batches=0)
    trainer.fit(module, together)
    assert trainer.global_step == 1


def test_what_stands_in_the_padding_does_not_move_the_goodness(make_world):
    world = make_world()
    module = phase(world, goodness_weight=0.25)
    world.model.eval()
    writes = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    batches = list(world.data.train_dataloader())
    with torch.no_grad():
        writes.writer.write(world.model, world.memory, batches[0], module.wake(batches[0]).output)
        batch = batches[1]
        longer = {
            name: torch.nn.functional.pad(value, (0, 9))
            if isinstance(value, torch.Tensor) and value.shape[1:] == batch["input_ids"].shape[1:]
            else value
            for name, value in batch.items()
        }
        assert longer["attention_mask"].shape[1] == batch["attention_mask"].shape[1] + 9
        found = [module.wake(b, negatives=1).goodness.item() for b in (batch, longer)]
    assert found[0] > 0.0
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_no_metric_appears_late(make_world):
    world = make_world(rounds=2)
    logger = CSVLogger(world.folder, name="", version="csv", flush_logs_every_n_steps=1)
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder)
    callbacks = [MemoryWriteCallback(writer=world.writer(threshold=0.0)), sleep, ResourcesCallback()]
    module = phase(world)
    headers = []
    save = logger.experiment.save

    def watched():
        save()
        if Path(logger.experiment.metrics_file_path).exists():
            with open(logger.experiment.metrics_file_path, newline="") as file:
                headers.append(next(csv.reader(file)))

    logger.experiment.save = watched
    world.trainer(*callbacks, logger=logger, max_epochs=2).fit(module, world.data)
    assert sleep.nights > 0
    assert len(headers) > 3
    assert all(header == headers[0] for header in headers)
    assert {"train/loss", "val/recall_accuracy", "text_val/loss", "write/rate", "sleep/seconds"} <= set(
        headers[0]
    )
    assert {"spikes/rate_block0", "spikes/rate_block1", "memory/rss_mib", "time/tokens_per_s"} <= set(
        headers[0]
    )
    with open(logger.experiment.metrics_file_path, newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["train/loss"] not in ("", "nan")]
    assert len(steps) == 12
    named = [*module.step_metrics, "write/rate", "store/items", "memory/rss_mib"]
    assert all(row[name] != "" for row in steps for name in named)
    assert sum(row["val/loss"] not in ("", "nan") for row in rows) == 2


def test_a_checkpoint_holds_what_learns_and_nothing_else(make_world):
    world = make_world()
    module = phase(world)
    learning = {name for name, _ in world.model.trainable_named_parameters()}
    assert set(module.state_dict()) >= learning
    assert not any(name.startswith("language_model") and "lora_" not in name for name in module.state_dict())
    frozen = sum(p.numel() for p in world.model.language_model.parameters() if not p.requires_grad)
    assert frozen > sum(t.numel() for t in module.state_dict().values())


def test_a_checkpoint_of_another_model_is_refused_in_one_line(make_world):
    mine = phase(make_world("a"))
    more_blocks = phase(make_world("b", blocks=3)).state_dict()
    with pytest.raises(ModelMismatchError) as caught:
        mine.load_state_dict(more_blocks)
    message = str(caught.value)
    assert message.startswith("the checkpoint fits another model: it also holds stack.blocks.2.")
    assert message.endswith("or train it anew: t4dm train experiment=first_night")
    assert "\n" not in message
    without = phase(make_world("c", lora=False))
    with pytest.raises(ModelMismatchError, match="it also holds language_model"):
        without.load_state_dict(mine.state_dict())
    with pytest.raises(ModelMismatchError, match="it lacks language_model"):
        mine.load_state_dict(without.state_dict())
    shapes = dict(mine.state_dict())
    shapes["exit.gamma"] = torch.zeros(5)
    with pytest.raises(ModelMismatchError, match=r"of another shape is exit\.gamma;"):
        mine.load_state_dict(shapes)


def test_loading_puts_every_tensor_back(make_world):
    world = make_world()
    module = phase(world)
    saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.no_grad():
        for _, parameter in world.model.trainable_named_parameters():
            parameter.add_(1.0)
    module.load_state_dict(saved)
    assert all(torch.equal(tensor, saved[name]) for name, tensor in module.state_dict().items())


def test_a_model_without_learners_is_refused(make_world):
    with pytest.raises(NothingToTrainError, match="give it a LoRA or a stack"):
        phase(make_world(lora=False, blocks=0))


def test_warm_up_is_linear_and_the_cosine_ends_at_its_floor():
    factor = warmup_cosine(warmup=4, steps=lambda: 104, final=0.1)
    assert [factor(s) for s in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factor(4) == 1.0
    assert factor(54) == pytest.approx(0.55)
    assert factor(104) == factor(500) == pytest.approx(0.1)
    assert warmup_cosine(warmup=0, steps=lambda: math.inf, final=0.1)(10**6) == 1.0


def test_a_mixture_trains_and_validates_on_both(make_world, tmp_path):
    world = make_world()
    for i in range(8):
        (tmp_path / f"{i}.txt").write_text(f"The city of Anna is Paris. What is {i}?")
    text = TextDataModule(
        encode=world.data.encoder.ids,
        files=[f"{tmp_path}/*.txt"],
        length=48,
        batch_size=2,
        held_out=0.3,
        writes=4,
    )
    seen = []
    module = phase(world)
    wake = module.wake
    module.wake = lambda batch, **options: seen.append(batch["sessions"][0][:4]) or wake(batch, **options)
    mixture = MixtureDataModule(recall=world.data, text=text, text_share=0.5)
    trainer = world.trainer(MemoryWriteCallback(writer=world.writer(threshold=0.0)))
    trainer.fit(module, mixture)
    validated = len(world.data.val_dataloader()) + len(text.val_dataloader())
    assert seen[:-validated] == ["trai", "text"] * 3
    assert seen[-validated:] == ["val-"] * 3 + ["text"] * (validated - 3)
    assert all(math.isfinite(float(trainer.callback_metrics[name])) for name in ("val/loss", "text_val/loss"))


def test_validation_counts_text_apart_and_weighs_tokens(make_world):
    world = make_world()
    module = phase(world)
    module.on_validation_epoch_start()
    text = text_batch(pack([[5, 6, 7, 8, 9]], length=48), np.array([0]))
    recall = next(iter(world.data.val_dataloader()))
    with torch.no_grad():
        module.validation_step(text, 0, 1)
        module.validation_step(recall, 0, 0)
        expected = float(module.wake(text).ce), float(module.wake(recall).ce)
    assert module._mean("text_val/loss", "text_val/weight") == pytest.approx(expected[0], rel=1e-5)
    assert module._mean("val/loss", "val/weight") == pytest.approx(expected[1], rel=1e-5)
    assert math.isnan(module._mean("val/right", "val/asked"))  # the first window asks nothing
