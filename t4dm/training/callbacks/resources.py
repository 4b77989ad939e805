"""What training costs: tokens a second, and the memory of the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, final

import lightning.pytorch as pl
import psutil
import torch

from t4dm.training.phase import Batch


@final
class ResourcesCallback(pl.Callback):
    """Logs tokens per second over the batches since the last one, resident memory, and peak memory of a GPU.

    Args:
        clock: monotonic seconds.
    """

    metric_names = ("time/tokens_per_s", "memory/rss_mib", "vram/peak_gib")

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._process = psutil.Process()
        self.peak_mib = 0.0
        """Largest resident memory seen at the end of a batch."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, idx: int
    ) -> None:
        """Start the watch."""
        self._began = self._clock()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Stop it."""
        seconds = max(self._clock() - self._began, 1e-9)
        rss = self._process.memory_info().rss / 2**20
        self.peak_mib = max(self.peak_mib, rss)
        vram = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
        rate = float(torch.count_nonzero(batch["attention_mask"])) / seconds
        values = {"time/tokens_per_s": rate, "memory/rss_mib": rss, "vram/peak_gib": vram}
        module.log_dict(values, on_step=True, on_epoch=False, batch_size=1)
