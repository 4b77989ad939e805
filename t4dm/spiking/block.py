"""One cortical block: six stages around a float stream that no stage interrupts.

    x' = x + recall(x)                                      memory enters the float stream
    1  thalamic gate      n = g(x', m) * norm(x')           what may enter
    2  LIF integration    z = x' + y,  y = n * (1/2 + s/2)  layer 2/3 spikes
    3  spike attention    z = z + A(y)
    4  apical gate        z = z + P(norm z, m)              prediction error, capsules
    5  RWKV               z = z + T(norm z);  z = z + C(norm z)
    6  LIF readout        out = x' + (z - x') * (1/2 + s/2)

Stage 2 is joined to stage 6 by floats alone: z starts as what it made, and the others only add to it (the
membrane shortcut of Hu et al. 2021, MS-ResNet). So the first two stages speak even where the others are
silent. Every stage's spikes gate a float product instead of replacing it, so no spike feeds a spike without
a float path; stages 3 and 4 read spikes directly (queries, keys, coincidences). The identity path from x to
out carries gradients undamped.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from t4dm.errors import StackShapeError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.apical import ApicalGate
from t4dm.spiking.context import Context
from t4dm.spiking.goodness import goodness
from t4dm.spiking.neuron import Neurons, mean_rate
from t4dm.spiking.recall_attention import RecallAttention
from t4dm.spiking.rwkv import ChannelMix, TimeMix
from t4dm.spiking.spike_attention import SpikeAttention
from t4dm.spiking.state import (
    ApicalState,
    AttnState,
    BlockAux,
    BlockState,
    FirstSpikeState,
    LIFState,
    RwkvState,
)
from t4dm.spiking.thalamic_gate import ThalamicGate

RATE_DECAY = 0.94


class BlockOutput(NamedTuple):
    """The stream `[B, T, D]`, the block's state, its reductions."""

    h: Tensor
    state: BlockState
    aux: BlockAux


