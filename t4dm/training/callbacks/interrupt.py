"""Ctrl-C: finish the batch, save, stop. A run that was stopped goes on where it stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from t4dm.persistence.shutdown import Shutdown

START, STOPPED = "start.ckpt", "stopped.ckpt"


@final
class InterruptCallback(Checkpoint):
    """Saves `start.ckpt` before the first step, and `stopped.ckpt` when SIGINT or SIGTERM asked to stop.

    The signal only raises a flag. It is looked at where loops and data agree on what has been done: after a
    batch, an epoch, a validation. A second signal stops at once, and the last checkpoint stays. Being a
    `Checkpoint`, it is called after the callbacks that write and sleep.

    Args:
        folder: of the run; bundles go to `folder/checkpoints`.
    """

    def __init__(self, *, folder: str | Path) -> None:
        self._folder = Path(folder) / "checkpoints"
        self._shutdown: Shutdown | None = None

    def setup(self, trainer: Any, module: pl.LightningModule, stage: str) -> None:
        """Take the signals over, for as long as the fit runs."""
        if stage == "fit":
            self._shutdown = Shutdown().__enter__()

    def teardown(self, trainer: Any, module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._release()

    def on_exception(self, trainer: Any, module: pl.LightningModule, exception: BaseException) -> None:
        """Lightning calls no teardown then."""
        self._release()

    def on_train_start(self, trainer: Any, module: pl.LightningModule) -> None:
        """So that there is something to resume from the first second on."""
        if trainer.ckpt_path is None and not trainer.fast_dev_run:
            trainer.save_checkpoint(self._folder / START)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop here if asked to."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Any, module: pl.LightningModule) -> None:
        """Stop here if asked to."""
        self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Any, module: pl.LightningModule) -> None:
        """Stop here if asked to."""
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Any) -> None:
        if self._shutdown is None or not self._shutdown.requested:
            return
        if not trainer.sanity_checking and not trainer.fast_dev_run:
            trainer.save_checkpoint(self._folder / STOPPED)
        raise KeyboardInterrupt

    def _release(self) -> None:
        if self._shutdown is not None:
            self._shutdown.__exit__(None, None, None)
            self._shutdown = None
