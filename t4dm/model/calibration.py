"""Before training: the stack's neurons brought to their target rates by one batch of what they will hear.

It stands between the model and its first step: the batch passes the layers below, the entry and the recall
as in any forward pass, and the stack takes centres and gains from it (`CorticalStack.calibrate`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.backbone.tap import stream_at
from t4dm.memory.memory import Memory
from t4dm.memory.policies import AnyPolicy
from t4dm.model.memory_lm import MemoryLM
from t4dm.model.reads import Reads

STAGES = (2, 3, 4, 6)


class Calibration(NamedTuple):
    """Mean rates of stages 2, 3, 4 and 6 of each block on the batch, spikes per token `[L, 4]`."""

    before: Tensor
    after: Tensor

    def lines(self) -> list[str]:
        """One line for each block."""
        return [
            f"block {index}: stages 2, 3, 4, 6 fired at {_percent(before)} %, calibrated {_percent(after)} %"
            for index, (before, after) in enumerate(zip(self.before, self.after, strict=True))
        ]


@torch.no_grad()
def calibrate(
    model: MemoryLM,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    reset: Tensor | None = None,
    reads: Reads | None = None,
    memory: Memory | None = None,
) -> Calibration:
    """Calibrate the stack of a model on one batch; nothing is drawn, so the batch alone decides.

    Args:
        model: with a stack; it runs in evaluation mode and is left as it was.
        input_ids: `[B, T]`, a hundred valid tokens or more.
        attention_mask: `[B, T]`, False at padding.
        reset: `[B, T]`, True where a new document starts.
        reads, memory: what is recalled, as in `MemoryLM.forward`; it does not count as used.

    Raises:
        ValueError: the model has no stack.
        CalibrationError: a layer of neurons cannot reach its target on that batch.
    """
    stack = model.stack
    if stack is None:
        raise ValueError("a model without a stack has no neurons to calibrate")
    mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    was_training = model.training
    model.eval()
    try:
        recall = model.recall(input_ids, reads, memory, AnyPolicy(), count=False)
        rows = None if recall is None or reads is None else model.rows(recall, reads, input_ids)
        heard = model.entry(stream_at(model.backbone, model.insert_at, input_ids, mask))
        states, visible = (None, None) if rows is None else rows
        before = stack(heard, recall=states, recall_mask=visible, mask=mask, reset=reset).aux.stage_rate
        after = stack.calibrate(heard, recall=states, recall_mask=visible, mask=mask, reset=reset)
    finally:
        model.train(was_training)
    return Calibration(before.cpu(), after.cpu())


def _percent(rates: Tensor) -> str:
    return ", ".join(f"{100.0 * rate:.1f}" for rate in rates.tolist())
