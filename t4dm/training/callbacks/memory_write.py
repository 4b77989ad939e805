"""Writes memories while the model is awake. `MemoryWriter` decides what to keep; this says when."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import numpy as np

from t4dm.memory.memory import Memory
from t4dm.model.writer import MemoryWriter, Written
from t4dm.t4dx import T4DX, Options
from t4dm.training.phase import Batch
from t4dm.training.recent import RecentMean

RAM = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a scratch memory lies; it need not outlive anything."""


@final
class MemoryWriteCallback(pl.Callback):
    """After each training batch: offer its spans to the gate, write what passes, let the gate learn from use.

    A validation reads and writes a scratch memory of its own, which is gone afterwards: what is held out
    never reaches the store, the gate or the night.

    Args:
        writer: the gate and what belongs to it.
        seed: of the scratch memory's ids.
    """

    metric_names = ("write/rate", "write/tau_mean", "store/items")

    def __init__(self, *, writer: MemoryWriter, seed: int = 0) -> None:
        self.writer, self._seed = writer, seed
        self.offered = self.written = 0
        self.latest: Written | None = None
        """What the last training batch offered."""
        self._scratch: ExitStack | None = None
        self._awake: Memory | None = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Means over as many steps as lie between two logged ones."""
        self._rate, self._tau = (RecentMean(size=trainer.log_every_n_steps) for _ in range(2))

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write."""
        if module.memory is not None:
            self._count(
                self.writer.write(module.model, module.memory, batch, outputs["output"]), module.memory
            )
        items = 0 if module.memory is None else module.memory.store.count()
        values = {
            "write/rate": self._rate.value,
            "write/tau_mean": self._tau.value,
            "store/items": float(items),
        }
        module.log_dict(values, on_step=True, on_epoch=False, batch_size=1)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Put a scratch memory in the place of the real one."""
        if module.memory is not None:
            self._awake, self._scratch = module.memory, ExitStack()
            module.memory = self._scratch.enter_context(_ScratchMemory(self._awake, seed=self._seed))

    def on_validation_batch_end(
        self,
        trainer: Any,
        module: Any,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write to the scratch memory, the gate as it stands."""
        if module.memory is not None:
            self.writer.write(module.model, module.memory, batch, outputs["output"], learn=False)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Wake up to the real memory."""
        if self._scratch is not None:
            module.memory = self._awake
            self._scratch.close()
            self._scratch = self._awake = None

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """A validation that failed leaves no scratch memory behind."""
        self.on_validation_end(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        """The gate, and what was counted; plain values."""
        return {"writer": self.writer.state_dict(), "offered": self.offered, "written": self.written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.writer.load_state_dict(state_dict["writer"])
        self.offered, self.written = state_dict["offered"], state_dict["written"]

    def _count(self, done: Written, memory: Memory) -> None:
        self.latest = done
        kept = int(np.count_nonzero(done.kept))
        self.offered += len(done.ids)
        self.written += kept
        self._rate.add(float(kept), float(len(done.ids)))
        self._tau.add(float(done.tau.sum()), float(len(done.tau)))


class _ScratchMemory:
    """A memory in a folder that lives as long as the context; same clock and dimension as another."""

    def __init__(self, like: Memory, *, seed: int) -> None:
        self._like, self._seed = like, seed

    def __enter__(self) -> Memory:
        self._exit = ExitStack()
        folder = self._exit.enter_context(tempfile.TemporaryDirectory(prefix="t4dm-", dir=RAM))
        store = T4DX.open(
            Path(folder) / "store",
            dim=self._like.store.dim,
            options=Options(durability="os"),
            clock=self._like.clock,
        )
        self._exit.enter_context(store)
        return Memory(store, clock=self._like.clock, rng=np.random.default_rng(self._seed))

    def __exit__(self, *error: object) -> None:
        self._exit.close()
