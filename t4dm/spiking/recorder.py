"""An explicit observer of spikes and membranes, bounded in bytes. Without one nothing is kept."""

from __future__ import annotations

import torch
from torch import Tensor


class SpikeRecorder:
    """Collects what the neurons of a stack do while it is passed to `forward`.

    Spikes are kept as uint8, membranes as fp32, both on the CPU and detached. When the next record would
    exceed the budget it is left out and its name is added to `dropped`; the forward pass goes on.

    Args:
        byte_budget: the most that all records together may take.
        membranes: keep the pre-reset membranes too (4 bytes per neuron and token).
        rows: how many rows of the batch to keep, from the first.
    """

    def __init__(self, *, byte_budget: int = 64 << 20, membranes: bool = False, rows: int = 1) -> None:
        self.byte_budget = byte_budget
        self.rows = rows
        self.bytes = 0
        self.dropped: list[str] = []
        self._membranes = membranes
        self._spikes: dict[str, list[Tensor]] = {}
        self._levels: dict[str, list[Tensor]] = {}

    def record(self, name: str, spikes: Tensor, membrane: Tensor) -> None:
        """Keep one layer's window `[B, T, D]` under `name`, such as `"block0.out"`."""
        binary = bool(((spikes == 0) | (spikes == 1)).all())
        kept = spikes[: self.rows].detach().to("cpu", torch.uint8 if binary else torch.float32, copy=True)
        levels = (
            membrane[: self.rows].detach().to("cpu", torch.float32, copy=True) if self._membranes else None
        )
        size = kept.numel() * kept.element_size() + (0 if levels is None else levels.numel() * 4)
        if self.bytes + size > self.byte_budget:
            self.dropped.append(name)
            return
        self.bytes += size
        self._spikes.setdefault(name, []).append(kept)
        if levels is not None:
            self._levels.setdefault(name, []).append(levels)

    def names(self) -> list[str]:
        """The recorded layers, in the order in which they fired first."""
        return list(self._spikes)

    def spikes(self, name: str) -> Tensor:
        """All windows of a layer joined over time, `[rows, T, D]`."""
        return torch.cat(self._spikes[name], dim=1)

    def membrane(self, name: str) -> Tensor:
        """Pre-reset membranes of a layer joined over time, `[rows, T, D]`."""
        return torch.cat(self._levels[name], dim=1)
