"""Stage 3, spike attention: binary queries and keys, weighted by spike-timing-dependent plasticity in linear
time.

A key that precedes a query is potentiated (A+, lambda+), a key that follows one is depressed (A-, lambda-).
Per head and key channel i, with everything on the token clock:

    ybar_t = lambda- * (ybar_{t-1} + q_{t-1})            ktilde_t = k_t * (A+ - A- * ybar_t)
    S_t = diag(lambda+) S_{t-1} + ktilde_t v_t^T          z_t = lambda+ * z_{t-1} + |ktilde_t|
    o_t = q_t S_t / (eps + q_t . z_t)

which equals the quadratic sum over pairs of spikes exactly. These are fast weights: no parameter changes
here.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.errors import UnknownBackendError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.context import PLAIN, Context, first_rows
from t4dm.spiking.linear_attention import bounded_log_decay, chunk_attention, decay_logit
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.state import AttnState, LIFState

MODES = ("chunk", "recurrent", "quadratic")


class STDPWindow(NamedTuple):
    """Log decays `[H, K]` of the LTP and LTD windows and their amplitudes `[H, 1]`."""

    log_plus: Tensor
    log_minus: Tensor
    a_plus: Tensor
    a_minus: Tensor


class FastWeights(NamedTuple):
    """`S` `[B, H, K, V]`, `z` and the query trace `ybar` (current token included) `[B, H*K]`."""

    S: Tensor
    z: Tensor
    ybar: Tensor


def stdp_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    mode: str = "chunk",
    context: Context = PLAIN,
    write: Tensor | None = None,
    depression: Tensor | None = None,
    epsilon: float = 1.0,
    chunk: int = 64,
) -> tuple[Tensor, FastWeights]:
    """Attend with spikes.

    Args:
        q, k: spikes `[B, T, H, K]`.
        v: values `[B, T, H, V]`.
        state: fast weights before the first token.
        window: the STDP window.
        mode: `"chunk"` (matrix products), `"recurrent"` (one token at a time), `"quadratic"` (all pairs,
            small T only).
        context: padding and document starts.
        write: factor on what is written to S, `[B or 1, T or 1, 1]`.
        depression: factor on A-, same shape.
        epsilon: floor of the normaliser. A silent query has normaliser epsilon, so 1/epsilon bounds its
            gradient.
        chunk: tokens per matrix product.

    Returns:
        Output `[B, T, H, V]` and the fast weights after the last token.

    Raises:
        UnknownBackendError: no such mode.
    """
    if mode not in MODES:
        raise UnknownBackendError("spike attention", mode, list(MODES))
    if context.mask is not None:
        keep = context.mask[:, :, None, None].to(k.dtype)
        q, k = q * keep, k * keep
    read = {"chunk": _chunked, "recurrent": _recurrent, "quadratic": _quadratic}[mode]
    flat_q = q.flatten(2)
    decay_minus = window.log_minus.exp().flatten()
    trace, ybar = linear_scan(flat_q, decay_minus, state.ybar, mask=context.mask, reset=context.reset)
    before = torch.cat([state.ybar.to(trace.dtype).unsqueeze(1), trace[:, :-1]], dim=1)
    if context.reset is not None:
        before = before * (~context.reset).unsqueeze(-1)
    a_minus = window.a_minus if depression is None else window.a_minus * depression.unsqueeze(-1)
    keys = k * (window.a_plus - a_minus * (decay_minus * before).view_as(k))
    evidence, z = linear_scan(
        keys.abs().flatten(2),
        window.log_plus.exp().flatten(),
        state.z,
        mask=context.mask,
        reset=context.reset,
    )
    written = keys if write is None else keys * write.unsqueeze(-1)
    out, S = read(q, written, v, state.S, window.log_plus, context, chunk)
    # spikes are 0 or 1; |q| keeps the normaliser positive for the graded twin too
    norm = epsilon + (q.abs() * evidence.view_as(q)).sum(dim=-1, keepdim=True)
    return out / norm, FastWeights(S, z, ybar)


def attention_weights(
    q: Tensor,
    k: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    context: Context = PLAIN,
    write: Tensor | None = None,
    depression: Tensor | None = None,
) -> Tensor:
    """How much each token takes from each value of its window, for whoever wants to look: o_t = sum_s w_ts
    v_s.

    The attention is linear in its values, so the weights are what it makes of unit vectors in their place:
    the same code, no second formula. What the fast weights carry in from before the window belongs to no
    token of it and to no weight, though its evidence counts in the normaliser. A weight is negative where
    depression outgrew potentiation.

    Args:
        q, k, state, window, context, write, depression: as for `stdp_attention`.

    Returns:
        `[B, T, H, T]`, zero where the second token follows the first.
    """
    steps = q.shape[1]
    unit = torch.eye(steps, dtype=q.dtype, device=q.device)[None, :, None].expand(*q.shape[:3], -1)
    empty = state._replace(S=state.S.new_zeros(*state.S.shape[:-1], steps))
    return stdp_attention(q, k, unit, empty, window, context=context, write=write, depression=depression)[0]


def _chunked(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, log_plus: Tensor, context: Context, chunk: int
) -> tuple[Tensor, Tensor]:
    log = log_plus[None, :, None, :].expand(-1, -1, q.shape[1], -1)
    if context.mask is not None:
        log = log * context.mask[:, None, :, None]
    qs, ks, vs = (x.transpose(1, 2) for x in (q, k, v))
    out, S = chunk_attention(qs, ks, vs, log, S, segment=context.segment, chunk=chunk)
    return out.transpose(1, 2), S


def _recurrent(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, log_plus: Tensor, context: Context, chunk: int
) -> tuple[Tensor, Tensor]:
    outs = []
    for t in range(q.shape[1]):
        decay = log_plus.exp()[None, :, :, None]
        if context.mask is not None:
            decay = torch.where(context.mask[:, t, None, None, None], decay, torch.ones_like(decay))
        if context.reset is not None:
            decay = decay * (~context.reset[:, t, None, None, None])
        S = decay * S + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outs.append((q[:, t].unsqueeze(-2) @ S).squeeze(-2))
    return torch.stack(outs, dim=1), S


def _quadratic(
    q: Tensor, k: Tensor, v: Tensor, S: Tensor, log_plus: Tensor, context: Context, chunk: int
) -> tuple[Tensor, Tensor]:
    steps = q.shape[1]
    ticks = torch.ones_like(q[:, :, 0, 0]) if context.mask is None else context.mask.to(q.dtype)
    position = ticks.cumsum(dim=1)
    segment = torch.zeros_like(position) if context.segment is None else context.segment
    gap = position[:, :, None] - position[:, None, :]
    order = torch.ones(steps, steps, dtype=torch.bool, device=q.device).tril()
    pairs = order & (segment[:, :, None] == segment[:, None, :])
    weight = torch.exp(gap[..., None, None] * log_plus) * pairs[..., None, None]
    scores = torch.einsum("bthk,bshk,btshk->bhts", q, k, weight)
    alive = (segment == 0)[:, :, None, None] * torch.exp(position[:, :, None, None] * log_plus)
    out = torch.einsum("bhts,bshv->bthv", scores, v) + torch.einsum("bthk,bhkv->bthv", q * alive, S)
    final = torch.einsum("bshk,bshk,bshv->bhkv", weight[:, -1], k, v) + alive[:, -1].unsqueeze(-1) * S
    return out, final


@final
class SpikeAttention(nn.Module):
    """One LIF layer over [q; k], float values, an STDP window per head and channel.

    Args:
        width: D of the stream; also the width of the values.
        qk_width: channels of q and of k over all heads.
        heads: H.
        neurons: the LIF layer over 2 * qk_width currents.
        mode: see `stdp_attention`.
        chunk: tokens per matrix product.
    """

    def __init__(
        self, *, width: int, qk_width: int, heads: int, neurons: Neurons, mode: str = "chunk", chunk: int = 64
    ) -> None:
        super().__init__()
        self.heads, self.mode, self.chunk = heads, mode, chunk
        self.qk = nn.Linear(width, 2 * qk_width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.neurons = neurons
        nn.init.normal_(self.qk.weight, std=width**-0.5)
        shape = (heads, qk_width // heads)
        tau = torch.exp(torch.empty(2, *shape).uniform_(math.log(2.0), math.log(64.0)))
        self.window_logit = nn.Parameter(decay_logit(tau))
        inverse_softplus = [math.log(math.expm1(a)) for a in (1.0, 0.35)]
        self.amplitude = nn.Parameter(torch.tensor(inverse_softplus)[:, None, None].repeat(1, heads, 1))

    def window(self) -> STDPWindow:
        """The current STDP window; amplitudes start at the ratio of Bi & Poo 1998 (0.273 / 0.777)."""
        log = bounded_log_decay(self.window_logit)
        a = F.softplus(self.amplitude)
        return STDPWindow(log[0], log[1], a[0], a[1])

    def forward(
        self, x: Tensor, state: AttnState, context: Context, name: str
    ) -> tuple[Tensor, AttnState, Tensor]:
        """Output `[B, T, D]`, state, and the spikes of [q; k] `[B, T, 2*qk]`."""
        batch, steps, _ = x.shape
        fired = self.neurons(self.qk(x), state.lif, context, f"{name}.qk")
        q, k = fired.spikes.view(batch, steps, 2, self.heads, -1).unbind(2)
        v = self.value(x).view(batch, steps, self.heads, -1)
        effect, signal = context.effects, context.signal
        write = _product(effect.write, None if signal is None else signal.encode)
        before = FastWeights(state.S, state.z, state.ybar)
        if context.recorder is not None:
            self._record_weights(q, k, before, context, context.recorder, write, f"{name}.attention")
        out, fast = stdp_attention(
            q,
            k,
            v,
            before,
            self.window(),
            mode=self.mode,
            context=context,
            write=write,
            depression=effect.depression,
            chunk=self.chunk,
        )
        out = out.reshape(batch, steps, -1)
        read = _product(effect.readout, None if signal is None else signal.retrieve)
        out = self.out(out if read is None else out * read)
        return out, AttnState(LIFState(fired.state.u), fast.S, fast.z, fast.ybar), fired.spikes

    @torch.no_grad()
    def _record_weights(
        self,
        q: Tensor,
        k: Tensor,
        state: FastWeights,
        context: Context,
        recorder: SpikeRecorder,
        write: Tensor | None,
        name: str,
    ) -> None:
        """Compute the weights of the rows that are recorded, if they fit."""
        rows = slice(recorder.rows)
        q, k = q[rows], k[rows]
        if recorder.wants(name, q.shape[0] * q.shape[1] ** 2 * q.shape[2]):
            depression = context.effects.depression
            weights = attention_weights(
                q,
                k,
                FastWeights(*(part[rows] for part in state)),
                self.window(),
                context=first_rows(context, recorder.rows),
                write=None if write is None else write[rows],
                depression=None if depression is None else depression[rows],
            )
            recorder.keep(name, weights)


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
