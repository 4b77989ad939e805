"""Decayed linear attention in chunks of matrix products: the kernel under spike attention and RWKV.

    S_t = diag(w_t) S_{t-1} + k_t v_t^T        o_t = q_t S_t   (or q_t S_{t-1} when strict)

Exact in fp32 as long as a chunk's summed log decay stays above about -80: decays are bounded by
exp(-e^(-1/2)) per token (RWKV-7), which is -39 for 64 tokens. No centring: a reference that depended on
later tokens would change the rounding of earlier outputs, and those must be identical bit for bit whatever
follows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_DECAY_BOUND = math.exp(-0.5)


def bounded_log_decay(logit: Tensor) -> Tensor:
    """-e^(-1/2) * sigmoid(logit): a log decay in (-0.6065, 0) (Peng et al. 2025, RWKV-7)."""
    return -LOG_DECAY_BOUND * torch.sigmoid(logit)


def decay_logit(tau: Tensor) -> Tensor:
    """The logit whose bounded log decay is -1/tau, for tau above 1.65 tokens."""
    return torch.logit(1.0 / (tau * LOG_DECAY_BOUND))


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
        log_decay: broadcasts to `[B, H, T, K]`, zero on padding.
        state: `[B, H, K, V]`.
        strict: read the state before the token's own write.
        segment: document index `[B, T]`; a token reads its own document only, the initial state belongs to
            document 0.
        chunk: tokens per matrix product.
    """
    steps = q.shape[2]
    outs = []
    base = None
    for start in range(0, steps, chunk):
        part = slice(start, min(start + chunk, steps))
        piece = None if segment is None else segment[:, part]
        out, state = _one_chunk(
            q[:, :, part], k[:, :, part], v[:, :, part], log_decay[:, :, part], state, strict, piece, base
        )
        base = None if piece is None else piece[:, -1]
        outs.append(out)
    return (outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)), state


def _one_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    state: Tensor,
    strict: bool,
    segment: Tensor | None,
    base: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One chunk; `base` `[B]` is the document that the incoming state belongs to (0 for the first chunk)."""
    until = log_decay.cumsum(dim=2)
    reach = until - log_decay if strict else until
    queries = q * reach.exp()
    scores = queries @ (k * (-until).exp()).transpose(-1, -2)
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril(-1 if strict else 0)
    carried = queries @ state
    writes = k * (until[:, :, -1:] - until).exp()
    kept = state * until[:, :, -1].exp().unsqueeze(-1)
    if segment is not None:
        origin = torch.zeros_like(segment[:, 0]) if base is None else base
        seen = seen & (segment[:, None, :, None] == segment[:, None, None, :])
        carried = carried * (segment == origin[:, None])[:, None, :, None]
        writes = writes * (segment == segment[:, -1:])[:, None, :, None]
        kept = kept * (segment[:, -1] == origin)[:, None, None, None]
    return (scores * seen.to(scores.dtype)) @ v + carried, kept + writes.transpose(-1, -2) @ v
