"""One bar from the first step to the last, with lines above it for what is worth keeping, such as nights."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any, Self, final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN = {
    "train/loss": "loss {:.3f}",
    "train/recall_accuracy": "recall {:.0%}",
    "store/items": "{:,.0f} items",
}


@final
class RunBar:
    """A bar with named stages. Where the output is no terminal there is no bar, only the lines.

    An app keeps one open over training and evaluation:

        with RunBar() as bar:
            trainer.fit(...)                       # with ProgressCallback(bar=bar)
            bar.stage("evaluate", total=12)
            bar.advance()

    Args:
        console: where to draw; stderr by default.
    """

    def __init__(self, *, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, figures="", visible=False)
        self.open = False

    def __enter__(self) -> Self:
        self._progress.start()
        self.open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self.open = False

    def stage(self, name: str, *, total: float | None = None, done: int = 0) -> None:
        """Begin a stage of `total` steps, of which some are done; None or infinity for an unknown number."""
        known = total if total is not None and math.isfinite(total) else None
        self._progress.reset(
            self._task, description=name, total=known, completed=done, figures="", visible=True
        )

    def advance(self, steps: int = 1, figures: str | None = None) -> None:
        """Go on by some steps; `figures` are shown at the end of the line."""
        self._progress.advance(self._task, steps)
        if figures is not None:
            self._progress.update(self._task, figures=figures)

    def name(self, name: str) -> None:
        """Change what the bar says it does; the steps stay."""
        self._progress.update(self._task, description=name)

    def line(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        self.console.print(text, highlight=False, soft_wrap=True)


@final
class ProgressCallback(ProgressBar):
    """Moves a `RunBar` along with training: one stage for all epochs.

    Args:
        bar: one that the app keeps open; by default one of its own, open while the fit runs.
    """

    def __init__(self, *, bar: RunBar | None = None) -> None:
        super().__init__()
        self.bar = bar or RunBar()
        self._owned = False
        self._enabled = True

    def enable(self) -> None:
        """Show it."""
        self._enabled = True

    def disable(self) -> None:
        """Keep quiet, as on every rank but the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print a line above the bar."""
        if self._enabled:
            self.bar.line(kwargs.get("sep", " ").join(map(str, args)))

    def on_train_start(self, trainer: Any, module: pl.LightningModule) -> None:
        """Begin at the step where a resumed training stands."""
        if not self._enabled:
            return
        if not self.bar.open:
            self._owned = True
            self.bar.__enter__()
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.bar.stage("wake", total=_batches(trainer), done=done)

    def on_train_batch_end(self, trainer: Any, module: pl.LightningModule, *_: Any) -> None:
        """One batch further, with the figures of the moment."""
        if self._enabled:
            self.bar.advance(figures=_figures(trainer))

    def on_validation_start(self, trainer: Any, module: pl.LightningModule) -> None:
        """Say so."""
        if self._enabled:
            self.bar.name("validate")

    def on_validation_end(self, trainer: Any, module: pl.LightningModule) -> None:
        """Back to training."""
        if self._enabled:
            self.bar.name("wake")

    def on_train_end(self, trainer: Any, module: pl.LightningModule) -> None:
        """Close a bar of its own."""
        self._close()

    def on_exception(self, trainer: Any, module: pl.LightningModule, exception: BaseException) -> None:
        """Lightning calls no teardown then."""
        self._close()

    def _close(self) -> None:
        if self._owned:
            self._owned = False
            self.bar.__exit__(None, None, None)


def _batches(trainer: Any) -> float:
    """Batches of the whole training, as far as it is known."""
    by_epochs = (
        math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs * trainer.num_training_batches
    )
    by_steps = math.inf if trainer.max_steps == -1 else trainer.max_steps * trainer.accumulate_grad_batches
    return min(by_epochs, by_steps)


def _figures(trainer: Any) -> str:
    shown = ((form, trainer.callback_metrics.get(name)) for name, form in SHOWN.items())
    return "  ".join(form.format(float(v)) for form, v in shown if v is not None and math.isfinite(float(v)))
