"""Which rows make up step s of epoch e: a pure function of (seed, epoch, step); training resumes mid-epoch.

The order of an epoch sorts the rows by a hash of (seed, epoch, row): the same on every platform and with
every version of numpy, which promises no such thing of its own shuffles.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import SettingError


@lru_cache(maxsize=4)
def permutation(size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The seeded order of `range(size)` in an epoch, `[size]`, read-only; O(size log size) once an epoch."""
    key = _mix(_mix(_word(seed)) ^ _word(epoch))
    order = np.argsort(_mix(np.arange(size, dtype=np.uint64) + key), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def _word(value: int) -> NDArray[np.uint64]:
    return np.array([value % 2**64], dtype=np.uint64)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014), a bijection; arithmetic wraps modulo 2**64."""
    z = value + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class StepSampler:
    """The rows of every step; holds no position.

    Args:
        size: how many rows there are.
        batch_size: rows in a step.
        seed: of the order; None keeps the rows in order in every epoch.
        drop_last: leave out an incomplete last batch.
    """

    def __init__(self, *, size: int, batch_size: int, seed: int | None, drop_last: bool = False) -> None:
        if batch_size < 1:
            raise SettingError("data.batch_size", batch_size, "set it to at least one row")
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.steps = size // batch_size if drop_last else -(-size // batch_size)

    def rows(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Row indices of one step, `[batch_size]`, fewer in an incomplete last step.

        Raises:
            IndexError: the epoch has no such step.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of an epoch of {self.steps} steps")
        at = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, self.size), dtype=np.int64)
        return at if self.seed is None else permutation(self.size, seed=self.seed, epoch=epoch)[at]
