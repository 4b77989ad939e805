"""Which remembered tokens each head of the recall attention reads, taken from a pass as it happens.

A row of a recall is one token of one recalled item: its key is the state before the token, its value the
token (`MemoryLM`). The weights are computed beside the pass, from what the attention received.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from t4dm.memory.memory import Recall
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.recall_attention import RecallAttention
from t4dm.spiking.stack import CorticalStack

Keep = Callable[[str, Tensor], None]


class ReadRow(NamedTuple):
    """One row of a recall as one head read it."""

    head: int
    weight: float
    item: int
    """Which hit of the recall."""
    token: int
    """Which token of it, from 1."""


@torch.no_grad()
def recall_weights(module: RecallAttention, h: Tensor, recall: Tensor, mask: Tensor) -> Tensor:
    """Softmax weights `[B, H, T, M]` of a recall attention; all 0 where a position may read no row.

    Args:
        module: the attention.
        h: `[B, T, D]`.
        recall: `[B, M, D]`, or keys and values side by side `[B, M, 2 D]`.
        mask: bool `[B, T, M]`.
    """
    width = h.shape[-1]

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (module.heads, -1)).transpose(1, 2)

    q = split(module.query(rms_norm(h, (width,))))
    k = split(module.key(rms_norm(recall[..., :width], (width,))))
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~mask[:, None], -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0)  # a row of -inf alone has no softmax and reads nothing


@contextmanager
def watching_recall(stack: CorticalStack, keep: Keep) -> Iterator[None]:
    """Inside the block, `keep("block<i>.reading", weights [B, H, T, M])` is called for every read."""
    handles = []
    for index, block in enumerate(stack.blocks):
        module = cast(CorticalBlock, block).recall
        if module is not None:

            def after(
                read: Any, args: tuple[Any, ...], _out: Tensor, *, name: str = f"block{index}.reading"
            ) -> None:
                keep(name, recall_weights(read, *args))

            handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def strongest_rows(weights: Tensor, recall: Recall, *, count: int = 1) -> list[ReadRow]:
    """The rows that each head reads most at one position, head by head.

    Args:
        weights: `[H, M]`.
        recall: the query's own, from which the rows were made.
        count: rows of each head.
    """
    per_item = weights.shape[-1] // max(recall.mask.shape[1], 1)
    found = []
    for head, row in enumerate(weights):
        best = row.topk(min(count, len(row)))
        for weight, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if weight > 0.0:
                found.append(ReadRow(head, weight, place // per_item, place % per_item + 1))
    return found


def row_tokens(recall: Recall, read: Sequence[ReadRow]) -> list[int]:
    """The token id that each row holds as its value."""
    return [recall.tokens[0][row.item][row.token] for row in read]
