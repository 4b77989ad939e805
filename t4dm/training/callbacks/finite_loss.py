"""A loss that is no number: stop before it reaches a weight or a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import final

import lightning.pytorch as pl
import torch
from torch import Tensor

from t4dm.errors import NonFiniteLossError
from t4dm.persistence.recovery import find_bundles


@final
class FiniteLossCallback(pl.Callback):
    """Looks at each loss before its gradients are made: the error leaves the weights as the last step left
    them, nothing is written to the memory, and no checkpoint is made of the step.

    Local rules make no gradients of a loss; they refuse a change that is not finite by themselves.

    Args:
        folder: of the run; its checkpoints lie in `folder/checkpoints`.
    """

    def __init__(self, *, folder: str | Path) -> None:
        self._folder = Path(folder) / "checkpoints"

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Raise NonFiniteLossError for NaN and infinity."""
        if bool(torch.isfinite(loss).all()):
            return
        found, _ = find_bundles(self._folder)
        raise NonFiniteLossError(
            step=trainer.global_step,
            value=float(loss.detach()),
            checkpoint=str(found[0].path) if found else None,
        )
