"""States and settings of the stack: NamedTuples of tensors that go in and come out; modules hold none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


class LIFState(NamedTuple):
    """Membrane after the reset: `u` `[B, D]`, in units of the threshold."""

    u: Tensor


class FirstSpikeState(NamedTuple):
    """Valid tokens since the document's start `[B]`, and who has fired in the cycle at hand, 0/1 `[B, C]`."""

    clock: Tensor
    fired: Tensor


class AttnState(NamedTuple):
    """Spike attention: membranes of [q; k], fast weights `S` `[B, H, K, V]`, normaliser `z` and query trace
    `ybar` `[B, H*K]`; `first` is empty unless first spikes are counted."""

    lif: LIFState
    S: Tensor
    z: Tensor
    ybar: Tensor
    first: FirstSpikeState | tuple[()] = ()


class ApicalState(NamedTuple):
    """Two-compartment stage: membranes `[B, 2P]`, calcium `[B, P]`, the previous token's stream `[B, D]`."""

    lif: LIFState
    ca: Tensor
    x: Tensor


class RwkvState(NamedTuple):
    """RWKV: matrix state `S` `[B, H, K, V]` and the previous token of time mix and channel mix `[B, D]`."""

    S: Tensor
    x_tm: Tensor
    x_cm: Tensor


class BlockState(NamedTuple):
    """All that one block carries from token to token; `rate` `[B, D]` is the trace that goodness reads."""

    lif: LIFState
    attn: AttnState
    apical: ApicalState
    rwkv: RwkvState
    out: LIFState
    rate: Tensor


class StackState(NamedTuple):
    """The blocks' states and the oscillators' phase clock `[B]` (valid tokens since the document's start)."""

    blocks: tuple[BlockState, ...]
    clock: Tensor


class BlockAux(NamedTuple):
    """Cheap reductions of one block: rate `[D]`, stage_rate `[4]`, goodness and prediction_error `[B, T]`,
    capsules `[B, T, C]`."""

    rate: Tensor
    stage_rate: Tensor
    goodness: Tensor
    prediction_error: Tensor
    capsules: Tensor


class StackAux(NamedTuple):
    """The blocks' reductions stacked: rate `[L, D]`, stage_rate `[L, 4]`, goodness and prediction_error
    `[L, B, T]`, capsules `[L, B, T, C]`.

    `rate` is the mean firing rate of the output neurons (stage 6) over valid tokens; `stage_rate` the mean
    of stages 2, 3, 4 and 6. `goodness` is the mean squared rate trace in units of the target rate.
    """

    rate: Tensor
    stage_rate: Tensor
    goodness: Tensor
    prediction_error: Tensor
    capsules: Tensor


class StackOutput(NamedTuple):
    """What a stack returns: the stream `h` `[B, T, D]`, the state after the last token, the reductions."""

    h: Tensor
    state: StackState
    aux: StackAux


def map_state(function: Callable[[Tensor], Tensor], state: S) -> S:
    """Apply `function` to every tensor of a nested state and rebuild the same types."""
    if isinstance(state, Tensor):
        return function(state)  # type: ignore[return-value]
    mapped = [map_state(function, part) for part in state]  # type: ignore[attr-defined]
    kind: Any = type(state)
    rebuilt: S = kind(*mapped) if hasattr(kind, "_fields") else kind(mapped)
    return rebuilt


def detach_state(state: S) -> S:
    """Cut the graph at a chunk border (truncated backpropagation through time)."""
    return map_state(torch.Tensor.detach, state)


def reset_state(state: S, rows: Sequence[int] | Tensor) -> S:
    """A copy of the state with the given batch rows zeroed; the others keep their values and graph."""

    def zero(tensor: Tensor) -> Tensor:
        keep = torch.ones(tensor.shape[0], dtype=torch.bool, device=tensor.device)
        keep[torch.as_tensor(rows, device=tensor.device)] = False
        shape = (-1,) + (1,) * (tensor.dim() - 1)
        return torch.where(keep.view(shape), tensor, tensor.new_zeros(()))

    return map_state(zero, state)


def state_bytes(state: Any) -> int:
    """Size of all tensors of a state in bytes."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(state_bytes(part) for part in state)