@final
class CorticalBlock(nn.Module):
    """Six stages, four LIF scans, state in and state out.

    Args:
        width: D of the stream.
        heads: H of spike attention, RWKV and recall.
        qk_width: query channels of spike attention over all heads.
        compartment: P, neurons per compartment of the apical stage.
        capsules: groups of channels that the apical stage's routing weighs.
        gate_rank: of the thalamic gate and the channel mix' receptance.
        decay_rank: of the data-dependent decay and of the prediction.
        recall: whether the block reads memory.
        recall_gate: initial value of the recall gate.
        neuron: `"lif"`, or `"gelu"` for the non-spiking twin.
        surrogate: name of the surrogate derivative.
        target_rate: firing rate of stages 2, 4 and 6; queries and keys fire three times as often.
        attention_mode, lif_backend, rwkv_backend: see `stdp_attention`, `lif_scan`, `rwkv6`.
        first_spike: see `SpikeAttention`.
        zero_output: of time mix and channel mix, see `TimeMix`.
        chunk: tokens per matrix product.

    Raises:
        StackShapeError: a width does not divide by its heads or capsules.
        UnknownNeuronError, UnknownSurrogateError, UnknownBackendError: no such name.
        SettingError: a chunk too long for fp32, or first spikes of neurons that have none.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        qk_width: int,
        compartment: int,
        capsules: int,
        gate_rank: int,
        decay_rank: int,
        recall: bool = True,
        recall_gate: float = 1.0,
        neuron: str = "lif",
        surrogate: str = "atan",
        target_rate: float = 0.05,
        attention_mode: str = "auto",
        lif_backend: str = "auto",
        rwkv_backend: str = "auto",
        chunk: int = 64,
        first_spike: bool = False,
        zero_output: bool = False,
    ) -> None:
        super().__init__()
        for field, value in (("width", width), ("qk_width", qk_width)):
            if value % heads:
                raise StackShapeError(field, value, "heads", heads)
        self.width, self.heads, self.qk_width, self.compartment = width, heads, qk_width, compartment
        self.target_rate = target_rate

        def neurons(size: int, gain: float, rate: float = target_rate) -> Neurons:
            return Neurons(
                width=size,
                gain=gain,
                target_rate=rate,
                neuron=neuron,
                surrogate=surrogate,
                backend=lif_backend,
            )

        self.recall = RecallAttention(width=width, heads=heads, gate_init=recall_gate) if recall else None
        self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(5))
        self.gate = ThalamicGate(width=width, rank=gate_rank, memory=recall)
        self.integrate = neurons(width, 0.6)
        self.attention = SpikeAttention(
            width=width,
            qk_width=qk_width,
            heads=heads,
            neurons=neurons(2 * qk_width, 1.8, 3.0 * target_rate),
            mode=attention_mode,
            chunk=chunk,
            first_spike=first_spike,
        )
        self.apical = ApicalGate(
            width=width,
            compartment=compartment,
            capsules=capsules,
            prediction_rank=decay_rank,
            neurons=neurons(2 * compartment, 0.55),
        )
        self.time_mix = TimeMix(
            width=width,
            heads=heads,
            decay_rank=decay_rank,
            backend=rwkv_backend,
            chunk=chunk,
            zero_output=zero_output,
        )
        self.channel_mix = ChannelMix(width=width, rank=gate_rank, zero_output=zero_output)
        self.readout = neurons(width, 0.55)

    def init_state(self, batch: int, device: torch.device | str | None = None) -> BlockState:
        """All zeros, fp32."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, device=device)

        d, h, p = self.width, self.heads, self.compartment
        key, value = self.qk_width // h, d // h
        return BlockState(
            lif=LIFState(zeros(d)),
            attn=AttnState(
                LIFState(zeros(2 * self.qk_width)),
                zeros(h, key, value),
                zeros(self.qk_width),
                zeros(self.qk_width),
                FirstSpikeState(zeros(), zeros(2 * self.qk_width)) if self.attention.first_spike else (),
            ),
            apical=ApicalState(LIFState(zeros(2 * p)), zeros(p), zeros(d)),
            rwkv=RwkvState(zeros(h, value, value), zeros(d), zeros(d)),
            out=LIFState(zeros(d)),
            rate=zeros(d),
        )

    def forward(
        self,
        x: Tensor,
        state: BlockState,
        context: Context,
        *,
        recall: Tensor | None = None,
        recall_mask: Tensor | None = None,
        name: str = "block",
    ) -> BlockOutput:
        """Run a window.

        Args:
            x: float stream `[B, T, D]`.
            state: what the block carries.
            context: padding, documents, modulation, observers.
            recall: recalled vectors or token states `[B, M, D]`, or None.
            recall_mask: bool `[B, T, M]`, which of them each token may read; all when None.
            name: prefix of the recorder's names.
        """
        memory = None
        if self.recall is not None and recall is not None:
            if recall_mask is None:
                recall_mask = torch.ones(*x.shape[:2], recall.shape[1], dtype=torch.bool, device=x.device)
            memory = self.recall(x, recall, recall_mask)
            if context.effects.readout is not None:
                memory = memory * context.effects.readout.to(x.device)
            x = x + memory
        n = self.gate(self.norms[0](x), memory, context, f"{name}.gate")
        upper = context._replace(effects=context.effects.in_upper_layers())
        integrated = self.integrate(n, state.lif, upper, f"{name}.integrate")
        y = n * (0.5 + 0.5 * integrated.spikes)
        attended, attn, qk = self.attention(y, state.attn, upper, name)
        branch = y + attended
        apical = self.apical(self.norms[1](x + branch), memory, state.apical, context, name)
        branch = branch + apical.out
        mixed, S, x_tm = self.time_mix(self.norms[2](x + branch), state.rwkv.S, state.rwkv.x_tm, context)
        branch = branch + mixed
        channels, x_cm = self.channel_mix(self.norms[3](x + branch), state.rwkv.x_cm, context)
        branch = branch + channels
        fired = self.readout(self.norms[4](x + branch), state.out, context, f"{name}.out")
        out = x + branch * (0.5 + 0.5 * fired.spikes)
        trace, rate = linear_scan(
            fired.spikes,
            fired.spikes.new_full((self.width,), RATE_DECAY),
            state.rate,
            mask=context.mask,
            reset=context.reset,
        )
        per_token = goodness(trace * ((1.0 - RATE_DECAY) / self.target_rate))
        mean = mean_rate(fired.spikes, context)
        others = [mean_rate(spikes, context).mean() for spikes in (integrated.spikes, qk, apical.spikes)]
        aux = BlockAux(
            mean, torch.stack([*others, mean.mean()]), per_token, apical.prediction_error, apical.capsules
        )
        after = BlockState(integrated.state, attn, apical.state, RwkvState(S, x_tm, x_cm), fired.state, rate)
        return BlockOutput(out, after, aux)
