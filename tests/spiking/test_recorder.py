"""The recorder: what it sees is what the stack computes, within its budget, and nothing without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from t4dm.spiking.context import PLAIN, make_context
from t4dm.spiking.neuromodulators import BASELINE, Neuromod
from t4dm.spiking.recorder import SpikeRecorder, recording
from t4dm.spiking.spike_attention import FastWeights, SpikeAttention, attention_weights, stdp_attention
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import AttnState

INNER = ["attention", "calcium", "opening", "capsules"]


def make_stack(*, blocks: int = 2) -> CorticalStack:
    torch.manual_seed(0)
    return CorticalStack(width=32, blocks=blocks, heads=2, capsules=4, chunk=8)


def stream_of(batch: int, steps: int) -> Tensor:
    return 2.0 * torch.randn(batch, steps, 32, generator=torch.Generator().manual_seed(steps))


def places(batch: int, steps: int, kind: str) -> Any:
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(batch, steps, generator=generator) > 0.3 if "mask" in kind else None
    reset = torch.rand(batch, steps, generator=generator) > 0.8 if "reset" in kind else None
    levels = Neuromod(*torch.rand(4, batch, generator=generator)) if "modulated" in kind else BASELINE
    return make_context(mask=mask, reset=reset, modulators=levels)


def attention_stage(stack: CorticalStack) -> SpikeAttention:
    stage = stack.blocks[0].attention
    assert isinstance(stage, SpikeAttention)
    return stage


@pytest.mark.parametrize("steps", [1, 9, 33])
@pytest.mark.parametrize("kind", ["plain", "mask", "mask and reset", "modulated", "first spikes"])
def test_weights_times_values_are_the_output_of_the_stage(steps: int, kind: str) -> None:
    stage, context = attention_stage(make_stack()), places(3, steps, kind)
    stage.first_spike = kind == "first spikes"
    recorder = SpikeRecorder(inner=True, rows=2)
    state = make_stack().init_state(3).blocks[0].attn
    x = 3.0 * stream_of(3, steps)
    with torch.no_grad():
        out, _, spikes = stage(x, state, context._replace(recorder=recorder), "block0")
    (weights,) = recorder.windows("block0.attention")
    values = stage.value(x[:2]).view(2, steps, stage.heads, -1)
    read = 1.0 if context.effects.readout is None else context.effects.readout[:2]
    rebuilt = stage.out(torch.einsum("bths,bshv->bthv", weights, values).flatten(2) * read)
    assert steps == 1 or float(spikes.mean()) > 0.05
    torch.testing.assert_close(rebuilt, out[:2], atol=2e-6, rtol=1e-5)
    # the output's own size is far above that tolerance
    assert steps < 9 or float(out[:2].abs().max()) > 1e-3


def test_a_weight_is_the_sum_over_spikes_written_out() -> None:
    generator = torch.Generator().manual_seed(4)
    q, k = ((torch.rand(1, 7, 2, 3, generator=generator) < 0.4).double() for _ in range(2))
    window = attention_stage(make_stack()).window()
    window = type(window)(*(part[:, :3].detach().double() for part in window))
    state = FastWeights(torch.zeros(1, 2, 3, 5).double(), *torch.zeros(2, 1, 6).double())
    got = attention_weights(q, k, state, window)
    plus, minus = window.log_plus.exp(), window.log_minus.exp()
    for h in range(2):
        for t in range(7):
            pairs = torch.zeros(7, dtype=torch.float64)
            evidence = 1.0
            for s in range(t + 1):
                after = sum(minus[h] ** (s - r) * q[0, r, h] for r in range(s))
                key = k[0, s, h] * (window.a_plus[h] - window.a_minus[h] * after)
                pairs[s] = (q[0, t, h] * plus[h] ** (t - s) * key).sum()
                evidence += float((q[0, t, h] * plus[h] ** (t - s) * key.abs()).sum())
            torch.testing.assert_close(got[0, t, h], pairs / evidence, atol=1e-12, rtol=1e-12)


def test_weights_never_look_ahead_and_later_tokens_change_no_earlier_one() -> None:
    recorders = [SpikeRecorder(inner=True) for _ in range(2)]
    h = stream_of(1, 20)
    changed = torch.cat([h[:, :12], h[:, 12:].flip(1)], dim=1)
    for recorder, x in zip(recorders, (h, changed), strict=True):
        make_stack()(x, recorder=recorder)
    one, other = (recorder.windows("block1.attention")[0][0] for recorder in recorders)
    later = torch.ones(20, 20, dtype=torch.bool).triu(1)
    assert not one.transpose(0, 1)[:, later].any()
    assert torch.equal(one[:12], other[:12])
    assert one[:12].any()
    assert not torch.equal(one[12:], other[12:])


def test_carried_state_adds_to_the_normaliser_alone() -> None:
    stage = attention_stage(make_stack())
    q, k = ((torch.rand(1, 5, 2, 8, generator=torch.Generator().manual_seed(1)) < 0.5).float(),) * 2
    v = torch.randn(1, 5, 2, 16, generator=torch.Generator().manual_seed(2))
    state = FastWeights(torch.randn(1, 2, 8, 16), torch.rand(1, 16), torch.rand(1, 16))
    whole, _ = stdp_attention(q, k, v, state, stage.window())
    carried, _ = stdp_attention(q, k, torch.zeros_like(v), state, stage.window())
    weights = attention_weights(q, k, state, stage.window())
    torch.testing.assert_close(torch.einsum("bths,bshv->bthv", weights, v) + carried, whole)


def test_gates_calcium_and_capsules_are_those_of_the_block() -> None:
    stack, h = make_stack(), stream_of(2, 16)
    recorder = SpikeRecorder(inner=True)
    aux = stack(h, recorder=recorder).aux
    assert recorder.quantities() == [f"block{b}.{name}" for b in range(2) for name in ["gate", *INNER]]
    block = stack.blocks[0]
    n = block.norms[0](h)
    gate = recorder.values("block0.gate")
    torch.testing.assert_close(gate * n[:1], block.gate(n, None, PLAIN)[:1])
    assert 0.5 < float(gate.min()) < float(gate.max()) < 1.0
    assert torch.equal(recorder.values("block1.capsules"), aux.capsules[1][:1])
    s_b, s_a = recorder.spikes("block0.apical").float().chunk(2, dim=-1)
    decay = torch.sigmoid(block.apical.calcium_decay_logit)
    level = torch.zeros(16)
    for t in range(16):
        level = decay * level + s_b[0, t] * s_a[0, t]
        torch.testing.assert_close(recorder.values("block0.calcium")[0, t], level)
    opening = recorder.values("block0.opening")
    assert opening.shape == (1, 16, 16)
    assert bool(((opening > 0) & (opening < 1)).all())


def test_two_windows_join_to_what_one_long_window_gives() -> None:
    stack, h = make_stack(), stream_of(1, 24)
    whole, parts = (SpikeRecorder(inner=True, membranes=True) for _ in range(2))
    stack(h, recorder=whole)
    stack(h[:, 10:], stack(h[:, :10], recorder=parts).state, recorder=parts)
    for name in ("block1.gate", "block1.calcium", "block1.opening"):
        torch.testing.assert_close(parts.values(name), whole.values(name), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(parts.membrane("block1.out"), whole.membrane("block1.out"))
    first, second = parts.windows("block0.attention")
    long = whole.windows("block0.attention")[0]
    torch.testing.assert_close(first, long[:, :10, :, :10])
    torch.testing.assert_close(second, long[:, 10:, :, 10:], atol=1e-5, rtol=1e-5)


def test_a_record_is_a_beginning_without_gaps_and_never_over_budget() -> None:
    recorder = SpikeRecorder(byte_budget=100, inner=True)
    for name, steps in (("a", 4), ("b", 5), ("a", 2), ("a", 1)):  # the third would make 40 + 50 + 20 bytes
        recorder.record(name, torch.zeros(2, steps, 10), torch.zeros(2, steps, 10))
    assert recorder.bytes == 90
    assert recorder.dropped == ["a"]
    assert recorder.spikes("a").shape == (1, 4, 10)
    recorder.keep("c", torch.zeros(1, 1, 3))  # 12 bytes as fp32
    recorder.keep("d", torch.zeros(1, 1, 2))
    assert recorder.bytes == 98
    assert recorder.dropped == ["a", "c"]
    assert recorder.quantities() == ["d"]


class _Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that any operation makes, and how many operations there are."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else [out]
        self.numbers = max([self.numbers, *(x.numel() for x in made if isinstance(x, Tensor))])
        self.operations += 1
        return out


def test_without_an_inner_recorder_no_quadratic_weights_are_made() -> None:
    stack, h = make_stack(), stream_of(1, 128)
    recorders = {"none": None, "spikes": SpikeRecorder(), "inner": SpikeRecorder(inner=True)}
    seen, outs = {}, {}
    for name, recorder in recorders.items():
        with torch.no_grad(), _Largest() as largest:
            outs[name] = stack(h, recorder=recorder).h
        seen[name] = largest
    quadratic = 128 * 128 * 2
    assert seen["none"].numbers < quadratic
    assert seen["spikes"].numbers < quadratic
    assert seen["inner"].numbers >= quadratic
    assert seen["none"].operations < seen["spikes"].operations < seen["inner"].operations
    assert torch.equal(outs["none"], outs["spikes"])
    assert torch.equal(outs["none"], outs["inner"])


def test_what_does_not_fit_is_not_computed_either() -> None:
    stack, h = make_stack(blocks=1), stream_of(1, 128)
    with torch.no_grad(), _Largest() as largest:
        stack(h, recorder=SpikeRecorder(inner=True, byte_budget=128 * 128))
    assert largest.numbers < 128 * 128 * 2


def test_records_hold_no_graph_and_are_copies() -> None:
    stack, h = make_stack(blocks=1), stream_of(1, 8).requires_grad_()
    recorder = SpikeRecorder(inner=True, membranes=True)
    stack(h, recorder=recorder).h.sum().backward()
    for name in recorder.quantities():
        assert not recorder.values(name).requires_grad
    assert h.grad is not None
    plain = stream_of(1, 8).requires_grad_()
    stack(plain).h.sum().backward()
    assert torch.equal(h.grad, plain.grad)


def test_recording_watches_a_stack_that_someone_else_calls() -> None:
    stack, h = make_stack(blocks=1), stream_of(1, 8)
    with recording(stack, SpikeRecorder()) as recorder:
        stack(h)
    stack(h)
    assert recorder.spikes("block0.out").shape == (1, 8, 32)


def test_only_what_was_asked_for_is_kept_and_the_rest_takes_no_room() -> None:
    stack, h = make_stack(), stream_of(1, 8)
    both, one = SpikeRecorder(inner=True), SpikeRecorder(inner=True, only=["block1."])
    stack(h, recorder=both)
    stack(h, recorder=one)
    assert one.names() == [name for name in both.names() if name.startswith("block1.")]
    assert one.quantities() == [f"block1.{name}" for name in ["gate", *INNER]]
    assert one.bytes == both.bytes // 2
    assert one.dropped == []


def test_a_state_of_many_rows_is_cut_to_the_recorded_ones() -> None:
    stack, h = make_stack(blocks=1), stream_of(4, 12)
    state = stack(stream_of(4, 5)).state
    two, one = SpikeRecorder(inner=True, rows=2), SpikeRecorder(inner=True)
    stack(h, state, recorder=two)
    first = state.blocks[0].attn
    assert isinstance(first, AttnState)
    stack(h, state, recorder=one)
    assert two.values("block0.attention").shape == (2, 12, 2, 12)
    assert torch.equal(two.values("block0.attention")[:1], one.values("block0.attention"))
