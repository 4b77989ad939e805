"""Sequences in the middle of their decoding, side by side: what each carries, and how one leaves the others.

Prompts of different lengths are padded on the left. The stack's state freezes at padding and positions count
from each sequence's own first token, so a sequence decodes as it would alone. A finished one is taken out of
the batch: nothing of it is computed, and nothing of the others moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t4dm.backbone.load import new_cache
from t4dm.model.in_stream import MemoryRows
from t4dm.model.memory_lm import MemoryLM
from t4dm.spiking.state import StackState, map_state


class Running(NamedTuple):
    """A batch between two steps; row b of everything belongs to the sequence `keys[b]`."""

    keys: tuple[int, ...]
    """Which sequences are still running, by the caller's numbers."""
    mask: Tensor
    """bool `[B, past]`, False at the padding before a prompt."""
    cache: Any
    """The backbone's key-value cache; grows in place."""
    state: StackState | None
    rows: MemoryRows | None
    """What the next token may read: `visible` is `[B, 1, M]`."""
    logits: Tensor
    """`[B, V]` for the next token."""


@torch.no_grad()
def begin(model: MemoryLM, prompts: Sequence[Sequence[int]], *, rows: MemoryRows | None = None) -> Running:
    """Read the prompts.

    Args:
        model: in evaluation mode.
        prompts: B lists of one token or more.
        rows: what was recalled for them; the last token of each prompt is the first that sees it.
    """
    ids, mask = padded_left(prompts, device=model.backbone.device)
    seen = None
    if rows is not None:
        visible = torch.zeros(*ids.shape, rows.visible.shape[-1], dtype=torch.bool, device=ids.device)
        visible[:, -1:] = rows.visible
        seen = MemoryRows(rows.states, visible)
    cache = new_cache()
    positions = None if bool(mask.all()) else (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(ids, attention_mask=mask, cache=cache, rows=seen, positions=positions, keep_logits=1)
    return Running(tuple(range(len(ids))), mask, cache, out.state, rows, out.logits[:, -1])


@torch.no_grad()
def step(model: MemoryLM, running: Running, tokens: Sequence[int]) -> Running:
    """Each sequence takes one token more."""
    ids = torch.tensor(tokens, device=running.mask.device)[:, None]
    mask = torch.cat([running.mask, torch.ones_like(ids, dtype=torch.bool)], dim=1)
    positions = None if bool(mask.all()) else mask.sum(-1, keepdim=True) - 1
    out = model(
        ids,
        attention_mask=mask,
        state=running.state,
        cache=running.cache,
        rows=running.rows,
        positions=positions,
    )
    return running._replace(mask=mask, state=out.state, logits=out.logits[:, -1])


def keep(running: Running, rows: Sequence[int]) -> Running:
    """The sequences in `rows` alone; the others have left."""
    if len(rows) == len(running.keys):
        return running
    index = torch.tensor(rows, dtype=torch.long, device=running.mask.device)
    running.cache.batch_select_indices(index)
    recalled = running.rows
    return Running(
        tuple(running.keys[row] for row in rows),
        running.mask[index],
        running.cache,
        None if running.state is None else map_state(lambda t: t[index], running.state),
        None if recalled is None else MemoryRows(recalled.states[index], recalled.visible[index]),
        running.logits[index],
    )


def padded_left(texts: Sequence[Sequence[int]], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids `[B, T]`, each row flush right, and the mask that is False before it."""
    longest = max(map(len, texts))
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, tokens in enumerate(texts):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens, dtype=torch.long)
        mask[row, longest - len(tokens) :] = True
    return ids.to(device), mask.to(device)
