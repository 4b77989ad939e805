"""Stage 5, RWKV: time mix with a matrix state (version 6 form, version 7's bounded decay) and channel mix.

    S_t = diag(w_t) S_{t-1} + k_t v_t^T        o_t = r_t (S_{t-1} + diag(u) k_t v_t^T)

w_t = exp(-e^(-1/2) * sigmoid(w0 + W(x_t))) lies in [0.545, 1), which is what makes the chunked form exact in
fp32 (Peng et al. 2024, arXiv 2404.05892, eq. 14-19; decay of Peng et al. 2025, arXiv 2503.14456).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.spiking import fla_kernels, rwkv_naive
from t4dm.spiking.attention_backends import choose, known_backend
from t4dm.spiking.context import PLAIN, Context, shift
from t4dm.spiking.linear_attention import (
    bounded_log_decay,
    check_chunk,
    chunk_attention,
    decay_logit,
    widened,
)


def rwkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    state: Tensor,
    *,
    backend: str = "auto",
    context: Context = PLAIN,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence.

    Args:
        r, k: receptance and key `[B, T, H, K]`; half precision is computed in fp32 by the torch back-ends.
        v: value `[B, T, H, V]`.
        log_decay: ln w `[B, T, H, K]`, in (-0.6065, 0).
        bonus: u `[H, K]`, the weight of the token's own write.
        state: `[B, H, K, V]`, at least fp32.
        backend: `"auto"`, `"torch_chunk"`, `"torch_recurrent"` (one token at a time, the reference) or
            `"fla"`; see `explain_attention_backends`.
        context: padding freezes the state, a document start zeroes it.
        chunk: tokens per matrix product, at most 64.

    Returns:
        o `[B, T, H, V]` in v's dtype and the state after the last token.

    Raises:
        UnknownBackendError: no such backend.
        MissingBackendError: the backend asked for by name cannot run here; only `auto` chooses another.
        SettingError: a chunk too long for fp32.
    """
    name, dtype = choose("rwkv", backend, r.device), v.dtype
    with torch.autocast(r.device.type, enabled=False):
        log_decay = widened(log_decay)
        if name != "fla":
            r, k, v = (widened(x) for x in (r, k, v))
        if context.mask is not None:
            keep = context.mask[:, :, None, None].to(k.dtype)
            k, log_decay = k * keep, log_decay * keep.to(log_decay.dtype)
        if name == "fla":
            out, state = fla_kernels.rwkv6(r, k, v, log_decay, bonus, state, reset=context.reset)
        elif name == "torch_recurrent":
            out, state = rwkv_naive.recurrent(r, k, v, log_decay, bonus, state, context)
        else:
            own = (r * bonus * k).sum(dim=-1, keepdim=True) * v
            r, k, v, log_decay = (x.transpose(1, 2) for x in (r, k, v, log_decay))
            out, state = chunk_attention(
                r, k, v, log_decay, state, strict=True, segment=context.segment, chunk=chunk
            )
            out = out.transpose(1, 2) + own
    return out.to(dtype), state


@final
class TimeMix(nn.Module):
    """Token shift, data-dependent decay, matrix state, per-head normalisation, output projection.

    Args:
        width: D.
        heads: H.
        decay_rank: of the data-dependent part of the decay.
        backend: see `rwkv6`.
        chunk: tokens per matrix product.
        zero_output: start with an output projection of zeros, so that the stage does nothing at first and
            all but that projection gets its first gradient one step later. Off where a gate further out
            starts at zero already: two in a row would cost two steps.

    Raises:
        SettingError: a chunk too long for fp32.
        UnknownBackendError: no such backend.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        decay_rank: int,
        backend: str = "auto",
        chunk: int = 64,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.chunk = heads, check_chunk(chunk)
        self.backend = known_backend("rwkv", backend)
        self.mix = nn.Parameter(torch.full((4, width), 0.5))
        self.receptance = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.decay_down = nn.Linear(width, decay_rank, bias=False)
        self.decay_up = nn.Linear(decay_rank, width)
        self.out = nn.Linear(width, width, bias=False)
        self.bonus = nn.Parameter(torch.full((heads, width // heads), 0.5))
        self.norm = nn.Parameter(torch.ones(width))
        tau = torch.logspace(0.5, 2.5, width // heads).repeat(heads)
        with torch.no_grad():
            self.decay_up.weight.mul_(0.1)
            self.decay_up.bias.copy_(decay_logit(tau))
        if zero_output:
            nn.init.zeros_(self.out.weight)

    def forward(
        self, x: Tensor, S: Tensor, before: Tensor, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Output `[B, T, D]`, matrix state and last token for the normalised stream `[B, T, D]`."""
        batch, steps, width = x.shape
        shifted, last = shift(x, before, context)
        step = shifted - x
        x_r, x_k, x_v, x_w = (torch.addcmul(x, step, mix) for mix in self.mix)
        r, k, v = (
            linear(part).view(batch, steps, self.heads, -1)
            for linear, part in ((self.receptance, x_r), (self.key, x_k), (self.value, x_v))
        )
        logit = self.decay_up(torch.tanh(self.decay_down(x_w))).view(batch, steps, self.heads, -1)
        log_decay = bounded_log_decay(logit)
        if context.effects.persistence is not None:
            log_decay = log_decay * context.effects.persistence.unsqueeze(-1).to(x.device)
        out, S = rwkv6(
            r, k, v, log_decay, self.bonus, S, backend=self.backend, context=context, chunk=self.chunk
        )
        out = F.layer_norm(out, out.shape[-1:]).reshape(batch, steps, width) * self.norm
        return self.out(out), S, last


@final
class ChannelMix(nn.Module):
    """sigmoid(W_r x_r) * W_v relu(W_k x_k)^2 with token shift; W_r of low rank, hidden width = D.

    Args:
        width: D.
        rank: of the receptance.
        zero_output: see `TimeMix`.
    """

    def __init__(self, *, width: int, rank: int, zero_output: bool = False) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.full((2, width), 0.5))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.receptance_down = nn.Linear(width, rank, bias=False)
        self.receptance_up = nn.Linear(rank, width, bias=False)
        if zero_output:
            nn.init.zeros_(self.value.weight)

    def forward(self, x: Tensor, before: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Output `[B, T, D]` and last token for the normalised stream `[B, T, D]`."""
        shifted, last = shift(x, before, context)
        step = shifted - x
        x_k, x_r = (torch.addcmul(x, step, mix) for mix in self.mix)
        hidden = F.relu(self.key(x_k)).square()
        gate = torch.sigmoid(self.receptance_up(self.receptance_down(x_r)))
        return gate * self.value(hidden), last
