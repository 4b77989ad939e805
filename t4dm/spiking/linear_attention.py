"""Decayed linear attention in chunks of matrix products: the kernel under spike attention and RWKV.

    S_t = diag(w_t) S_{t-1} + k_t v_t^T        o_t = q_t S_t   (or q_t S_{t-1} when strict)

With c_t the log decay summed from the chunk's start, the pair (t, s) of a chunk weighs exp(c_t) * exp(-c_s).
All chunks go through each product at once, only the state walks from chunk to chunk: four products whatever
the length (the chunk form of Yang et al. 2024, arXiv 2312.06635, section 4, without secondary chunks).

Exact as long as exp of a chunk's summed log decay, times queries and keys, stays inside fp32: decays are
bounded by exp(-e^(-1/2)) per token (RWKV-7), which is -39 for the `LONGEST_CHUNK` of 64 tokens, and -54 when
serotonin is at its lowest and makes them 1.4 times as fast. No centring: a reference that depended on later
tokens would change the rounding of earlier outputs, and those must be identical bit for bit whatever follows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.errors import SettingError

LOG_DECAY_BOUND = math.exp(-0.5)
LONGEST_CHUNK = 64


def bounded_log_decay(logit: Tensor, *, bound: float = LOG_DECAY_BOUND) -> Tensor:
    """-bound * sigmoid(logit): a log decay in (-bound, 0), by default that of RWKV-7 (Peng et al. 2025)."""
    return -bound * torch.sigmoid(logit)


def decay_logit(tau: Tensor, *, bound: float = LOG_DECAY_BOUND) -> Tensor:
    """The logit whose bounded log decay is -1/tau, for tau above 1/bound tokens."""
    return torch.logit(1.0 / (tau * bound))


def check_chunk(chunk: int) -> int:
    """`chunk` itself.

    Raises:
        SettingError: it is not in 1..64, so that decays could leave fp32.
    """
    if not 1 <= chunk <= LONGEST_CHUNK:
        raise SettingError("chunk", chunk, f"set it to a number of tokens from 1 to {LONGEST_CHUNK}")
    return chunk


def widened(x: Tensor) -> Tensor:
    """Half precision as fp32, anything else as it is: sums over thousands of tokens need the digits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class _Chunks(NamedTuple):
    """Operands cut into N chunks of C tokens, `[B, H, N, C, ...]`, and who belongs to whom.

    `same` `[B, 1, N, C, C]` pairs of one document, `near` `[B, 1, N, C]` tokens of the document that the
    chunk's incoming state belongs to, `end` those of the document of its last token; all None without
    document starts.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    until: Tensor
    reach: Tensor
    same: Tensor | None
    near: Tensor | None
    end: Tensor | None


def chunk_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    state: Tensor,
    *,
    strict: bool = False,
    segment: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Outputs `[B, H, T, V]` and final state `[B, H, K, V]`.

    Args:
        q: queries `[B, H, T, K]`.
        k: keys `[B, H, T, K]`, zero on padding.
        v: values `[B, H, T, V]`.
        log_decay: `[B or 1, H, T, K]`, zero on padding; T may be 1 for a decay that does not change.
        state: `[B, H, K, V]`.
        strict: read the state before the token's own write.
        segment: document index `[B, T]`; a token reads its own document only, the initial state belongs to
            document 0.
        chunk: tokens per matrix product, at most `LONGEST_CHUNK`.
    """
    steps = q.shape[2]
    size = min(check_chunk(chunk), steps)
    whole = steps - steps % size
    origin = None if segment is None else torch.zeros_like(segment[:, 0])
    if whole == steps:
        return _attend(_cut(q, k, v, log_decay, segment, origin, strict, size), state, strict)
    # the remainder is a chunk of its own: padding it would cost a copy of everything
    lengths = [whole, steps - whole]
    (q, rest_q), (k, rest_k), (v, rest_v) = (x.split(lengths, dim=2) for x in (q, k, v))
    log, rest_log = (log_decay, log_decay) if log_decay.shape[2] == 1 else log_decay.split(lengths, dim=2)
    piece, rest = (None, None) if segment is None else segment.split(lengths, dim=1)
    out, state = _attend(_cut(q, k, v, log, piece, origin, strict, size), state, strict)
    last = None if piece is None else piece[:, -1]
    more, state = _attend(
        _cut(rest_q, rest_k, rest_v, rest_log, rest, last, strict, steps - whole), state, strict
    )
    return torch.cat([out, more], dim=2), state


def _cut(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    segment: Tensor | None,
    origin: Tensor | None,
    strict: bool,
    size: int,
) -> _Chunks:
    """Cut T, a multiple of `size`; `origin` `[B]` is the document that the initial state belongs to."""
    q, k, v = (x.unflatten(2, (-1, size)) for x in (q, k, v))
    if log_decay.shape[2] == 1:
        ticks = torch.arange(1, size + 1, device=q.device, dtype=log_decay.dtype).unsqueeze(-1)
        step = log_decay.unsqueeze(2)
        until = step * ticks
    else:
        step = log_decay.unflatten(2, (-1, size))
        until = step.cumsum(dim=3)
    reach = until - step if strict else until
    if segment is None or origin is None:
        return _Chunks(q, k, v, until, reach, None, None, None)
    document = segment.unflatten(1, (-1, size)).unsqueeze(1)
    last = document[..., -1]
    before = torch.cat([origin[:, None, None], last[..., :-1]], dim=-1)
    same = document.unsqueeze(-1) == document.unsqueeze(-2)
    return _Chunks(
        q, k, v, until, reach, same, document == before.unsqueeze(-1), document == last.unsqueeze(-1)
    )


def _attend(x: _Chunks, state: Tensor, strict: bool) -> tuple[Tensor, Tensor]:
    size = x.q.shape[3]
    queries = x.q * x.reach.exp()
    scores = queries @ (x.k * (-x.until).exp()).transpose(-1, -2)
    seen = torch.ones(size, size, dtype=torch.bool, device=x.q.device).tril(-1 if strict else 0)
    # filled, not multiplied by 0: a later pair may be inf
    scores = scores.masked_fill(~(seen if x.same is None else seen & x.same), 0.0)
    total = x.until[..., -1:, :]
    writes = x.k * (total - x.until).exp()
    kept = total.exp().transpose(-1, -2)
    if x.near is not None and x.end is not None:
        queries = queries * x.near.unsqueeze(-1)
        writes = writes * x.end.unsqueeze(-1)
        kept = kept * x.near[..., -1:].unsqueeze(-1)
    states, state = _walk(writes.transpose(-1, -2) @ x.v, kept, state)
    return (scores @ x.v + queries @ states).flatten(2, 3), state


def _walk(written: Tensor, kept: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The state before every chunk `[B, H, N, K, V]` and after the last one."""
    before = []
    decays = kept.expand(*kept.shape[:2], written.shape[2], *kept.shape[3:]).unbind(2)
    for new, decay in zip(written.unbind(2), decays, strict=True):
        before.append(state)
        state = torch.addcmul(new, decay, state)
    return torch.stack(before, dim=2), state
