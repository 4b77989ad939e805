"""Leaky integrate-and-fire neurons with soft reset, scanned over tokens.

    h_t = alpha * u_{t-1} + I_t        s_t = H(h_t - theta)        u_t = h_t - theta * s_t

This is the RMP neuron (Han, Srinivasan & Roy, CVPR 2020). In pre-reset form it reads
h_t = alpha * h_{t-1} + I_t - alpha * theta * s_{t-1}: the reset inside the leak is alpha * theta, not theta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t4dm.spiking.lif_backends import backend as backend_named
from t4dm.spiking.lif_backends import choose, explain_backends
from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.state import LIFState

__all__ = ["LIFParams", "LIFState", "LIFTrajectory", "explain_backends", "lif_scan", "lif_trajectory"]


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
        MissingBackendError: the backend asked for by name cannot run here; only `auto` chooses another.
    """
    run = backend_named(choose(backend, current.device, params.surrogate))
    return run(_drive(current, state, params, gain, threshold_shift, reset, mask), params)


def _drive(
    current: Tensor,
    state: LIFState | None,
    params: LIFParams,
    gain: Tensor | float | None,
    threshold_shift: Tensor | None,
    reset: Tensor | None,
    mask: Tensor | None,
) -> Drive:
    if current.dtype in (torch.bfloat16, torch.float16):
        current = current.float()
    if mask is not None:
        # filled, not multiplied by 0: whatever the padding holds, inf and nan too, must not get in
        current = current.masked_fill(~mask.unsqueeze(-1), 0.0)
    if gain is not None:
        current = current * gain
    u = current.new_zeros(current.shape[0], current.shape[2]) if state is None else state.u.to(current.dtype)
    decay = params.decay.to(current.dtype).expand(current.shape[2])
    theta = None if threshold_shift is None else params.threshold + threshold_shift.to(current.dtype)
    return Drive(current, u, decay, theta, mask, reset)
