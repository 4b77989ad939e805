"""The leaky trace that every rule is built from: y_t = a_t * y_{t-1} + x_t, with a hand-written backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _LinearScan(torch.autograd.Function):
    """One fused multiply-add per step forward and backward; autograd would record T nodes instead."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, initial: Tensor) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        xs, ys = x.unbind(1), y.unbind(1)
        a = decay.unbind(1) if decay.dim() == x.dim() else (decay,) * x.shape[1]
        carry = initial
        for t in range(x.shape[1]):
            torch.addcmul(xs[t], a[t], carry, out=ys[t])
            carry = ys[t]
        ctx.save_for_backward(y, decay, initial)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        y, decay, initial = ctx.saved_tensors
        steps = y.shape[1]
        total = grad.clone(memory_format=torch.contiguous_format)
        gs = total.unbind(1)
        a = decay.unbind(1) if decay.dim() == y.dim() else (decay,) * steps
        for t in range(steps - 2, -1, -1):
            gs[t].addcmul_(a[t + 1], gs[t + 1])
        grad_decay = None
        if ctx.needs_input_grad[1]:
            before = torch.cat([initial.unsqueeze(1), y[:, :-1]], dim=1)
            grad_decay = total * before
            if decay.dim() != y.dim():
                grad_decay = grad_decay.sum(dim=(0, 1))
        return total, grad_decay, a[0] * gs[0]


def linear_scan(
    x: Tensor,
    decay: Tensor,
    initial: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run y_t = a_t * y_{t-1} + x_t over time, exactly and at any length.

    Args:
        x: input `[B, T, D]`.
        decay: `[D]`, or `[B, T, D]` for a decay of its own at every step.
        initial: y before the first step, `[B, D]`; zeros when missing.
        mask: bool `[B, T]`; where False the trace is frozen (no decay, no input).
        reset: bool `[B, T]`; where True the trace is zeroed before that step.

    Returns:
        The trace after every step `[B, T, D]`, and after the last one `[B, D]`.
    """
    if initial is None:
        initial = x.new_zeros(x.shape[0], x.shape[2])
    decay = step_decay(decay.to(x.dtype), x, mask=mask, reset=reset)
    if mask is not None:
        x = x * mask.unsqueeze(-1)
    y: Tensor = _LinearScan.apply(x, decay, initial.to(x.dtype))  # type: ignore[no-untyped-call]
    return y, y[:, -1]


def step_decay(decay: Tensor, like: Tensor, *, mask: Tensor | None, reset: Tensor | None) -> Tensor:
    """The decay of each step: 1 on padding (frozen), 0 on a reset (forgotten), `decay` elsewhere.

    Args:
        decay: `[D]` or `[B, T, D]`.
        like: a tensor `[B, T, D]` that gives the shape.
        mask: bool `[B, T]`, False on padding.
        reset: bool `[B, T]`, True at the first token of a document.

    Returns:
        `decay` itself where there is neither mask nor reset, otherwise `[B, T, D]`.
    """
    if mask is not None:
        decay = torch.where(mask.unsqueeze(-1), decay, decay.new_ones(()))
    if reset is not None:
        decay = decay * (~reset).unsqueeze(-1).to(decay.dtype)
    if (mask is not None or reset is not None) and decay.shape != like.shape:
        decay = decay.expand(like.shape)
    return decay
