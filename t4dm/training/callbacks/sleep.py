"""Puts the model to sleep when pressure is high. Decides when; `run_cycle` does it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

import lightning.pytorch as pl
import numpy as np

from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.night import Phase as SleepPhase
from t4dm.sleep.pressure import SleepPressure
from t4dm.sleep.report import SleepReport
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.metric_columns import log_now
from t4dm.training.phase import Batch

log = logging.getLogger("t4dm.sleep")


@final
class SleepCallback(pl.Callback):
    """Counts what is written, and sleeps where that has made the model tired.

    A night blocks training on purpose: it is deterministic and measured. It comes before the checkpoint
    of the same hook, since Lightning calls checkpoint callbacks last. Each night adds a line to
    `folder/nights.jsonl`, a row to the metrics, and a line above the progress bar.

    Args:
        pressure: builds up with written items.
        phases: stages of the night; the usual ones by default.
        folder: of the run.
        clock: the time in seconds; the memory's by default.
        seed: of the nights; each draws from (seed, its number).
        at: whether a night may begin after any batch or only after an epoch.
    """

    metric_names = tuple(
        f"sleep/{name}"
        for name in (
            "replayed_items", "prototypes", "merged_items", "pruned_items", "spared_items",
            "superseded_items", "edges_strengthened", "edges_downscaled", "items_before", "items_after",
            "bytes_before", "bytes_after", "kappa_mean", "seconds", "pressure",
        )
    )  # fmt: skip

    def __init__(
        self,
        *,
        pressure: SleepPressure,
        folder: str | Path,
        phases: Sequence[SleepPhase] | None = None,
        clock: Callable[[], float] | None = None,
        seed: int = 0,
        at: Literal["epoch", "batch"] = "epoch",
    ) -> None:
        self.pressure, self._phases, self._clock = pressure, phases, clock
        self._file, self._seed, self._at = Path(folder) / "nights.jsonl", seed, at
        self.nights = self.replayed = self.pruned = self.prototypes = 0
        self.seconds = 0.0
        """Asleep since this object was made: a resumed run is timed from its own start."""
        self._counted, self._epoch_ending = 0, False

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Grow tired of what was written; sleep if nights may begin here."""
        written = sum(c.written for c in trainer.callbacks if isinstance(c, MemoryWriteCallback))
        self.pressure.record(written - self._counted, float(outputs["loss"]), now=self._now(module))
        self._counted, self._epoch_ending = written, trainer.is_last_batch
        if self._at == "batch":
            self._sleep_if_due(trainer, module)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Make up for a night that a checkpoint between an epoch's last batch and its end has cut off."""
        if self._epoch_ending:
            self._sleep_if_due(trainer, module)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Sleep if it is due."""
        self._epoch_ending = False
        self._sleep_if_due(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        """Numbers; the store may be closed by now."""
        names = ("nights", "replayed", "pruned", "prototypes")
        return {name: getattr(self, name) for name in names} | {
            "pressure": self.pressure.state_dict(),
            "counted": self._counted,
            "epoch_ending": self._epoch_ending,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in ("nights", "replayed", "pruned", "prototypes"):
            setattr(self, name, state_dict[name])
        self.pressure.load_state_dict(state_dict["pressure"])
        self._counted, self._epoch_ending = state_dict["counted"], state_dict["epoch_ending"]

    def _now(self, module: Any) -> float:
        if self._clock is not None:
            return self._clock()
        return 0.0 if module.memory is None else module.memory.clock()

    def _sleep_if_due(self, trainer: Any, module: Any) -> None:
        if module.memory is not None and self.pressure.due(self._now(module)):
            self._sleep(trainer, module)

    def _sleep(self, trainer: Any, module: Any) -> None:
        assert module.memory is not None
        clock = self._clock or module.memory.clock
        rng = np.random.default_rng([self._seed, self.nights])
        report = run_cycle(module.memory, module.model.stack, phases=self._phases, clock=clock, rng=rng)
        tired = self.pressure.level
        self.pressure.slept(report.replayed)
        self._count(report)
        module.after_night(report)
        self._write(report, step=trainer.global_step)
        log_now(trainer, {**report.metrics(), "sleep/pressure": tired})
        self._say(trainer, report)

    def _count(self, report: SleepReport) -> None:
        self.nights += 1
        self.replayed += report.replayed
        self.pruned += report.pruned
        self.prototypes += report.prototypes
        self.seconds += report.seconds

    def _write(self, report: SleepReport, *, step: int) -> None:
        """One line, on the disk before training goes on."""
        line = {"night": self.nights, "step": step, **report.to_json()}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _say(self, trainer: Any, report: SleepReport) -> None:
        line = night_line(self.nights, report, step=trainer.global_step)
        log.info(line)
        if trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.print(line)


def night_line(number: int, report: SleepReport, *, step: int) -> str:
    """A night in one line."""
    before, after = report.before, report.after
    return (
        f"night {number} after step {step}: replayed {report.replayed:,}, "
        f"{report.prototypes:,} new prototypes, pruned {report.pruned:,}; "
        f"{before.items:,} -> {after.items:,} items, "
        f"kappa {before.mean_kappa:.2f} -> {after.mean_kappa:.2f}, {report.seconds:.1f} s"
    )
