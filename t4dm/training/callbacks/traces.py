"""What the report draws beside the metrics: spikes, firing rates, tau and write rate, in traces.npz."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from t4dm.spiking.recorder import SpikeRecorder, recording
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.phase import Batch


@final
class TracesCallback(pl.Callback):
    """Samples rates and gates while training runs; records the spikes of one example window at its end.

    The file holds `rates` [steps, L], `write_rate` [steps], `steps` [steps], `tau` [n] of the latest offers,
    `spikes_block<i>` [T, D] uint8 of the example, and its `tokens` [T]. It is written also when training
    fails.

    Args:
        folder: of the run.
        every: batches between two samples.
        taus: how many of the latest gate values are kept.
    """

    def __init__(self, *, folder: str | Path, every: int = 1, taus: int = 4096) -> None:
        self._file, self._every, self._most = Path(folder) / "traces.npz", max(1, every), taus
        self._steps: list[int] = []
        self._rates: list[list[float]] = []
        self._writes: list[float] = []
        self._taus: list[float] = []
        self._example: dict[str, Any] | None = None

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Sample. List this callback after MemoryWriteCallback, or tau is that of the batch before."""
        done = next((c.latest for c in trainer.callbacks if isinstance(c, MemoryWriteCallback)), None)
        if done is not None:
            self._taus = [*self._taus, *done.tau.tolist()][-self._most :]
        if self._example is None or bool((batch["read_end"][0] > 0).any()):
            self._example = _first_row(batch)
        aux = outputs["output"].aux
        if aux is not None and batch_idx % self._every == 0:
            self._steps.append(trainer.global_step)
            self._rates.append(aux.rate.mean(-1).tolist())
            self._writes.append(
                float(done.kept.mean()) if done is not None and len(done.kept) else float("nan")
            )

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Record the example and write the file."""
        self._write(self._spikes(module))

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Write what there is; the model may be in no state to be run."""
        if self._steps:
            self._write({})

    def _spikes(self, module: Any) -> dict[str, NDArray[Any]]:
        model, example = module.model, self._example
        if model.stack is None or example is None:
            return {}
        was_training = model.training
        try:
            model.eval()
            with torch.no_grad(), recording(model.stack, SpikeRecorder()) as recorder:
                module.wake(example)
        finally:
            model.train(was_training)
        tokens = model.backbone.tokenizer.batch_decode([[i] for i in example["input_ids"][0].tolist()])
        spikes = {
            f"spikes_block{i}": (recorder.spikes(f"block{i}.out")[0] > 0).to(torch.uint8).numpy()
            for i in range(len(model.stack.blocks))
            if f"block{i}.out" in recorder.names()
        }
        return {**spikes, "tokens": np.asarray(tokens, dtype=np.str_)}

    def _write(self, spikes: dict[str, NDArray[Any]]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_name(".traces.npz.part")
        arrays: dict[str, Any] = {
            "steps": np.asarray(self._steps, dtype=np.int64),
            "rates": np.asarray(self._rates, dtype=np.float32),
            "write_rate": np.asarray(self._writes, dtype=np.float32),
            "tau": np.asarray(self._taus, dtype=np.float32),
            **spikes,
        }
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.replace(self._file)


def _first_row(batch: Batch) -> dict[str, Any]:
    return {
        name: value[:1].clone() if isinstance(value, torch.Tensor) else value[:1]
        for name, value in batch.items()
    }
