"""Stage 3, spike attention: one LIF layer over queries and keys, float values, a window per head and channel.

The attention itself is `stdp_attention`; this is what feeds it and what modulates it.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from t4dm.errors import SettingError
from t4dm.spiking.attention_backends import known_backend
from t4dm.spiking.attention_params import FastWeights, STDPWindow
from t4dm.spiking.context import Context, first_rows
from t4dm.spiking.first_spike import first_spikes
from t4dm.spiking.linear_attention import bounded_log_decay, check_chunk, decay_logit
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.state import AttnState, LIFState
from t4dm.spiking.stdp_attention import attention_weights, stdp_attention

__all__ = ["FastWeights", "STDPWindow", "SpikeAttention", "attention_weights", "stdp_attention"]

LOG_BOUND = 0.6
"""No window is shorter than 1 / 0.6 tokens."""
RATIO = 0.35
"""A- / A+ at the start: 0.273 / 0.777 of Bi & Poo 1998."""


@final
class SpikeAttention(nn.Module):
    """One LIF layer over [q; k], float values, an STDP window per head and channel.

    Args:
        width: D of the stream; also the width of the values.
        qk_width: channels of q and of k over all heads.
        heads: H.
        neurons: the LIF layer over 2 * qk_width currents.
        mode: see `stdp_attention`.
        chunk: tokens per matrix product.
        first_spike: count the first spike of a channel in each theta cycle only, see `first_spikes`; for
            neurons that spike.

    Raises:
        SettingError: a chunk too long for fp32, or first spikes of neurons that have none.
        UnknownBackendError: no such mode.
    """

    def __init__(
        self,
        *,
        width: int,
        qk_width: int,
        heads: int,
        neurons: Neurons,
        mode: str = "auto",
        chunk: int = 64,
        first_spike: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.chunk = heads, check_chunk(chunk)
        self.mode = known_backend("spike attention", mode)
        if first_spike and neurons.neuron != "lif":
            raise SettingError("model.stack.first_spike", first_spike, "set model.stack.neuron=lif with it")
        self.first_spike = first_spike
        self.qk = nn.Linear(width, 2 * qk_width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.neurons = neurons
        nn.init.normal_(self.qk.weight, std=width**-0.5)
        shape = (heads, qk_width // heads)
        tau = torch.exp(torch.empty(2, *shape).uniform_(math.log(2.0), math.log(64.0)))
        self.window_logit = nn.Parameter(decay_logit(tau, bound=LOG_BOUND))
        inverse_softplus = [math.log(math.expm1(a)) for a in (1.0, RATIO)]
        self.amplitude = nn.Parameter(torch.tensor(inverse_softplus)[:, None, None].repeat(1, heads, 1))

    def window(self) -> STDPWindow:
        """The current STDP window: log decays above -0.6, amplitudes above 0."""
        log = bounded_log_decay(self.window_logit, bound=LOG_BOUND)
        a = F.softplus(self.amplitude)
        return STDPWindow(log[0], log[1], a[0], a[1])

    def forward(
        self, x: Tensor, state: AttnState, context: Context, name: str
    ) -> tuple[Tensor, AttnState, Tensor]:
        """Output `[B, T, D]`, state, and the spikes of [q; k] `[B, T, 2*qk]`."""
        batch, steps, _ = x.shape
        fired = self.neurons(self.qk(x), state.lif, context, f"{name}.qk")
        spikes, v, first, timing = fired.spikes, self.value(x), state.first, None
        if self.first_spike:
            spikes, timing, first = first_spikes(spikes, state.first or None, context=context)
            v = v * timing
        q, k = spikes.view(batch, steps, 2, self.heads, -1).unbind(2)
        v = v.view(batch, steps, self.heads, -1)
        effect, signal = context.effects, context.signal
        write = _product(effect.write, None if signal is None else signal.encode)
        before = FastWeights(state.S, state.z, state.ybar)
        if context.recorder is not None:
            factor = _product(write, timing)
            self._record_weights(q, k, before, context, context.recorder, factor, f"{name}.attention")
        out, fast = stdp_attention(
            q,
            k,
            v,
            before,
            self.window(),
            mode=self.mode,
            context=context,
            write=write,
            depression=effect.depression,
            chunk=self.chunk,
        )
        out = out.reshape(batch, steps, -1)
        read = _product(effect.readout, None if signal is None else signal.retrieve)
        out = self.out(out if read is None else out * read)
        return out, AttnState(LIFState(fired.state.u), fast.S, fast.z, fast.ybar, first), fired.spikes

    @torch.no_grad()
    def _record_weights(
        self,
        q: Tensor,
        k: Tensor,
        state: FastWeights,
        context: Context,
        recorder: SpikeRecorder,
        write: Tensor | None,
        name: str,
    ) -> None:
        """Compute the weights of the rows that are recorded, if they fit."""
        rows = slice(recorder.rows)
        q, k = q[rows], k[rows]
        if recorder.wants(name, q.shape[0] * q.shape[1] ** 2 * q.shape[2]):
            depression = context.effects.depression
            weights = attention_weights(
                q,
                k,
                FastWeights(*(part[rows] for part in state)),
                self.window(),
                context=first_rows(context, recorder.rows),
                write=None if write is None else write[rows],
                depression=None if depression is None else depression[rows],
            )
            recorder.keep(name, weights)


def _product(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return a if b is None else b
    return a * b
