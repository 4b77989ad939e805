"""The bar on a terminal, and its silence elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.progress import ProgressCallback, RunBar, _batches
from t4dm.training.callbacks.resources import ResourcesCallback
from t4dm.training.surrogate_phase import SurrogatePhase


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120)


def fit(world, *callbacks, **options):
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    defaults = {
        "limit_val_batches": 0,
        "enable_progress_bar": any(isinstance(c, ProgressCallback) for c in callbacks),
    }
    trainer = world.trainer(*callbacks, **(defaults | options))
    trainer.fit(module, world.data)
    return trainer


def test_the_bar_counts_all_batches_and_shows_the_figures(make_world):
    world, bar = make_world(), RunBar(console=terminal())
    writes = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    fit(world, writes, ProgressCallback(bar=bar), max_epochs=2, limit_val_batches=1)
    shown = bar.console.file.getvalue()
    assert "wake" in shown
    assert "6/6" in shown
    assert "loss " in shown
    assert "items" in shown
    assert not bar.open  # its own: nobody else had opened it


def test_an_app_keeps_the_bar_over_training_and_what_follows(make_world):
    world, bar = make_world(), RunBar(console=terminal())
    with bar:
        fit(world, ProgressCallback(bar=bar))
        assert bar.open
        bar.stage("evaluate", total=2)
        bar.advance(2, figures="recall 97%")
    shown = bar.console.file.getvalue()
    assert "evaluate" in shown
    assert "2/2" in shown
    assert "recall 97%" in shown


def test_without_a_terminal_there_are_only_lines(make_world):
    world = make_world()
    bar = RunBar(console=Console(file=io.StringIO(), force_terminal=False))
    callback = ProgressCallback(bar=bar)
    fit(world, callback)
    callback.print("night", 1)
    assert bar.console.file.getvalue() == "night 1\n"
    callback.disable()
    callback.print("night 2")
    callback.enable()
    assert bar.console.file.getvalue() == "night 1\n"


def test_a_training_that_fails_gives_the_terminal_back(make_world):
    world, bar = make_world(), RunBar(console=terminal())
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)

    def fails(batch, batch_idx):
        raise RuntimeError("power cut")

    module.training_step = fails
    trainer = world.trainer(ProgressCallback(bar=bar), enable_progress_bar=True)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer.fit(module, world.data)
    assert not bar.open


def test_the_shorter_of_epochs_and_steps_is_the_end():
    def total(epochs, steps, batches=10, accumulate=1):
        trainer = SimpleNamespace(
            max_epochs=epochs,
            max_steps=steps,
            num_training_batches=batches,
            accumulate_grad_batches=accumulate,
        )
        return _batches(trainer)

    assert total(3, -1) == 30
    assert total(3, 12) == 12
    assert total(3, 12, accumulate=2) == 24
    assert total(-1, 7) == 7
    assert total(-1, -1) == float("inf")


def test_tokens_a_second_are_counted_on_the_given_clock(make_world):
    world = make_world()
    ticks = iter(range(100))
    resources = ResourcesCallback(clock=lambda: next(ticks) * 2.0)
    trainer = fit(world, resources)
    last = list(world.data.train_dataloader())[-1]
    assert float(trainer.callback_metrics["time/tokens_per_s"]) == int(last["attention_mask"].sum()) / 2.0
    assert 50 < resources.peak_mib < 64_000
    assert float(trainer.callback_metrics["memory/rss_mib"]) <= resources.peak_mib
