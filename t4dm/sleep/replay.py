"""Replay: stored vectors run through the cortical stack, and the spikes they evoke change edges by STDP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t4dm.plasticity.stdp import STDPParams, stdp_window_parts
from t4dm.spiking.oscillators import Oscillators, oscillator_signal
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.stack import CorticalStack

__all__ = ["REPLAY_STDP", "Links", "Replay", "item_links", "sign_projection"]

# LTP to LTD and time constants as in Bi & Poo 1998; the amplitude is that of a night, not of one pairing.
# Soft bounds: weights that add a fixed step saturate, and a saturated weight says nothing.
REPLAY_STDP = STDPParams(a_plus=0.1, a_minus=0.035, mu=1.0)
_WINDOW = 128  # tokens of one forward pass
_PROJECTION_SEED = 20_260_101


def sign_projection(dim: int, width: int) -> NDArray[np.float32]:
    """A fixed random projection [dim, width] for stores whose vectors are not as wide as the stack; the
    identity where they are. Entries are +-1 / sqrt(dim) (Achlioptas 2003), the same on every machine.
    """
    if dim == width:
        return np.eye(dim, dtype=np.float32)
    raw = np.asarray(np.random.Philox(key=_PROJECTION_SEED).random_raw(-(-dim * width // 64))).astype("<u8")
    bits = np.unpackbits(raw.view(np.uint8))[: dim * width].reshape(dim, width)
    return (bits.astype(np.float32) * 2.0 - 1.0) / np.float32(np.sqrt(dim))


class Links(NamedTuple):
    """What replay does to links, before the bounds of their weights: LTP and LTD, non-negative."""

    up: NDArray[np.float32]
    down: NDArray[np.float32]


def item_links(spikes: Tensor, items: int, params: STDPParams, *, dt: float) -> tuple[Tensor, Tensor]:
    """STDP between the items of one replayed sequence.

    A channel that fires for an earlier item and again for a later one strengthens the link from the earlier
    to the later, and weakens the opposite one, by the lag of the two spikes. Entry (j, i) takes item i as
    presynaptic and j as postsynaptic; it is the mean over the channels that fired for either, so that it
    does not grow with the width.

    Args:
        spikes: [T, W], T a multiple of `items`: the same number of steps for each item, in order.
        items: n.
        params: the rule; time constants in ms.
        dt: length of a step, ms.

    Returns:
        LTP and LTD, [n, n] each; `stdp_change` makes the change of a weight of them.
    """
    steps, width = len(spikes) // items, spikes.shape[1]
    own = torch.eye(items, dtype=spikes.dtype, device=spikes.device).repeat_interleave(steps, dim=0)
    trains = spikes.t().unsqueeze(-1) * own  # [W, T, n]: channels are the batch, each item has its own column
    up, down, _ = stdp_window_parts(trains, trains, params, dt=dt)
    fired = spikes.reshape(items, steps, width).amax(dim=1) > 0
    either = (fired.unsqueeze(0) | fired.unsqueeze(1)).sum(dim=-1).clamp(min=1)
    return up / either, down / either


@final
class Replay:
    """Runs sequences of stored vectors through a cortical stack and returns LTP and LTD between consecutive
    items.

    Each item is shown for `steps` tokens, projected to the stack's width where it differs and scaled to
    unit root mean square, as the stack's input always is. State is carried through a sequence and starts at
    zero for each. The spikes are those of the last block's output neurons. `dt` is 5 ms a token against 25
    ms awake: ripples replay 5 to 20 times faster than life (Nádasdy et al. 1999; Lee & Wilson 2002).

    Args:
        steps: tokens for each item.
        batch: sequences in one forward pass.
        max_items: items of one window; a longer sequence is run in windows with the state carried over.
        stdp: the rule.
        dt: length of a token in replay, ms.
        oscillators: rhythms of sleep, with `token_seconds` of `dt`. Spikes count in delta's up states alone,
            to which replay is bound (Battaglia, Sutherland & McNaughton 2004). None binds it to nothing.
    """

    def __init__(
        self,
        *,
        steps: int = 4,
        batch: int = 16,
        max_items: int = 32,
        stdp: STDPParams = REPLAY_STDP,
        dt: float = 5.0,
        oscillators: Oscillators | None = None,
    ) -> None:
        self.steps = steps
        self.batch = batch
        self.max_items = max_items
        self.stdp = stdp
        self.dt = dt
        self.oscillators = oscillators

    def __call__(self, stack: CorticalStack, sequences: Sequence[NDArray[np.float32]]) -> list[Links]:
        """What happens between neighbours of each sequence; every item is shown exactly once.

        Args:
            stack: left in the mode it was in; nothing in it is trained.
            sequences: arrays [n_s, D] in the order to replay.

        Returns:
            Arrays [n_s - 1] for each sequence: entry i is about the link from item i to item i + 1.
        """
        return [self._links(spikes) for spikes in self.spikes(stack, sequences)]

    def spikes(self, stack: CorticalStack, sequences: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """The spikes each sequence evokes, [n_s * steps, W] on the CPU, in the order of `sequences`."""
        # Sequences of similar length share a batch, so that little of it is padding.
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        found: dict[int, Tensor] = {}
        training = stack.training
        stack.eval()
        try:
            for start in range(0, len(order), self.batch):
                chosen = order[start : start + self.batch]
                found |= dict(
                    zip(chosen, self._run(stack, [sequences[index] for index in chosen]), strict=True)
                )
        finally:
            stack.train(training)
        return [found[index] for index in range(len(sequences))]

    @torch.no_grad()
    def _run(self, stack: CorticalStack, sequences: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        lengths = [len(sequence) for sequence in sequences]
        device = next(stack.parameters()).device
        tokens = torch.zeros(len(sequences), max(lengths) * self.steps, stack.width)
        for row, sequence in enumerate(sequences):
            shown = torch.from_numpy(_as_input(sequence, stack.width)).repeat_interleave(self.steps, dim=0)
            tokens[row, : len(shown)] = shown
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths).unsqueeze(1) * self.steps
        state, parts = stack.init_state(len(sequences), device), []
        for window, seen in zip(torch.split(tokens, _WINDOW, 1), torch.split(mask, _WINDOW, 1), strict=True):
            recorder = SpikeRecorder(byte_budget=1 << 40, rows=len(sequences))
            state = stack(
                window.to(device),
                state,
                mask=seen.to(device),
                oscillators=self.oscillators,
                recorder=recorder,
            ).state
            parts.append(recorder.spikes(recorder.names()[-1]).float())
        spikes = torch.cat(parts, dim=1).clamp(min=0.0)  # the non-spiking twin's values may be negative
        if self.oscillators is not None:
            clock = torch.arange(1.0, spikes.shape[1] + 1.0).unsqueeze(0)
            spikes = spikes * oscillator_signal(clock, self.oscillators).up_state
        return [spikes[row, : length * self.steps] for row, length in enumerate(lengths)]

    def _windows(self, spikes: Tensor) -> list[Tensor]:
        """Overlapping by one item, so that every neighbouring pair lies in exactly one window."""
        items, stride = len(spikes) // self.steps, max(1, self.max_items - 1)
        starts = range(0, max(0, items - 1), stride)
        return [spikes[start * self.steps : (start + stride + 1) * self.steps] for start in starts]

    def _links(self, spikes: Tensor) -> Links:
        parts = [
            torch.stack(item_links(window, len(window) // self.steps, self.stdp, dt=self.dt))
            for window in self._windows(spikes)
        ]
        if not parts:
            return Links(np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.float32))
        up, down = torch.cat([part.diagonal(offset=-1, dim1=1, dim2=2) for part in parts], dim=1).numpy()
        return Links(np.asarray(up, dtype=np.float32), np.asarray(down, dtype=np.float32))


def _as_input(vectors: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    projected = np.asarray(vectors, dtype=np.float32) @ sign_projection(vectors.shape[1], width)
    size = np.sqrt(np.mean(projected**2, axis=1, keepdims=True))
    return np.asarray(projected / np.maximum(size, 1e-8), dtype=np.float32)
