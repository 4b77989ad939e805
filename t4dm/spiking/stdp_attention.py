"""Attention between spikes, weighted by spike-timing-dependent plasticity, in linear time.

A key that precedes a query is potentiated (A+, lambda+), a key that follows one is depressed (A-, lambda-).
Per head and key channel i, with everything on the token clock:

    ybar_t = lambda- * (ybar_{t-1} + q_{t-1})            ktilde_t = k_t * (A+ - A- * ybar_t)
    S_t = diag(lambda+) S_{t-1} + ktilde_t v_t^T          z_t = lambda+ * z_{t-1} + |ktilde_t|
    o_t = q_t S_t / (eps + q_t . z_t)

which equals the quadratic sum over pairs of spikes exactly. These are fast weights: no parameter changes
here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from t4dm.plasticity.traces import linear_scan
from t4dm.spiking import attention_naive, fla_kernels
from t4dm.spiking.attention_backends import choose
from t4dm.spiking.attention_params import FastWeights, Reading, STDPWindow, size
from t4dm.spiking.context import PLAIN, Context
from t4dm.spiking.lif import LIFParams, lif_trajectory
from t4dm.spiking.linear_attention import chunk_attention, widened
from t4dm.spiking.state import LIFState

REFERENCES: dict[str, Callable[..., Reading]] = {
    "recurrent": attention_naive.recurrent,
    "quadratic": attention_naive.quadratic,
}
BLOCKED = 1e30
"""A threshold that nothing reaches: a neuron behind it is a leaky trace."""


def stdp_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    mode: str = "auto",
    context: Context = PLAIN,
    write: Tensor | None = None,
    depression: Tensor | None = None,
    epsilon: float = 1.0,
    chunk: int = 64,
) -> tuple[Tensor, FastWeights]:
    """Attend with spikes.

    Args:
        q, k: spikes `[B, T, H, K]`.
        v: values `[B, T, H, V]`; half precision is computed in fp32.
        state: fast weights before the first token.
        window: the STDP window.
        mode: `"auto"`, `"chunk"`, `"recurrent"`, `"quadratic"` or `"fla"`; see `explain_attention_backends`.
        context: padding and document starts.
        write: factor on what is written to S, `[B or 1, T or 1, 1]`.
        depression: factor on A-, same shape.
        epsilon: floor of the normaliser. A silent query has normaliser epsilon, so 1/epsilon bounds its
            gradient.
        chunk: tokens per matrix product, at most 64.

    Returns:
        Output `[B, T, H, V]` and the fast weights after the last token.

    Raises:
        UnknownBackendError: no such mode.
        MissingBackendError: the mode asked for by name cannot run here; only `auto` chooses another.
        SettingError: a chunk too long for fp32.
    """
    name, dtype = choose("spike attention", mode, q.device), v.dtype
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = (widened(x) for x in (q, k, v))
        if context.mask is not None:
            keep = context.mask[:, :, None, None].to(k.dtype)
            q, k = q * keep, k * keep
        form = REFERENCES.get(name) or partial(_factored, name=name, chunk=chunk, dtype=dtype)
        read = form(q, k, v, state, window, context=context, write=write, depression=depression)
        out = read.value / (epsilon + read.evidence)
    return out.to(dtype), read.fast


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
    read = stdp_attention(
        q, k, unit, empty, window, mode="chunk", context=context, write=write, depression=depression
    )
    return read[0]


def _factored(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    context: Context,
    write: Tensor | None,
    depression: Tensor | None,
    name: str,
    chunk: int,
    dtype: torch.dtype,
) -> Reading:
    """Depress the keys, which is elementwise, then attend with one decay per head and channel."""
    trace, ybar = _trace(q, window.log_minus, state.ybar, context)
    before = torch.cat([state.ybar.to(trace.dtype).view_as(q[:, :1]), trace[:, :-1]], dim=1)
    if context.reset is not None:
        before = before * (~context.reset)[:, :, None, None]
    a_minus = window.a_minus if depression is None else window.a_minus * depression.unsqueeze(-1)
    strength = window.a_plus - a_minus * (window.log_minus.exp() * before)
    evidence, z = _trace(size(k) * strength.abs(), window.log_plus, state.z, context)
    keys = k * strength
    written = keys if write is None else keys * write.unsqueeze(-1)
    if name == "fla":
        log = _step_log_decay(window.log_plus, context).expand_as(q)
        queries, writes, v = (x.to(dtype) for x in (q, written, v))
        value, S = fla_kernels.gla(queries, writes, v, log, state.S, reset=context.reset)
    else:
        log = _step_log_decay(window.log_plus, context).transpose(1, 2)
        queries, writes, v = (x.transpose(1, 2) for x in (q, written, v))
        value, S = chunk_attention(queries, writes, v, log, state.S, segment=context.segment, chunk=chunk)
        value = value.transpose(1, 2)
    # spikes are 0 or 1; their size keeps the normaliser positive for the graded twin too
    return Reading(value, (size(q) * evidence).sum(dim=-1, keepdim=True), FastWeights(S, z, ybar))


def _step_log_decay(log_plus: Tensor, context: Context) -> Tensor:
    """`[1, 1, H, K]`, or `[B, T, H, K]` with zeros on padding."""
    log = log_plus[None, None]
    return log if context.mask is None else log * context.mask[:, :, None, None]


def _trace(x: Tensor, log_decay: Tensor, initial: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """y_t = lambda y_{t-1} + x_t `[B, T, H, K]` and the last y `[B, H*K]`.

    On a GPU by the fused kernel of the neurons instead of a kernel launch per token.
    """
    flat, decay = x.flatten(2), log_decay.exp().flatten()
    if x.device.type == "cuda":
        leak = LIFParams(decay, BLOCKED)
        out = lif_trajectory(flat, LIFState(initial), leak, mask=context.mask, reset=context.reset)
        return out.membrane.view_as(x), out.state.u
    y, last = linear_scan(flat, decay, initial, mask=context.mask, reset=context.reset)
    return y.view_as(x), last
