"""What every stage needs to know about the tokens at hand: padding, documents, modulation, observers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.spiking.neuromodulators import BASELINE, NO_EFFECTS, Effects, Neuromod, effects
from t4dm.spiking.oscillators import OscillatorSignal
from t4dm.spiking.recorder import SpikeRecorder


class Context(NamedTuple):
    """One window of tokens: `mask` and `reset` bool `[B, T]` (None = all valid, no document start), derived
    indexes, effects.

    `previous` `[B, T]` indexes [state; tokens] at the last valid token before t, `last` `[B]` the last valid
    one of all. `segment` `[B, T]` counts document starts, so that two tokens belong together where it is
    equal. `effects` are those of `modulators` at full strength; each block has its own.
    """

    mask: Tensor | None = None
    reset: Tensor | None = None
    previous: Tensor | None = None
    last: Tensor | None = None
    segment: Tensor | None = None
    effects: Effects = NO_EFFECTS
    signal: OscillatorSignal | None = None
    recorder: SpikeRecorder | None = None
    calibrate: bool = False
    modulators: Neuromod = BASELINE


PLAIN = Context()


def make_context(
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    modulators: Neuromod = BASELINE,
    signal: OscillatorSignal | None = None,
    recorder: SpikeRecorder | None = None,
    calibrate: bool = False,
) -> Context:
    """Derive the indexes once, so that no stage does it again."""
    previous = last = None
    if mask is not None:
        steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        seen = torch.where(mask, steps, 0).cummax(dim=1).values
        previous = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, :-1]], dim=1)
        if reset is not None:
            # a document start wipes the previous token, also across padding that follows it
            wiped = torch.where(reset, steps, 0).cummax(dim=1).values > previous
            previous = torch.where(wiped, -1, previous)
            seen = torch.where(torch.where(reset, steps, 0).cummax(dim=1).values > seen, -1, seen)
        last = seen[:, -1]
    segment = None if reset is None else reset.cumsum(dim=1)
    return Context(
        mask, reset, previous, last, segment, effects(modulators), signal, recorder, calibrate, modulators
    )


def first_rows(context: Context, rows: int) -> Context:
    """Padding and documents of the first `rows` of the batch; effects, which may hold for all, stay."""
    names = ("mask", "reset", "previous", "last", "segment")
    parts = {name: getattr(context, name) for name in names}
    return context._replace(**{name: part[:rows] for name, part in parts.items() if part is not None})


def shift(x: Tensor, before: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """The previous valid token of the same document at every position, zeros at a document's start.

    Args:
        x: `[B, T, D]`.
        before: the last token of the previous window `[B, D]`.
        context: padding and document starts.

    Returns:
        The shifted stream `[B, T, D]` and the last valid token `[B, D]`, the next window's `before`.
    """
    before = before.to(x.dtype)
    if context.previous is None or context.last is None:
        shifted = torch.cat([before.unsqueeze(1), x[:, :-1]], dim=1)
        if context.reset is not None:
            shifted = shifted * (~context.reset).unsqueeze(-1).to(x.dtype)
        return shifted, x[:, -1]
    known = torch.cat([before.unsqueeze(1), x], dim=1)
    shifted = _take(known, context.previous)
    return shifted, _take(known, context.last.unsqueeze(1)).squeeze(1)


def _take(known: Tensor, index: Tensor) -> Tensor:
    rows = index.clamp(min=0).unsqueeze(-1).expand(-1, -1, known.shape[-1])
    return known.gather(1, rows) * (index >= 0).unsqueeze(-1).to(known.dtype)


def token_clock(clock: Tensor, like: Tensor, *, mask: Tensor | None, reset: Tensor | None) -> Tensor:
    """Valid tokens since the document's start, the current one included, `[B, T]`.

    Args:
        clock: tokens before this window `[B]`.
        like: a tensor `[B, T, ...]` that gives the shape.
        mask: bool `[B, T]`, False on padding, which does not advance the clock.
        reset: bool `[B, T]`, True where a document starts and the clock restarts.
    """
    batch, steps = like.shape[:2]
    ticks = clock.new_ones(batch, steps) if mask is None else mask.to(clock.dtype)
    count = ticks.cumsum(dim=1)
    base = -clock.unsqueeze(1)
    if reset is not None:
        base = torch.where(reset, count - ticks, base).cummax(dim=1).values
    return count - base
