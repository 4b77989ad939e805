"""Working memory: what a batch has told so far, recalled inside the batch with its gradients.

T4DX gives back what earlier steps wrote, as constants. What the rows of *this* batch told is read from the
stream itself: the loss of the row that asks then reaches the projection, and the LoRAs below it, of the row
that told (in-batch memories, Zhong et al. 2022, TRIME). Spans are found by the same keys as in T4DX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.model.reads import Reads


class Writes(NamedTuple):
    """Where a batch tells something, and when."""

    start: Tensor
    """`[B, S]`; -1 where a row has fewer spans."""
    end: Tensor
    """`[B, S]`, exclusive; -1 where a row has fewer spans."""
    times: Tensor
    """`[B]` seconds; of two rows of a session, the later one may recall the earlier one."""


class Held(NamedTuple):
    """What the working memory holds for each read: k spans `[start, end)` of rows of the batch."""

    row: Tensor
    """`[B, Q, k]`; 0 where nothing was found."""
    start: Tensor
    """`[B, Q, k]`; 0 where nothing was found."""
    end: Tensor
    """`[B, Q, k]`; 0 where nothing was found."""
    recency: Tensor
    """`[B, Q, k]` 0 for the newest span of a read, 1 for the next; those not found come last."""
    found: Tensor
    """`[B, Q, k]`, False where nothing was found."""


def earlier(reads: Reads, writes: Writes, *, reset: Tensor | None, mask: Tensor) -> Tensor:
    """Which span each read may recall, bool `[B, Q, B, S]`.

    A span of the read's own row that ends where the query begins or before, or of a row of the same session
    with an earlier time; never across the start of a document inside a row.

    Args:
        reads, writes: of the batch.
        reset: `[B, T]`, True where a document starts; None where only rows do.
        mask: bool `[B, T]`, False at padding.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(reads.sessions))}
    session = torch.tensor([names[name] for name in reads.sessions], device=mask.device)
    before = (session[:, None] == session) & (writes.times < writes.times[:, None])
    own = torch.eye(len(session), dtype=torch.bool, device=mask.device)
    document = _documents(reset, mask)
    asked, told = (document.gather(1, start.clamp(min=0)) for start in (reads.start, writes.start))
    in_row = writes.end <= reads.start[..., None, None]
    in_row = own[:, None, :, None] & in_row & (told == asked[..., None, None])
    left_open = (told == document[:, -1:]) & (asked == 0)[..., None, None]
    across = before[:, None, :, None] & left_open
    # One token alone cannot be read.
    real = (writes.start >= 0) & (writes.end - writes.start > 1)
    return (in_row | across) & real & (reads.end > 0)[..., None, None]


def hold(allowed: Tensor, likeness: Tensor, writes: Writes, *, k: int, limit: int) -> Held:
    """The k allowed spans most like each query; of equals, the newer one.

    Args:
        allowed: bool `[B, Q, B, S]`.
        likeness: `[B, Q, B, S]`, cosines of search keys.
        writes: of the batch.
        k: spans of a read.
        limit: tokens of a span that are read.
    """
    batch, spans = writes.start.shape
    row = torch.arange(batch, device=allowed.device)[:, None].expand(batch, spans).flatten()
    start = writes.start.flatten()
    newest = start.argsort(descending=True, stable=True)
    newest = newest[writes.times[row[newest]].argsort(descending=True, stable=True)]
    score = likeness.masked_fill(~allowed, -torch.inf).flatten(2)[..., newest]
    best = score.argsort(dim=-1, descending=True, stable=True)[..., :k]
    if best.shape[-1] < k:
        best = torch.nn.functional.pad(best, (0, k - best.shape[-1]))
    place = torch.arange(k, device=best.device)
    found = allowed.flatten(2)[..., newest].gather(-1, best) & (place < batch * spans)
    recency = torch.where(found, best, batch * spans).argsort(dim=-1, stable=True).argsort(dim=-1)
    chosen = newest[best]
    end = torch.minimum(writes.end.flatten()[chosen], start[chosen] + limit)
    rows, starts, ends = (torch.where(found, spot, 0) for spot in (row[chosen], start[chosen], end))
    return Held(rows, starts, ends, recency, found)


def places(held: Held) -> tuple[Tensor, Tensor]:
    """Token positions `[B, Q, k, L]` of each span in its row, and which of them it has; L is the longest."""
    length = max(int((held.end - held.start).max()), 2) if held.end.numel() else 2
    at = held.start[..., None] + torch.arange(length, device=held.start.device)
    inside = at < held.end[..., None]
    return torch.where(inside, at, 0), inside


def spans_of(start: Tensor, end: Tensor) -> Sequence[tuple[int, int, int]]:
    """Each `(row, start, end)` of a table of spans, missing ones empty."""
    return [
        (b, max(int(start[b, n]), 0), max(int(end[b, n]), 0))
        for b in range(start.shape[0])
        for n in range(start.shape[1])
    ]


def _documents(reset: Tensor | None, mask: Tensor) -> Tensor:
    """Which document of its row each position belongs to, `[B, T]`, from 0 at the first token."""
    if reset is None:
        return torch.zeros_like(mask, dtype=torch.long)
    begun = (reset.bool() & mask).long().cumsum(1)
    return (begun - begun.gather(1, mask.long().argmax(1, keepdim=True))).clamp(min=0)
