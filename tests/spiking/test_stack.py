"""The stack as a whole: causality, padding, streaming, documents, gradients, size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.errors import StackShapeError, UnknownNeuronError, UnknownSurrogateError
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.stack import CorticalStack

STAGES = ("integrate", "qk", "apical", "out")


def make(seed: int = 0, **settings: object) -> CorticalStack:
    torch.manual_seed(seed)
    arguments: dict = {"width": 32, "blocks": 2, "heads": 2, "capsules": 4, **settings}
    return CorticalStack(**arguments)


def stream(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_an_increment_reaches_the_output_and_the_identity_path_carries_it() -> None:
    stack, h = make(), stream(2, 9, 32).requires_grad_()
    out = stack(h).h
    assert out.shape == h.shape
    assert 0.05 < float((out - h).detach().std()) < 2.0
    out.sum().backward()
    assert h.grad is not None
    assert 0.5 < float(h.grad.mean()) < 1.5


def test_recall_reaches_the_output_and_gets_gradient_at_init() -> None:
    stack, h, recall = make(), stream(2, 9, 32), stream(2, 5, 32, seed=2).requires_grad_()
    seen = torch.zeros(2, 9, 5, dtype=torch.bool)
    seen[:, 4:, :3] = True
    out = stack(h, recall=recall, recall_mask=seen).h
    without = stack(h).h
    assert torch.equal(out[:, :4], without[:, :4])
    assert float((out - without)[:, 4:].detach().abs().mean()) > 0.05
    out.square().sum().backward()
    assert recall.grad is not None
    assert bool((recall.grad[:, :3].abs().sum(-1) > 0).all())
    assert float(recall.grad[:, 3:].abs().max()) == 0.0


def test_every_parameter_gets_gradient_from_the_output_alone() -> None:
    stack = make(recall_blocks=2)
    out = stack(stream(4, 24, 32), recall=stream(4, 5, 32, seed=3))
    (out.h * stream(4, 24, 32, seed=4)).sum().backward()
    silent = [
        name for name, p in stack.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0.0
    ]
    assert silent == []


@pytest.mark.parametrize("neuron", ["lif", "gelu"])
def test_left_right_and_inner_padding_change_nothing(neuron: str) -> None:
    stack, h = make(neuron=neuron), stream(1, 10, 32)
    plain = stack(h)
    for places in ([0, 1, 2], [10, 11, 12], [4, 5, 9], [0, 6, 12]):
        real = [t for t in range(13) if t not in places]
        padded, mask = torch.full((1, 13, 32), 7.0), torch.zeros(1, 13, dtype=torch.bool)
        padded[:, real], mask[:, real] = h, True
        out = stack(padded, mask=mask)
        torch.testing.assert_close(out.h[:, real], plain.h, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(out.aux.goodness[..., real], plain.aux.goodness, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(out.aux.rate, plain.aux.rate, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(out.state, plain.state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [[1] * 11, [4, 1, 6]])
@pytest.mark.parametrize("neuron", ["lif", "gelu"])
def test_streaming_in_pieces_equals_one_window(pieces: list[int], neuron: str) -> None:
    stack, h = make(neuron=neuron), stream(2, 11, 32)
    rhythm = Oscillators(theta=0.1, gamma=0.05, phase_coding=0.3)
    whole, parts, state = stack(h, oscillators=rhythm), [], None
    for piece in h.split(pieces, dim=1):
        out = stack(piece, state, oscillators=rhythm)
        state = stack.detach_state(out.state)
        parts.append(out.h)
    torch.testing.assert_close(torch.cat(parts, 1), whole.h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, whole.state, atol=1e-5, rtol=1e-5)


def test_a_document_start_forgets_everything_before_it() -> None:
    stack, h = make(), stream(2, 12, 32)
    reset = torch.zeros(2, 12, dtype=torch.bool)
    reset[0, 5] = reset[1, 8] = True
    rhythm = Oscillators(theta=0.1, gamma=0.1)
    out = stack(h, oscillators=rhythm, reset=reset)
    for row, start in ((0, 5), (1, 8)):
        alone = stack(h[row : row + 1, start:], oscillators=rhythm)
        torch.testing.assert_close(out.h[row : row + 1, start:], alone.h, atol=1e-5, rtol=1e-5)
    before = stack(h[:, :5], oscillators=rhythm)
    torch.testing.assert_close(out.h[:, :5], before.h, atol=1e-5, rtol=1e-5)


def test_a_start_at_the_first_token_drops_the_state_of_its_row_only() -> None:
    stack, h = make(), stream(2, 6, 32)
    state = stack(stream(2, 6, 32, seed=5)).state
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[0, 0] = True
    out = stack(h, state, reset=reset)
    torch.testing.assert_close(out.h[:1], stack(h[:1]).h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.h[1:], stack(h, state).h[1:], atol=1e-5, rtol=1e-5)


def test_a_start_hidden_by_padding_still_forgets() -> None:
    stack, h = make(), stream(1, 8, 32)
    reset, mask = torch.zeros(1, 8, dtype=torch.bool), torch.ones(1, 8, dtype=torch.bool)
    reset[0, 3], mask[0, 3] = True, False
    out = stack(h, mask=mask, reset=reset)
    torch.testing.assert_close(out.h[:, 4:], stack(h[:, 4:]).h, atol=1e-5, rtol=1e-5)


def test_the_gelu_twin_has_the_same_parameters_and_no_spikes() -> None:
    spiking, twin = make(), make(neuron="gelu")
    assert {n: p.shape for n, p in spiking.named_parameters()} == {
        n: p.shape for n, p in twin.named_parameters()
    }
    recorder = SpikeRecorder()
    out = twin(stream(2, 8, 32), recorder=recorder)
    assert recorder.spikes("block0.out").unique().numel() > 10
    (out.h * stream(2, 8, 32, seed=2)).sum().backward()
    missing = [
        n
        for n, p in twin.named_parameters()
        if p.grad is None and "recall" not in n and "from_memory" not in n
    ]
    assert missing == []


def test_a_recorder_captures_binary_spikes_within_its_budget() -> None:
    stack, h = make(), stream(2, 16, 32)
    recorder = SpikeRecorder(membranes=True)
    out = stack(h, recorder=recorder)
    assert recorder.names() == [f"block{b}.{s}" for b in range(2) for s in STAGES]
    spikes = recorder.spikes("block1.out")
    assert spikes.shape == (1, 16, 32)
    assert spikes.dtype == torch.uint8
    assert torch.equal(spikes.bool(), recorder.membrane("block1.out") >= 1.0)
    assert recorder.bytes == sum(5 * recorder.spikes(name).numel() for name in recorder.names())
    small = SpikeRecorder(byte_budget=16 * 32 * 2)
    stack(h, recorder=small)
    assert small.bytes <= small.byte_budget
    assert "block1.out" in small.dropped
    both = SpikeRecorder(rows=2)
    stack(h, stack(h, recorder=both).state, recorder=both)
    assert both.spikes("block0.out").shape == (2, 32, 32)
    assert float(both.spikes("block0.out")[:, :16].float().mean()) > 0.0
    assert torch.equal(stack(h).h, out.h)


def test_local_goodness_trains_its_own_block_only() -> None:
    stack = make()
    out = stack(stream(2, 12, 32), local=True)
    out.aux.goodness[1].mean().backward()

    def reached(index: int) -> bool:
        grads = [p.grad for p in stack.blocks[index].parameters() if p.grad is not None]
        return any(float(grad.abs().max()) > 0 for grad in grads)

    assert not reached(0)
    assert reached(1)


def test_modulators_change_the_output_off_baseline_and_nothing_at_it() -> None:
    stack, h = make(), stream(3, 16, 32)
    with torch.no_grad():
        base = stack(h).h
        half = torch.full((3,), 0.5)
        assert torch.equal(stack(h, modulators=Neuromod(half, half, half, half)).h, base)
        for name in Neuromod._fields:
            for level in (0.0, 1.0):
                moved = stack(h, modulators=Neuromod(**{name: torch.full((3,), level)})).h
                assert float((moved - base).abs().mean()) > 1e-4, (name, level)
            rows = torch.tensor([0.5, 0.9, 0.5])
            one = stack(h, modulators=Neuromod(**{name: rows})).h
            assert torch.equal(one[[0, 2]], base[[0, 2]])
            assert not torch.equal(one[1], base[1])
            tokens = torch.full((3, 16), 0.5)
            tokens[:, 8:] = 0.9
            late = stack(h, modulators=Neuromod(**{name: tokens})).h
            assert torch.equal(late[:, :8], base[:, :8])
            assert not torch.equal(late[:, 8:], base[:, 8:])


def test_wrong_settings_name_their_fix() -> None:
    with pytest.raises(StackShapeError, match="set qk_width to a multiple of 3, for example 18"):
        make(width=33, heads=3)
    with pytest.raises(StackShapeError, match="set compartment to a multiple of 5, for example 20"):
        make(capsules=5)
    with pytest.raises(UnknownNeuronError, match=r"set model.stack.neuron to one of lif, gelu"):
        make(neuron="adex")
    with pytest.raises(UnknownSurrogateError, match="one of atan, fast_sigmoid, sigmoid, ste_rect"):
        make(surrogate="ste")
