"""The LIF neuron as one autograd.Function over the sequence; runs on any device, quickest on the CPU.

Of the window only h is saved: spikes, surrogate and membrane after the reset are recomputed from it, some
steps at a time, so that what is computed on the way stays in the cache: the memory bus is the bound. With
L the loss, psi the surrogate derivative at h - theta and g_u = alpha * g_h of the step after,

    g_h = dL/ds * psi + dL/dh + g_u                                 (detached reset)
    g_h = dL/ds * psi + dL/dh + g_u * (1 - theta * psi)             (otherwise)

and dL/dI = g_h.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from t4dm.plasticity.traces import step_decay
from t4dm.spiking.huge_pages import empty_window
from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import ATAN, Surrogate, heaviside

PIECE = 1 << 17  # floats of a temporary in the backward: half a megabyte, within a core's cache


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
        level = None if theta is None else theta.expand_as(h)
        steps = step_decay(decay, h, mask=mask, reset=reset)
        total = _membrane_grad(h, level, steps, mask, params, gs, gh, gu)
        grad_u0 = (steps[:, 0] if steps.dim() == 3 else steps) * total[:, 0]
        grad_decay = grad_theta = None
        if ctx.needs_input_grad[2]:
            grad_decay = _decay_grad(total, h, u0, level, mask, reset, params)
        if level is not None and ctx.needs_input_grad[3]:
            grad_theta = _threshold_grad(total, h, level, steps, mask, params, gs, gu)
            grad_theta = grad_theta.sum_to_size(theta.shape)
        return total, grad_u0, grad_decay, grad_theta, None, None, None


def _integrate(drive: Drive, params: LIFParams) -> tuple[Tensor, Tensor, Tensor]:
    current, theta, mask = drive.current, drive.theta, drive.mask
    h, s, u, steps = empty_window(current), empty_window(current), drive.u0.clone(), current.shape[1]
    decay = step_decay(drive.decay, current, mask=mask, reset=drive.reset)
    ins, hs, ss = current.unbind(1), h.unbind(1), s.unbind(1)
    a = decay.unbind(1) if decay.dim() == 3 else (decay,) * steps
    levels = None if theta is None else theta.expand_as(current).unbind(1)
    keep = None if mask is None else mask.to(current.dtype).unsqueeze(-1).unbind(1)
    binary = params.surrogate.spike is heaviside
    bar = torch.full_like(u, params.threshold)  # comparing with a tensor takes half the time of a number
    for t in range(steps):
        level: Any = bar if levels is None else levels[t]
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


def _pieces(h: Tensor) -> list[slice]:
    """Windows of time whose temporaries stay in the processor's cache."""
    size = max(1, PIECE * h.shape[1] // max(1, h.numel()))
    return [slice(start, min(start + size, h.shape[1])) for start in range(0, h.shape[1], size)]


def _above(h: Tensor, level: Tensor | None, part: slice, params: LIFParams) -> Tensor:
    """h - theta over some steps."""
    return h[:, part] - (params.threshold if level is None else level[:, part])


def _after_reset(
    h: Tensor, level: Tensor | None, part: slice, mask: Tensor | None, params: LIFParams
) -> Tensor:
    """u = h - theta * s over some steps, in memory of its own."""
    x, bar = h[:, part], h.new_tensor(params.threshold) if level is None else level[:, part]
    if params.surrogate.spike is heaviside:
        s = torch.ge(x, bar, out=torch.empty_like(x))
    else:
        s = params.surrogate.spike(x - bar)
    return torch.addcmul(x, bar, _on_valid(s, mask), value=-1.0)


def _weigh(grad: Tensor, above: Tensor, surrogate: Surrogate, *, out: Tensor) -> None:
    """grad * psi(above); overwrites `above`. ATan is two passes: 1 + (pi x)^2, and a division."""
    if surrogate is ATAN:
        one = above.new_ones(())
        torch.div(grad, torch.addcmul(one, above, above, value=math.pi**2, out=above), out=out)
    else:
        torch.mul(grad, surrogate.derivative(above), out=out)


def _membrane_grad(
    h: Tensor,
    level: Tensor | None,
    decay: Tensor,
    mask: Tensor | None,
    params: LIFParams,
    gs: Tensor | None,
    gh: Tensor | None,
    gu: Tensor | None,
) -> Tensor:
    """g_h of every step, from the last to the first: g_h_t += (du_t/dh_t) * alpha_{t+1} * g_h_{t+1}."""
    total, last = empty_window(h), h.shape[1] - 1
    grads = total.unbind(1)
    a = decay.unbind(1) if decay.dim() == 3 else (decay,) * (last + 1)
    for part in reversed(_pieces(h)):
        piece, above, through = total[:, part], _above(h, level, part, params), None
        valid = None if mask is None else mask[:, part]
        if not params.detach_reset:
            psi = _on_valid(params.surrogate.derivative(above), valid)
            through = (1.0 - (params.threshold if level is None else level[:, part]) * psi).unbind(1)
        if gs is None:
            piece.zero_()
        else:
            _weigh(gs[:, part], above, params.surrogate, out=piece)
            if valid is not None:
                piece.mul_(valid.unsqueeze(-1))
        if gh is not None:
            piece.add_(gh[:, part])
        for t in range(part.stop - 1, part.start - 1, -1):
            kept = None if through is None else through[t - part.start]
            if t < last:
                grads[t].addcmul_(a[t + 1] if kept is None else kept * a[t + 1], grads[t + 1])
            elif gu is not None:
                grads[t].add_(gu if kept is None else kept * gu)
    return total


def _decay_grad(
    total: Tensor,
    h: Tensor,
    u0: Tensor,
    level: Tensor | None,
    mask: Tensor | None,
    reset: Tensor | None,
    params: LIFParams,
) -> Tensor:
    """Sum of g_h_t * u_{t-1}. Padding has a decay of 1 and a document start one of 0, whatever alpha is."""
    found = torch.zeros_like(u0[0])
    for part in _pieces(h):
        earlier = slice(max(0, part.start - 1), part.stop - 1)
        u = _after_reset(h, level, earlier, None if mask is None else mask[:, earlier], params)
        if part.start == 0:
            u = torch.cat([u0.unsqueeze(1), u], dim=1)
        each = _on_valid(u.mul_(total[:, part]), None if mask is None else mask[:, part])
        if reset is not None:
            each = each * (~reset[:, part]).unsqueeze(-1)
        found += each.sum(dim=(0, 1))
    return found


def _threshold_grad(
    total: Tensor,
    h: Tensor,
    level: Tensor,
    decay: Tensor,
    mask: Tensor | None,
    params: LIFParams,
    gs: Tensor | None,
    gu: Tensor | None,
) -> Tensor:
    """The threshold acts twice: on the spike (through psi) and on the size of the reset (through s)."""
    psi = _on_valid(params.surrogate.derivative(h - level), mask)
    s = _on_valid(params.surrogate.spike(h - level), mask)
    after = decay[:, 1:] if decay.dim() == 3 else decay
    last = torch.zeros_like(total[:, :1]) if gu is None else gu.unsqueeze(1)
    grad_u = torch.cat([after * total[:, 1:], last], dim=1)
    on_spike = torch.zeros_like(total) if gs is None else gs
    if not params.detach_reset:
        on_spike = on_spike - level * grad_u
    return -on_spike * psi - s * grad_u
