"""Lightning's checkpoints as bundles: a folder with what learns, the loops' state and the store.

```
epoch=3.ckpt/
  learning.safetensors   what learns
  learning.json          step and epoch
  lightning.pt           loops, optimizers, callbacks: plain types only, read with weights_only
  store/                 a copy of the store at the LSN in the manifest
  MANIFEST.json          written last
```
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from t4dm.errors import BundleCorruptError, CheckpointMissingError
from t4dm.persistence.bundle import load_bundle, save_bundle
from t4dm.t4dx import T4DX

LOOPS = "lightning.pt"


@final
class BundleIO(CheckpointIO):
    """Writes a bundle where Lightning would write a file; also top-k, `save_last` and links to bundles work.

    The bundle appears whole or not at all; the one it replaces stays until then.

    Args:
        store: copied into every bundle; None for a model without memory.
        clock: wall time in seconds, which orders bundles.
    """

    def __init__(self, *, store: T4DX | None = None, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a bundle at `path`."""
        path = Path(path)
        if path.is_symlink():
            path.unlink()
        save_bundle(
            path,
            tensors=checkpoint["state_dict"],
            state={"global_step": checkpoint["global_step"], "epoch": checkpoint["epoch"]},
            store=self._store,
            write=partial(_save_loops, {k: v for k, v in checkpoint.items() if k != "state_dict"}),
            clock=self._clock,
        )

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a bundle back after comparing every file with the manifest.

        Raises:
            CheckpointMissingError: there is nothing at `path`.
            BundleCorruptError: a file is missing or altered, or the bundle was not written by a trainer.
        """
        path = Path(path)
        if not path.exists():
            raise CheckpointMissingError(str(path))
        bundle = load_bundle(path)
        if not (path / LOOPS).is_file():
            raise BundleCorruptError(path=path, problem=f"{LOOPS} is missing")
        loops: Mapping[str, Any] = torch.load(
            path / LOOPS, map_location=map_location or "cpu", weights_only=True
        )
        return {**loops, "state_dict": bundle.tensors}

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a bundle, or a link to one."""
        path = Path(path)
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=True)


def _save_loops(loops: Mapping[str, Any], folder: Path) -> None:
    with (folder / LOOPS).open("wb") as file:  # torch's own writer does not tell why it could not write
        torch.save(dict(loops), file)
