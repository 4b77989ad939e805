"""The cortical stack: N blocks on one float stream, with their states, modulation and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

from t4dm.errors import SettingError
from t4dm.plasticity.tape import Synapse
from t4dm.spiking import attention_backends, lif_backends
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.context import Context, make_context, token_clock
from t4dm.spiking.linear_attention import widened
from t4dm.spiking.neuromodulators import BASELINE, BY_LAYER, Injection, Neuromod
from t4dm.spiking.oscillators import Oscillators, oscillator_signal
from t4dm.spiking.pieces import Piece, joined, pieces
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.state import StackAux, StackOutput, StackState, detach_state, reset_state, state_bytes


@final
class CorticalStack(nn.Module):
    """`blocks` cortical blocks. Input and output are the normalised, projected stream `[B, T, D]`; states
    are fp32.

    Args:
        width: D.
        blocks: how many.
        heads: of spike attention, RWKV and recall.
        qk_width: query channels of spike attention; half the width when None.
        compartment: neurons per compartment of the apical stage; half the width when None.
        capsules: groups of channels of the apical stage's routing.
        gate_rank: rank of the thalamic gate and of the channel mix' receptance; width / 8 when None.
        decay_rank: rank of the decay's data-dependent part and of the prediction; width / 16 when None.
        recall: whether blocks read memory at all.
        recall_blocks: how many blocks, from the first, have a recall cross-attention (4 D^2 parameters each).
        recall_gate: initial value of their gates.
        neuron: `"lif"`, or `"gelu"` for the non-spiking twin with the same parameters.
        surrogate: name of the surrogate derivative.
        target_rate: firing rate that calibration and goodness refer to.
        attention_mode: back-end of spike attention, see `stdp_attention`.
        lif_backend: of the neurons' scans, see `lif_scan`.
        rwkv_backend: of the time mix, see `rwkv6`.
        chunk: tokens per matrix product.
        window: tokens that are run at once; more are run one window after the other, with the state carried
            over, which is the same but for rounding. Nothing is cut where a recorder watches.
        first_spike: count the first query and key spike of a channel in each theta cycle only.
        zero_output: start with RWKV's output projections at zero. For a stack without a door of its own that
            opens from zero, as `MemoryLM`'s does.
        injection: which layers each neuromodulator reaches, and how strongly each block takes it up.
        modulators: levels of DA, NE, ACh, 5-HT in every pass that names none of its own.
        oscillators: rhythms of every pass that names none of its own; None has none.

    Raises:
        StackShapeError, UnknownNeuronError, UnknownSurrogateError, UnknownBackendError, SettingError: see
            the message. A back-end that exists but cannot run where the stream is (MissingBackendError) is
            refused by the first pass and by `explain`.
    """

    def __init__(
        self,
        *,
        width: int,
        blocks: int = 6,
        heads: int = 4,
        qk_width: int | None = None,
        compartment: int | None = None,
        capsules: int = 16,
        gate_rank: int | None = None,
        decay_rank: int | None = None,
        recall: bool = True,
        recall_blocks: int = 1,
        recall_gate: float = 1.0,
        neuron: str = "lif",
        surrogate: str = "atan",
        target_rate: float = 0.05,
        attention_mode: str = "auto",
        lif_backend: str = "auto",
        rwkv_backend: str = "auto",
        chunk: int = 64,
        window: int = 2048,
        first_spike: bool = False,
        zero_output: bool = False,
        injection: Injection = BY_LAYER,
        modulators: Neuromod = BASELINE,
        oscillators: Oscillators | None = None,
    ) -> None:
        super().__init__()
        if window < 1:
            raise SettingError("model.stack.window", window, "set it to a number of tokens from 1 on")
        self.width = width
        self.window = window
        self.injection = injection
        self.modulators = modulators
        self.oscillators = oscillators
        self.neuron = neuron
        self.blocks = nn.ModuleList(
            CorticalBlock(
                width=width,
                heads=heads,
                qk_width=qk_width or width // 2,
                compartment=compartment or width // 2,
                capsules=capsules,
                gate_rank=gate_rank or max(width // 8, 4),
                decay_rank=decay_rank or max(width // 16, 4),
                recall=recall and index < recall_blocks,
                recall_gate=recall_gate,
                neuron=neuron,
                surrogate=surrogate,
                target_rate=target_rate,
                attention_mode=attention_mode,
                lif_backend=lif_backend,
                rwkv_backend=rwkv_backend,
                chunk=chunk,
                first_spike=first_spike,
                zero_output=zero_output,
            )
            for index in range(blocks)
        )

    def forward(
        self,
        h: Tensor,
        state: StackState | None = None,
        *,
        recall: Tensor | None = None,
        recall_mask: Tensor | None = None,
        modulators: Neuromod | None = None,
        oscillators: Oscillators | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        recorder: SpikeRecorder | None = None,
        local: bool = False,
    ) -> StackOutput:
        """Run a window of tokens.

        Args:
            h: `[B, T, D]`; half precision is taken up in fp32, as the stream and every state stay there.
            state: what the stack carries from the window before; zeros when None.
            recall: recalled vectors or token states `[B, M, D]`.
            recall_mask: bool `[B, T, M]`, which of them each token may read.
            modulators: levels of DA, NE, ACh, 5-HT, 0.5 being an exact no-op; the stack's own when None.
            oscillators: rhythms; the stack's own when None. Amplitudes of 0 change nothing.
            mask: bool `[B, T]`, False on padding: all state is frozen there.
            reset: bool `[B, T]`, True at the first token of a document: all state is zeroed before it.
            recorder: collects spikes and membranes.
            local: cut the gradient between blocks, so that each block's goodness trains that block alone.

        Returns:
            The stream, the state after the last token, the reductions.
        """
        h, recall = widened(h), None if recall is None else widened(recall)
        if state is None:
            state = self.init_state(h.shape[0], h.device)
        rhythms = self.oscillators if oscillators is None else oscillators
        levels = self.modulators if modulators is None else modulators
        whole, outputs, masks = Piece(h, recall_mask, levels, mask, reset), list[StackOutput](), []
        short = recorder is not None or h.shape[1] <= self.window
        for piece in [whole] if short else pieces(whole, self.window):
            mask, reset, state = _simplify(piece.mask, piece.reset, state)
            context, clock = self._context(piece.h, state, piece.modulators, rhythms, mask, reset, recorder)
            outputs.append(self._run(piece.h, state, context, clock, recall, piece.recall_mask, local))
            masks.append(mask)
            state = outputs[-1].state
        return outputs[0] if len(outputs) == 1 else joined(outputs, masks)

    def _context(
        self,
        h: Tensor,
        state: StackState,
        modulators: Neuromod,
        oscillators: Oscillators | None,
        mask: Tensor | None,
        reset: Tensor | None,
        recorder: SpikeRecorder | None,
        calibrate: bool = False,
    ) -> tuple[Context, Tensor]:
        clock = token_clock(state.clock, h, mask=mask, reset=reset)
        signal = None if oscillators is None else oscillator_signal(clock, oscillators)
        context = make_context(
            mask=mask,
            reset=reset,
            modulators=modulators,
            signal=signal,
            recorder=recorder,
            calibrate=calibrate,
        )
        return context, clock[:, -1]

    def _run(
        self,
        h: Tensor,
        state: StackState,
        context: Context,
        clock: Tensor,
        recall: Tensor | None,
        recall_mask: Tensor | None,
        local: bool,
    ) -> StackOutput:
        states, auxes = [], []
        for index, (block, before) in enumerate(zip(self._blocks(), state.blocks, strict=True)):
            injected = self.injection.effects(context.modulators, block=index)
            out = block(
                h.detach() if local and index else h,
                before,
                context._replace(effects=injected),
                recall=recall,
                recall_mask=recall_mask,
                name=f"block{index}",
            )
            h = out.h
            states.append(out.state)
            auxes.append(out.aux)
        aux = StackAux(*(torch.stack(parts) for parts in zip(*auxes, strict=True)))
        return StackOutput(h, StackState(tuple(states), clock), aux)

    @torch.no_grad()
    def calibrate(
        self,
        h: Tensor,
        *,
        recall: Tensor | None = None,
        recall_mask: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Tensor:
        """Centre and scale what every layer of neurons receives, in one pass over a sample, so that it fires
        at its target; for before training.

        Layer by layer in the order in which they run: each is calibrated on what the calibrated ones before
        it send. At the baseline of all modulators and without rhythms, whatever the stack's own are.

        Returns:
            The rates of stages 2, 3, 4 and 6 after it, `[L, 4]`.

        Raises:
            CalibrationError: a layer cannot reach its target; those before it are calibrated by then.
        """
        h, recall = widened(h), None if recall is None else widened(recall)
        state = self.init_state(h.shape[0], h.device)
        context, clock = self._context(h, state, BASELINE, None, mask, reset, None, calibrate=True)
        return self._run(h, state, context, clock, recall, recall_mask, False).aux.stage_rate

    def init_state(self, batch: int, device: torch.device | str | None = None) -> StackState:
        """The state before any token: zeros in fp32."""
        return StackState(
            tuple(block.init_state(batch, device) for block in self._blocks()),
            torch.zeros(batch, device=device),
        )

    def explain(self, device: torch.device | str | None = None) -> dict[str, str]:
        """Which back-end runs each kernel of this stack: `lif` (the twin has a `linear_scan` instead),
        `spike attention` and `rwkv`.

        Args:
            device: where the stream is; where the parameters are when None.

        Raises:
            MissingBackendError: one that was asked for by name cannot run there.
        """
        where = next(self.parameters()).device if device is None else torch.device(device)
        block = self._blocks()[0]
        neurons = lif_backends.choose(block.integrate.backend, where, block.integrate.surrogate)
        return {
            "lif": neurons if self.neuron == "lif" else "linear_scan",
            "spike attention": attention_backends.choose("spike attention", block.attention.mode, where),
            "rwkv": attention_backends.choose("rwkv", block.time_mix.backend, where),
        }

    def _blocks(self) -> list[CorticalBlock]:
        return cast(list[CorticalBlock], list(self.blocks))

    def synapses(self) -> list[Synapse]:
        """The linear layers that drive spiking neurons, for three-factor learning: [q; k], basal, apical."""
        found = []
        for block in self._blocks():
            half = block.compartment
            found += [
                Synapse(block.attention.qk, block.attention.neurons),
                Synapse(block.apical.basal, block.apical.neurons, slice(0, half)),
                Synapse(block.apical.apical, block.apical.neurons, slice(half, 2 * half)),
            ]
        return found

    @staticmethod
    def detach_state(state: StackState) -> StackState:
        """The same state without its graph, for the border between two windows of training."""
        return detach_state(state)

    @staticmethod
    def reset_state(state: StackState, rows: Sequence[int] | Tensor) -> StackState:
        """The state with the given batch rows forgotten."""
        return reset_state(state, rows)

    @staticmethod
    def state_bytes(state: StackState) -> int:
        """Size of a state in bytes; does not grow with the tokens seen."""
        return state_bytes(state)


def _simplify(
    mask: Tensor | None, reset: Tensor | None, state: StackState
) -> tuple[Tensor | None, Tensor | None, StackState]:
    """Drop a mask without padding, and turn starts at the first token into fresh rows: the stages run faster
    without.

    Only where looking costs nothing: on a GPU the test would wait for the device.
    """
    if mask is not None and mask.device.type == "cpu" and bool(mask.all()):
        mask = None
    if reset is not None and reset.device.type == "cpu" and not bool(reset[:, 1:].any()):
        if bool(reset.any()):
            state = reset_state(state, reset[:, 0].nonzero().flatten())
        reset = None
    return mask, reset, state
