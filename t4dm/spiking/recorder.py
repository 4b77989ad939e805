"""An explicit observer of what happens inside a stack, bounded in bytes. Without one nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class SpikeRecorder:
    """Collects what the neurons of a stack do while it is passed to `forward`.

    Spikes are kept as uint8, all else as fp32, on the CPU and detached. What would exceed the budget is left
    out before it is copied, its name is added to `dropped`, and nothing more is kept under that name: a
    record is a beginning without gaps. The forward pass goes on.

    Args:
        byte_budget: the most that all records together may take.
        membranes: keep the pre-reset membranes too (4 bytes per neuron and token).
        inner: keep what the stages compute between spikes too: gate openings, attention weights (which grow
            with the square of the window and are computed for this alone), calcium, capsules.
        rows: how many rows of the batch to keep, from the first.
        only: the beginnings of the names to keep, such as `["block3."]`; all by default.
    """

    def __init__(
        self,
        *,
        byte_budget: int = 64 << 20,
        membranes: bool = False,
        inner: bool = False,
        rows: int = 1,
        only: Sequence[str] = ("",),
    ) -> None:
        self.byte_budget = byte_budget
        self.inner = inner
        self.rows = rows
        self.bytes = 0
        self.dropped: list[str] = []
        self._membranes = membranes
        self._only = tuple(only)
        self._spikes: dict[str, list[Tensor]] = {}
        self._levels: dict[str, list[Tensor]] = {}
        self._values: dict[str, list[Tensor]] = {}

    def record(self, name: str, spikes: Tensor, membrane: Tensor) -> None:
        """Keep one layer's window `[B, T, D]` under `name`, such as `"block0.out"`."""
        kind = torch.uint8 if bool(((spikes == 0) | (spikes == 1)).all()) else torch.float32
        each = kind.itemsize + (4 if self._membranes else 0)
        size = spikes[: self.rows].numel() * each
        if self._has_room(name, size):
            self.bytes += size
            self._spikes.setdefault(name, []).append(self._copied(spikes, kind))
            if self._membranes:
                self._levels.setdefault(name, []).append(self._copied(membrane, torch.float32))

    def keep(self, name: str, values: Tensor) -> None:
        """Keep one quantity's window `[B, T, ...]` under `name`, such as `"block0.gate"`, where `inner`."""
        count = values[: self.rows].numel()
        if self.wants(name, count):
            self.bytes += 4 * count
            self._values.setdefault(name, []).append(self._copied(values, torch.float32))

    def wants(self, name: str, count: int) -> bool:
        """Whether `keep` would take `count` numbers under `name`: to ask before computing them."""
        return self.inner and self._has_room(name, 4 * count)

    def names(self) -> list[str]:
        """The recorded layers, in the order in which they fired first."""
        return list(self._spikes)

    def quantities(self) -> list[str]:
        """The names under which `values` has something, in the order in which they were met first."""
        return list(self._values)

    def spikes(self, name: str) -> Tensor:
        """All windows of a layer joined over time, `[rows, T, D]`."""
        return torch.cat(self._spikes[name], dim=1)

    def membrane(self, name: str) -> Tensor:
        """Pre-reset membranes of a layer joined over time, `[rows, T, D]`."""
        return torch.cat(self._levels[name], dim=1)

    def values(self, name: str) -> Tensor:
        """All windows of a quantity joined over time, `[rows, T, ...]`."""
        return torch.cat(self._values[name], dim=1)

    def windows(self, name: str) -> list[Tensor]:
        """The windows of a quantity one by one: attention weights `[rows, T, H, T]` join over no axis."""
        return list(self._values[name])

    def _has_room(self, name: str, size: int) -> bool:
        if not name.startswith(self._only):
            return False
        if name not in self.dropped and self.bytes + size > self.byte_budget:
            self.dropped.append(name)
        return name not in self.dropped

    def _copied(self, values: Tensor, kind: torch.dtype) -> Tensor:
        return values[: self.rows].detach().to("cpu", kind, copy=True)


@contextmanager
def recording(stack: nn.Module, recorder: SpikeRecorder) -> Iterator[SpikeRecorder]:
    """Pass `recorder` to every forward pass of `stack` inside the block, whoever calls it."""

    def before(_stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "recorder": recorder}

    handle = stack.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield recorder
    finally:
        handle.remove()
