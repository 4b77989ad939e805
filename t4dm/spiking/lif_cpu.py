"""The LIF neuron as one autograd.Function over the sequence; runs on any device, quickest on the CPU.

Of the window only h is saved: spikes, surrogate and membrane after the reset are recomputed from it. With
L the loss, psi the surrogate derivative at h - theta and g_u = alpha * g_h of the step after,

    g_h = dL/ds * psi + dL/dh + g_u                                 (detached reset)
    g_h = dL/ds * psi + dL/dh + g_u * (1 - theta * psi)             (otherwise)

and dL/dI = g_h.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from t4dm.plasticity.traces import step_decay
from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import heaviside


def run(drive: Drive, params: LIFParams) -> LIFTrajectory:
    """Integrate in place, three operations per step."""
    spikes, membrane, last = _LIFScan.apply(*drive, params)  # type: ignore[no-untyped-call]
    return LIFTrajectory(spikes, membrane, LIFState(last))


class _LIFScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        u0: Tensor,
        decay: Tensor,
        theta: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
        params: LIFParams,
    ) -> tuple[Tensor, Tensor, Tensor]:
        s, h, u = _integrate(Drive(current, u0, decay, theta, mask, reset), params)
        ctx.save_for_backward(h, u0, decay, theta, mask, reset)
        ctx.params = params
        ctx.set_materialize_grads(False)
        return s, h, u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gs: Tensor | None, gh: Tensor | None, gu: Tensor | None) -> tuple[Any, ...]:
        h, u0, decay, theta, mask, reset = ctx.saved_tensors
        params: LIFParams = ctx.params
        wants_decay, wants_theta = ctx.needs_input_grad[2], theta is not None and ctx.needs_input_grad[3]
        level = params.threshold if theta is None else theta
        steps = step_decay(decay, h, mask=mask, reset=reset)
        psi = _on_valid(params.surrogate.derivative(h - level), mask)
        total = torch.zeros_like(h) if gs is None else gs * psi
        if gh is not None:
            total = total + gh
        through = None if params.detach_reset else 1.0 - level * psi
        _accumulate(total, steps, through, gu)
        grad_u0 = (steps[:, 0] if steps.dim() == 3 else steps) * total[:, 0]
        grad_decay = grad_theta = None
        if wants_decay or wants_theta:
            s = _on_valid(params.surrogate.spike(h - level), mask)
            if wants_decay:
                before = torch.cat([u0.unsqueeze(1), (h - level * s)[:, :-1]], dim=1)
                grad_decay = _decay_grad(total * before, mask, reset)
            if wants_theta:
                grad_theta = _threshold_grad(total, steps, psi, s, level, gs, gu, params.detach_reset)
                grad_theta = grad_theta.sum_to_size(theta.shape)
        return total, grad_u0, grad_decay, grad_theta, None, None, None


def _integrate(drive: Drive, params: LIFParams) -> tuple[Tensor, Tensor, Tensor]:
    current, theta, mask = drive.current, drive.theta, drive.mask
    h = torch.empty_like(current, memory_format=torch.contiguous_format)
    s, u, steps = torch.empty_like(h), drive.u0.clone(), current.shape[1]
    decay = step_decay(drive.decay, current, mask=mask, reset=drive.reset)
    ins, hs, ss = current.unbind(1), h.unbind(1), s.unbind(1)
    a = decay.unbind(1) if decay.dim() == 3 else (decay,) * steps
    levels = None if theta is None else theta.expand_as(current).unbind(1)
    keep = None if mask is None else mask.to(current.dtype).unsqueeze(-1).unbind(1)
    binary = params.surrogate.spike is heaviside
    for t in range(steps):
        level: Any = params.threshold if levels is None else levels[t]
        torch.addcmul(ins[t], a[t], u, out=hs[t])
        if binary:
            torch.ge(hs[t], level, out=ss[t])
        else:
            ss[t].copy_(params.surrogate.spike(hs[t] - level))
        if keep is not None:
            ss[t].mul_(keep[t])
        if levels is None:
            torch.sub(hs[t], ss[t], alpha=params.threshold, out=u)
        else:
            torch.addcmul(hs[t], level, ss[t], value=-1.0, out=u)
    return s, h, u


def _on_valid(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.unsqueeze(-1)


def _accumulate(total: Tensor, decay: Tensor, through: Tensor | None, gu: Tensor | None) -> None:
    """total_t += (du_t/dh_t) * alpha_{t+1} * total_{t+1}, in place from the last step to the first."""
    steps = total.shape[1]
    gs = total.unbind(1)
    if gu is not None:
        gs[-1].add_(gu if through is None else through[:, -1] * gu)
    if through is None:
        a = decay.unbind(1) if decay.dim() == 3 else (decay,) * steps
        carry = a[1:]
    else:
        after = decay[:, 1:] if decay.dim() == 3 else decay
        carry = (through[:, :-1] * after).unbind(1)
    for t in range(steps - 2, -1, -1):
        gs[t].addcmul_(carry[t], gs[t + 1])


def _decay_grad(each: Tensor, mask: Tensor | None, reset: Tensor | None) -> Tensor:
    """Padding has a decay of 1 and a document start one of 0, whatever alpha is."""
    each = _on_valid(each, mask)
    if reset is not None:
        each = each * (~reset).unsqueeze(-1)
    return each.sum(dim=(0, 1))


def _threshold_grad(
    total: Tensor,
    decay: Tensor,
    psi: Tensor,
    s: Tensor,
    level: Any,
    gs: Tensor | None,
    gu: Tensor | None,
    detach_reset: bool,
) -> Tensor:
    """The threshold acts twice: on the spike (through psi) and on the size of the reset (through s)."""
    after = decay[:, 1:] if decay.dim() == 3 else decay
    last = torch.zeros_like(total[:, :1]) if gu is None else gu.unsqueeze(1)
    grad_u = torch.cat([after * total[:, 1:], last], dim=1)
    on_spike = torch.zeros_like(total) if gs is None else gs
    if not detach_reset:
        on_spike = on_spike - level * grad_u
    return -on_spike * psi - s * grad_u
