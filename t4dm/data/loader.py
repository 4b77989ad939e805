"""An iterable of batches that knows where it stands, so that Lightning resumes it mid-epoch.

Lightning asks a loader with `state_dict` and `load_state_dict` for its position and puts it back
(`lightning.fabric.utilities.types._Stateful`); it announces epochs through `sampler.set_epoch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Batch = dict[str, Any]
BatchAt = Callable[[int, int], Batch]
"""(epoch, step) -> batch; pure, so that a step can be made again."""


class BatchLoader:
    """Yields `batch_at(epoch, step)` for every step of an epoch.

    It draws nothing from torch's global generator, unlike a DataLoader, so what is trained does not
    depend on how often a loader was opened.

    Args:
        batch_at: makes one batch.
        steps: batches in an epoch.
    """

    batch_sampler = None
    """Lightning looks for it beside `sampler`; batches are made whole here."""

    def __init__(self, *, batch_at: BatchAt, steps: int) -> None:
        self.batch_at, self.steps = batch_at, steps
        self._epoch, self._next, self._resumed_at = 0, 0, 0

    def __len__(self) -> int:
        return self.steps

    @property
    def sampler(self) -> BatchLoader:
        """Where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Announce the epoch of the next batch; a resumed position holds for its own epoch only."""
        if epoch != self._epoch:
            self._epoch, self._next, self._resumed_at = epoch, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields from the resumed step on, then from step 0 in every later pass."""
        # A generator: Lightning opens the iterator before it announces the epoch.
        first, self._resumed_at = self._resumed_at, 0
        for step in range(first, self.steps):
            self._next = step + 1
            yield self.batch_at(self._epoch, step)

    def state_dict(self) -> dict[str, int]:
        """Epoch and step of the next batch."""
        return {"epoch": self._epoch, "step": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was taken."""
        self._epoch = state["epoch"]
        self._next = self._resumed_at = state["step"]
