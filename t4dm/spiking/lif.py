"""Leaky integrate-and-fire neurons with soft reset, scanned over tokens.

    h_t = alpha * u_{t-1} + I_t        s_t = H(h_t - theta)        u_t = h_t - theta * s_t

This is the RMP neuron (Han, Srinivasan & Roy, CVPR 2020). In pre-reset form it reads
h_t = alpha * h_{t-1} + I_t - alpha * theta * s_{t-1}: the reset inside the leak is alpha * theta, not theta.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from t4dm.errors import UnknownBackendError
from t4dm.plasticity.traces import step_decay
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import ATAN, Surrogate, heaviside, spike

BACKENDS = {
    "cpu": "one autograd.Function over the sequence; saves only h, hand-written backward; runs on any device",
    "naive": "a plain loop recorded by autograd; the reference that the other one is tested against",
}


class LIFParams(NamedTuple):
    """Neuron parameters: `decay` `[D]` in (0, 1) is alpha = exp(-dt/tau); `threshold` is theta."""

    decay: Tensor
    threshold: float = 1.0
    surrogate: Surrogate = ATAN
    detach_reset: bool = True


class LIFTrajectory(NamedTuple):
    """Spikes and pre-reset membrane h at every step `[B, T, D]`, and the state after the last."""

    spikes: Tensor
    membrane: Tensor
    state: LIFState


def explain_backends() -> dict[str, str]:
    """Which LIF backends this build has, what each is, and which one `auto` takes."""
    return {**BACKENDS, "auto": "cpu"}


def lif_scan(
    current: Tensor,
    state: LIFState | None,
    params: LIFParams,
    *,
    gain: Tensor | float | None = None,
    threshold_shift: Tensor | None = None,
    reset: Tensor | None = None,
    mask: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, LIFState]:
    """Spikes of a layer of LIF neurons: `lif_trajectory` without the membrane, same arguments and errors."""
    out = lif_trajectory(
        current,
        state,
        params,
        gain=gain,
        threshold_shift=threshold_shift,
        reset=reset,
        mask=mask,
        backend=backend,
    )
    return out.spikes, out.state


def lif_trajectory(
    current: Tensor,
    state: LIFState | None,
    params: LIFParams,
    *,
    gain: Tensor | float | None = None,
    threshold_shift: Tensor | None = None,
    reset: Tensor | None = None,
    mask: Tensor | None = None,
    backend: str = "auto",
) -> LIFTrajectory:
    """Integrate a current over time.

    Args:
        current: I `[B, T, D]`; half precision is integrated in fp32.
        state: the membrane before the first step; zeros when None.
        params: decay, threshold, surrogate.
        gain: multiplies the current; broadcasts to `[B, T, D]`.
        threshold_shift: added to the threshold; broadcasts to `[B, T, D]`.
        reset: bool `[B, T]`, True where a document starts: the membrane is zeroed before that token.
        mask: bool `[B, T]`, False on padding: the membrane is frozen there and nothing fires.
        backend: one of `explain_backends()`.

    Returns:
        Spikes (0/1) and membrane h `[B, T, D]`, and the state after the last step, at least fp32.

    Raises:
        UnknownBackendError: no such backend.
    """
    if backend not in ("auto", *BACKENDS):
        raise UnknownBackendError("LIF", backend, ["auto", *BACKENDS])
    if current.dtype in (torch.bfloat16, torch.float16):
        current = current.float()
    if gain is not None:
        current = current * gain
    if mask is not None:
        current = current * mask.unsqueeze(-1)
    decay = step_decay(params.decay.to(current.dtype), current, mask=mask, reset=reset)
    u = current.new_zeros(current.shape[0], current.shape[2]) if state is None else state.u.to(current.dtype)
    theta = None if threshold_shift is None else params.threshold + threshold_shift.to(current.dtype)
    if backend == "naive":
        return _naive(current, u, decay, theta, mask, params)
    out = _LIFScan.apply(current, u, decay, theta, mask, params)  # type: ignore[no-untyped-call]
    spikes, membrane, last = out
    return LIFTrajectory(spikes, membrane, LIFState(last))


def _naive(
    current: Tensor, u: Tensor, decay: Tensor, theta: Tensor | None, mask: Tensor | None, params: LIFParams
) -> LIFTrajectory:
    spikes, membrane = [], []
    for t in range(current.shape[1]):
        level: Any = params.threshold if theta is None else theta.expand_as(current)[:, t]
        h = (decay[:, t] if decay.dim() == 3 else decay) * u + current[:, t]
        s = spike(h - level, params.surrogate)
        if mask is not None:
            s = s * mask[:, t, None]
        u = h - level * (s.detach() if params.detach_reset else s)
        spikes.append(s)
        membrane.append(h)
    return LIFTrajectory(torch.stack(spikes, 1), torch.stack(membrane, 1), LIFState(u))


class _LIFScan(torch.autograd.Function):
    """Three in-place ops per step forward, one backward; keeps h alone and recomputes spikes from it."""

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        u0: Tensor,
        decay: Tensor,
        theta: Tensor | None,
        mask: Tensor | None,
        params: LIFParams,
    ) -> tuple[Tensor, Tensor, Tensor]:
        h = torch.empty_like(current, memory_format=torch.contiguous_format)
        s = torch.empty_like(h)
        u = u0.clone()
        steps = current.shape[1]
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
        ctx.save_for_backward(h, u0, decay, theta, mask)
        ctx.params = params
        ctx.set_materialize_grads(False)
        return s, h, u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gs: Tensor | None, gh: Tensor | None, gu: Tensor | None) -> tuple[Any, ...]:
        h, u0, decay, theta, mask = ctx.saved_tensors
        params: LIFParams = ctx.params
        level = params.threshold if theta is None else theta
        x = h - level
        psi = params.surrogate.derivative(x)
        if mask is not None:
            psi = psi * mask.unsqueeze(-1)
        total = torch.zeros_like(h) if gs is None else gs * psi
        if gh is not None:
            total = total + gh
        through = None if params.detach_reset else 1.0 - level * psi
        _accumulate(total, decay, through, gu)
        first = decay[:, 0] if decay.dim() == 3 else decay
        grad_u0 = first * total[:, 0]
        grad_decay = grad_theta = None
        if ctx.needs_input_grad[2] or (theta is not None and ctx.needs_input_grad[3]):
            s = params.surrogate.spike(x)
            if mask is not None:
                s = s * mask.unsqueeze(-1)
            if ctx.needs_input_grad[2]:
                before = torch.cat([u0.unsqueeze(1), (h - level * s)[:, :-1]], dim=1)
                grad_decay = total * before
                if decay.dim() != 3:
                    grad_decay = grad_decay.sum(dim=(0, 1))
            if theta is not None and ctx.needs_input_grad[3]:
                grad_theta = _threshold_grad(total, decay, psi, s, level, gs, gu, params.detach_reset)
                grad_theta = grad_theta.sum_to_size(theta.shape)
        return total, grad_u0, grad_decay, grad_theta, None, None


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
