"""When the memory is asked, and which positions may see what came back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.memory.memory import Recall


class Reads(NamedTuple):
    """Where a batch asks its memory.

    The query of a read is made of the tokens `[start, end)` of its row alone, so nothing after `end - 1`
    can leak into it. What comes back is visible from position `end - 1`, whose next token is the first that
    may use it, up to the next read.
    """

    start: Tensor
    """`[B, Q]`; -1 where a row has fewer reads."""
    end: Tensor
    """`[B, Q]`, exclusive; -1 where a row has fewer reads."""
    sessions: Sequence[str]
    """Whose memories each row may recall."""


class RecallRows(NamedTuple):
    """Recalled items as token sequences, one row for each token."""

    tokens: Tensor
    """`[U, L]` distinct contents, padded on the right."""
    mask: Tensor
    """`[U, L]`, False at padding."""
    content: Tensor
    """`[B, Q * k]` index into the contents; 0 where nothing came back."""
    recency: Tensor
    """`[B, Q * k]` 0 for the newest item of a read, 1 for the next."""
    found: Tensor
    """`[B, Q * k]`, False where nothing came back."""


def visibility(reads: Reads, length: int) -> Tensor:
    """Which read each position sees, `[B, T, Q]`: from a read's last token to the token before the next
    read's last.
    """
    position = torch.arange(length, device=reads.end.device)[None, :, None]
    begun = (position >= reads.end[:, None] - 1) & (reads.end[:, None] > 0)
    order = torch.where(begun, reads.end[:, None], -1)
    return begun & (order == order.amax(-1, keepdim=True))


def recall_rows(recall: Recall, *, batch: int, limit: int, pad_id: int, device: torch.device) -> RecallRows:
    """Lay out a recall of `batch * Q` queries; contents are cut at `limit` tokens and encoded once each.

    A content of one token has nothing to be read and counts as not found.
    """
    distinct: dict[tuple[int, ...], int] = {}
    queries, k = recall.mask.shape
    content = torch.zeros(queries, k, dtype=torch.long)
    found = recall.mask.clone().cpu()
    for n, items in enumerate(recall.tokens):
        for j, ids in enumerate(items):
            key = tuple(ids[:limit])
            if not found[n, j] or len(key) < 2:
                found[n, j] = False
                continue
            content[n, j] = distinct.setdefault(key, len(distinct))
    longest = max(map(len, distinct), default=2)
    tokens = torch.full((max(len(distinct), 1), longest), pad_id)
    mask = torch.zeros(tokens.shape, dtype=torch.bool)
    for key, row in distinct.items():
        tokens[row, : len(key)] = torch.tensor(key)
        mask[row, : len(key)] = True
    mask[:, 0] = True
    ages = torch.where(found, recall.ages.cpu(), torch.inf)
    recency = ages.argsort(dim=-1, stable=True).argsort(dim=-1)
    lay = lambda t: t.reshape(batch, -1).to(device)  # noqa: E731
    return RecallRows(tokens.to(device), mask.to(device), lay(content), lay(recency), lay(found))
