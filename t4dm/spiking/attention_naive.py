"""Spike attention written out twice, as a loop over tokens and as a sum over all pairs: the references.

    k~_s = k_s (A+ - A- sum_{r<s} lambda-^(s-r) q_r)
    value_t = sum_{s<=t} v_s sum_i q_ti lambda+^(t-s) k~_si

Time is counted in valid tokens, so padding lets nothing pass; pairs reach over no document start. Nothing is
shared with the chunked form: traces and normaliser are summed here as well.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from t4dm.spiking.attention_params import FastWeights, Reading, STDPWindow, size
from t4dm.spiking.context import Context


def recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    context: Context,
    write: Tensor | None,
    depression: Tensor | None,
) -> Reading:
    """One token at a time; shapes and arguments of `stdp_attention`, q and k zero on padding."""
    S, z, ybar = state.S, state.z.view_as(q[:, 0]), state.ybar.view_as(q[:, 0])
    plus, minus = window.log_plus.exp(), window.log_minus.exp()
    values, evidence = [], []
    for t in range(q.shape[1]):
        if context.reset is not None:
            keep = ~context.reset[:, t, None, None]
            S, z, ybar = S * keep.unsqueeze(-1), z * keep, ybar * keep
        a_minus = window.a_minus if depression is None else window.a_minus * _at(depression, t)
        strength = window.a_plus - a_minus * minus * ybar
        key = k[:, t] * strength
        written = key if write is None else key * _at(write, t)
        now = (
            plus.unsqueeze(-1) * S + written.unsqueeze(-1) * v[:, t].unsqueeze(-2),
            plus * z + size(k[:, t]) * strength.abs(),
            minus * ybar + q[:, t],
        )
        if context.mask is None:
            S, z, ybar = now
        else:
            live = context.mask[:, t, None, None]
            S = torch.where(live.unsqueeze(-1), now[0], S)
            z, ybar = (torch.where(live, new, old) for new, old in zip(now[1:], (z, ybar), strict=True))
        values.append((q[:, t].unsqueeze(-2) @ S).squeeze(-2))
        evidence.append((size(q[:, t]) * z).sum(dim=-1, keepdim=True))
    return Reading(
        torch.stack(values, 1), torch.stack(evidence, 1), FastWeights(S, z.flatten(1), ybar.flatten(1))
    )


def quadratic(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: FastWeights,
    window: STDPWindow,
    *,
    context: Context,
    write: Tensor | None,
    depression: Tensor | None,
) -> Reading:
    """All pairs at once, memory T^2 H K: for small T; shapes and arguments of `stdp_attention`."""
    plus, minus = _pairs(window.log_plus, q, context), _pairs(window.log_minus, q, context)
    z, ybar = state.z.view_as(q[:, 0]).unsqueeze(1), state.ybar.view_as(q[:, 0]).unsqueeze(1)
    a_minus = window.a_minus if depression is None else window.a_minus * depression.unsqueeze(-1)
    earlier = plus.weight.new_ones(q.shape[1], q.shape[1]).tril(-1)[:, :, None, None]
    before = torch.einsum("bsrhk,brhk->bshk", minus.weight * earlier, q) + minus.alive * ybar
    factor = window.a_plus - a_minus * before
    keys = k * factor
    written = keys if write is None else keys * write.unsqueeze(-1)
    scores = torch.einsum("bthk,bshk,btshk->bhts", q, written, plus.weight)
    value = torch.einsum("bhts,bshv->bthv", scores, v)
    value = value + torch.einsum("bthk,bhkv->bthv", q * plus.alive, state.S)
    strength = torch.einsum("btshk,bshk->bthk", plus.weight, size(k) * factor.abs()) + plus.alive * z
    final = FastWeights(
        torch.einsum("bshk,bshk,bshv->bhkv", plus.weight[:, -1], written, v)
        + plus.alive[:, -1].unsqueeze(-1) * state.S,
        strength[:, -1].flatten(1),
        (torch.einsum("bshk,bshk->bhk", minus.weight[:, -1], q) + (minus.alive * ybar)[:, -1]).flatten(1),
    )
    return Reading(value, (size(q) * strength).sum(dim=-1, keepdim=True), final)


class _Pairs(NamedTuple):
    """`weight` `[B, T, T, H, K]` of every pair, `alive` `[B, T, H, K]` what is left of the first state."""

    weight: Tensor
    alive: Tensor


def _pairs(log_decay: Tensor, like: Tensor, context: Context) -> _Pairs:
    ticks = torch.ones_like(like[:, :, 0, 0]) if context.mask is None else context.mask.to(like.dtype)
    position = ticks.cumsum(dim=1)
    segment = torch.zeros_like(position) if context.segment is None else context.segment
    pairs = (segment[:, :, None] == segment[:, None, :]).tril()
    gap = (position[:, :, None] - position[:, None, :]).clamp(min=0.0)
    weight = torch.exp(gap[..., None, None] * log_decay) * pairs[..., None, None]
    alive = torch.exp(position[:, :, None, None] * log_decay) * (segment == 0)[:, :, None, None]
    return _Pairs(weight, alive)


def _at(factor: Tensor, t: int) -> Tensor:
    """A factor `[B or 1, T or 1, 1]` at token t, `[B or 1, 1, 1]`."""
    return factor[:, min(t, factor.shape[1] - 1)].unsqueeze(-1)
