"""Plain loops over time that autograd records: what others' answers are compared with, and the slow peers.

They take their slices by `unbind`. Indexing inside the loop (`x[:, t]`) makes the backward quadratic in T,
because each index returns a gradient of the whole window: a peer nobody has to lose against.
"""

from __future__ import annotations

import torch
from torch import Tensor

from t4dm.spiking.surrogate import Surrogate, spike


def lif_loop(current: Tensor, alpha: Tensor, theta: float, surrogate: Surrogate, *, detach: bool) -> Tensor:
    """Spikes `[B, T, D]` of h_t = alpha u_{t-1} + I_t, s = H(h - theta), u = h - theta s."""
    u, spikes = torch.zeros_like(current[:, 0]), []
    for step in current.unbind(1):
        h = alpha * u + step
        s = spike(h - theta, surrogate)
        u = h - theta * (s.detach() if detach else s)
        spikes.append(s)
    return torch.stack(spikes, 1)


def indexing_loop(current: Tensor, alpha: Tensor, theta: float, surrogate: Surrogate) -> Tensor:
    """The same neuron, reset detached, as it is often written: quadratic in T backward."""
    u, spikes = torch.zeros_like(current[:, 0]), []
    for t in range(current.shape[1]):
        h = alpha * u + current[:, t]
        s = spike(h - theta, surrogate)
        u = h - theta * s.detach()
        spikes.append(s)
    return torch.stack(spikes, 1)


def delayed_loop(current: Tensor, alpha: Tensor, theta: float, surrogate: Surrogate) -> Tensor:
    """Spikes of h_t = alpha h_{t-1} + I_t - theta s_{t-1}, reset detached: snnTorch's neuron, not ours."""
    h, spikes = torch.zeros_like(current[:, 0]), []
    s = torch.zeros_like(h)
    for step in current.unbind(1):
        h = alpha * h + step - theta * s.detach()
        s = spike(h - theta, surrogate)
        spikes.append(s)
    return torch.stack(spikes, 1)


def attention_loop(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """o_t = q_t S_t, S_t = diag(w_t) S_{t-1} + k_t v_t^T; q, k, log decay `[B, H, T, K]`, v `[.., V]`."""
    state, out = _no_state(k, v), []
    for qt, kt, vt, decay in zip(*(x.unbind(2) for x in (q, k, v, log_decay.exp())), strict=True):
        state = decay.unsqueeze(-1) * state + kt.unsqueeze(-1) * vt.unsqueeze(-2)
        out.append((qt.unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(out, 2)


def rwkv_loop(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor) -> Tensor:
    """o_t = r_t (S_{t-1} + diag(u) k_t v_t^T), the state as above; shapes as above, bonus `[H, K]`."""
    state, out = _no_state(k, v), []
    for rt, kt, vt, decay in zip(*(x.unbind(2) for x in (r, k, v, log_decay.exp())), strict=True):
        new = kt.unsqueeze(-1) * vt.unsqueeze(-2)
        out.append((rt.unsqueeze(-2) @ (state + bonus.unsqueeze(-1) * new)).squeeze(-2))
        state = decay.unsqueeze(-1) * state + new
    return torch.stack(out, 2)


def _no_state(k: Tensor, v: Tensor) -> Tensor:
    return k.new_zeros(*k.shape[:2], k.shape[3], v.shape[3])
