"""Means over the latest steps, for metrics that many steps do not have, such as recall accuracy."""

from __future__ import annotations

from collections import deque
from typing import final

import torch
from torch import Tensor


@final
class RecentMean:
    """Sum over count of the last `size` additions; NaN while nothing was counted.

    Sums may be tensors on any device: nothing waits for a GPU before `value` is asked.
    """

    def __init__(self, *, size: int) -> None:
        self._parts: deque[tuple[Tensor | float, Tensor | float]] = deque(maxlen=max(1, size))

    def add(self, total: Tensor | float, count: Tensor | float) -> None:
        """Take in `count` values that sum to `total`."""
        self._parts.append((total, count))

    @property
    def value(self) -> float:
        """The mean."""
        total = sum(float(part) for part, _ in self._parts)
        count = sum(float(part) for _, part in self._parts)
        return total / count if count else float("nan")


def hits(logits: Tensor, input_ids: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """How many answer tokens the model would have said, and how many there are.

    Args:
        logits: `[B, T, V]`.
        input_ids: `[B, T]`.
        answers: bool `[B, T]`, the tokens that answer; the first position is never scored.
    """
    asked = answers[:, 1:]
    right = (logits[:, :-1].detach().argmax(-1) == input_ids[:, 1:]) & asked
    return right.sum(), torch.count_nonzero(asked)
