"""The Triton chunk kernels of flash-linear-attention (Yang & Zhang) behind the conventions of this wing.

Theirs: `[B, T, H, K]`, queries times K^-1/2 unless `scale` says otherwise (here 1), ln of the decay, state
`[N, H, K, V]` in fp32. Padding needs nothing of them: a zero key with a zero log decay leaves the state as it
is. Documents do: all rows go in as one of variable-length sequences, cut at every row and document start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, Tensor]]


class Documents(NamedTuple):
    """The sequences in `[B * T]` tokens: `bounds` `[N + 1]`, the `first` and `last` one of each row `[B]`,
    and bool `fresh` `[B]` where the first one does not go on with the row's state."""

    bounds: Tensor
    first: Tensor
    last: Tensor
    fresh: Tensor


def documents(reset: Tensor) -> Documents:
    """Cut rows at their document starts; `reset` bool `[B, T]`."""
    batch, steps = reset.shape
    starts = reset.clone()
    starts[:, 0] = True
    bounds = torch.nn.functional.pad(starts.flatten().nonzero().flatten(), (0, 1), value=batch * steps)
    count = starts.sum(dim=1).cumsum(dim=0)
    first = torch.cat([count.new_zeros(1), count[:-1]])
    return Documents(bounds, first, count - 1, reset[:, 0])


def gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    state: Tensor,
    *,
    reset: Tensor | None = None,
    kernel: Kernel | None = None,
) -> tuple[Tensor, Tensor]:
    """S_t = diag(w_t) S_{t-1} + k_t v_t^T, o_t = q_t S_t.

    Args:
        q, k, log_decay: `[B, T, H, K]`.
        v: `[B, T, H, V]`.
        state: `[B, H, K, V]`.
        reset: bool `[B, T]`, document starts.
        kernel: anything with the signature of `fla.ops.gla.chunk_gla`, which is the default.

    Returns:
        o `[B, T, H, V]` and the state after the last token, fp32.
    """
    if kernel is None:
        from fla.ops.gla import chunk_gla

        kernel = chunk_gla
    return _run(kernel, {"q": q, "k": k, "v": v, "g": log_decay}, {}, state, reset)


def rwkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    bonus: Tensor,
    state: Tensor,
    *,
    reset: Tensor | None = None,
    kernel: Kernel | None = None,
) -> tuple[Tensor, Tensor]:
    """o_t = r_t (S_{t-1} + diag(u) k_t v_t^T), with the state of `gla`.

    Args:
        r, k, log_decay: `[B, T, H, K]`.
        v: `[B, T, H, V]`.
        bonus: u `[H, K]`.
        state: `[B, H, K, V]`.
        reset: bool `[B, T]`, document starts.
        kernel: anything with the signature of `fla.ops.rwkv6.chunk_rwkv6`, which is the default.

    Returns:
        o `[B, T, H, V]` and the state after the last token, fp32.
    """
    if kernel is None:
        from fla.ops.rwkv6 import chunk_rwkv6

        kernel = chunk_rwkv6
    return _run(kernel, {"r": r, "k": k, "v": v, "w": log_decay}, {"u": bonus}, state, reset)


def _run(
    kernel: Kernel, tokens: dict[str, Tensor], others: dict[str, Any], state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    state = state.float()
    if reset is None:
        tokens = {name: x.contiguous() for name, x in tokens.items()}
        return kernel(**tokens, **others, scale=1.0, initial_state=state, output_final_state=True)
    cut = documents(reset)
    carried = torch.where(cut.fresh[:, None, None, None], 0.0, state)
    initial = carried.new_zeros(cut.bounds.shape[0] - 1, *state.shape[1:]).index_copy(0, cut.first, carried)
    flat = {name: x.flatten(0, 1).unsqueeze(0).contiguous() for name, x in tokens.items()}
    out, final = kernel(
        **flat, **others, scale=1.0, initial_state=initial, output_final_state=True, cu_seqlens=cut.bounds
    )
    return out.squeeze(0).unflatten(0, reset.shape), final.index_select(0, cut.last)
