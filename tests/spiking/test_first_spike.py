"""First-spike coding: one spike per channel and theta cycle, earlier ones weigh more, off by default."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.spiking.context import PLAIN, make_context
from t4dm.spiking.first_spike import THETA_CYCLE, FirstSpikeState, first_spikes
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.spike_attention import SpikeAttention
from t4dm.spiking.state import AttnState, LIFState


def train(*rows: str) -> Tensor:
    """Spikes `[1, T, C]` from one line per channel."""
    return torch.tensor([[float(c) for c in row] for row in rows]).t().unsqueeze(0)


def lines(spikes: Tensor) -> list[str]:
    return ["".join(str(int(x)) for x in row) for row in spikes[0].t()]


def test_a_cycle_of_four_tokens_keeps_the_first_spike_of_each_channel() -> None:
    counted = first_spikes(train("11010110", "00101111"), None, context=PLAIN, cycle=4.0, tau=2.0)
    assert lines(counted.spikes) == ["10000100", "00101000"]
    late = [math.exp(-t / 2.0) for t in range(4)]
    assert counted.weight.flatten().tolist() == pytest.approx(late + late, rel=1e-6)
    assert counted.state.clock.tolist() == [8.0]
    assert counted.state.fired.tolist() == [[1.0, 1.0]]


def test_theta_at_6_hz_is_a_cycle_of_six_or_seven_tokens() -> None:
    assert pytest.approx(20 / 3) == THETA_CYCLE
    counted = first_spikes(torch.ones(1, 20, 1), None, context=PLAIN)
    # cycles begin at 0, 6.67 and 13.33 tokens
    assert counted.spikes.flatten().nonzero().flatten().tolist() == [0, 7, 14]
    assert counted.weight[0, 7].item() == pytest.approx(math.exp(-(7 - 20 / 3) / (10 / 3)), rel=1e-4)


def test_a_document_starts_a_cycle_and_padding_stops_the_clock() -> None:
    mask = torch.tensor([[1, 0, 1, 1, 1, 1, 1, 1]]).bool()
    reset = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 0]]).bool()
    spikes = train("10111111")
    counted = first_spikes(spikes, None, context=make_context(mask=mask, reset=reset), cycle=3.0)
    # valid tokens 0 | 1 2, 0 1 of the next cycle, then a document
    assert lines(counted.spikes) == ["10001010"]
    assert counted.state.clock.tolist() == [2.0]


def test_a_document_that_starts_within_the_first_cycle_starts_it_anew() -> None:
    reset = torch.tensor([[0, 1, 0, 0]]).bool()
    counted = first_spikes(train("1110"), None, context=make_context(reset=reset), cycle=3.0)
    assert lines(counted.spikes) == ["1100"]


@pytest.mark.parametrize("pieces", [[1] * 30, [4, 1, 25], [11, 19]])
def test_counting_in_pieces_is_counting_in_one_window(pieces: list[int]) -> None:
    random = torch.Generator().manual_seed(0)
    spikes = (torch.rand(3, 30, 5, generator=random) < 0.3).float()
    mask = torch.rand(3, 30, generator=random) > 0.2
    reset = torch.rand(3, 30, generator=random) > 0.9
    spikes = spikes * mask.unsqueeze(-1)
    whole = first_spikes(spikes, None, context=make_context(mask=mask, reset=reset))
    outs, weights, state = [], [], None
    for s, m, r in zip(spikes.split(pieces, 1), mask.split(pieces, 1), reset.split(pieces, 1), strict=True):
        part = first_spikes(s, state, context=make_context(mask=m, reset=r))
        state = part.state
        outs.append(part.spikes)
        weights.append(part.weight)
    assert torch.equal(torch.cat(outs, 1), whole.spikes)
    assert torch.equal(torch.cat(weights, 1), whole.weight)
    assert state is not None
    assert torch.equal(state.clock, whole.state.clock)
    assert torch.equal(state.fired, whole.state.fired)


def stage(**settings: bool) -> SpikeAttention:
    torch.manual_seed(0)
    neurons = Neurons(width=16, gain=1.8, target_rate=0.15, neuron="lif", surrogate="atan")
    return SpikeAttention(width=16, qk_width=8, heads=2, neurons=neurons, **settings)


def begin(batch: int) -> AttnState:
    return AttnState(
        LIFState(torch.zeros(batch, 16)),
        torch.zeros(batch, 2, 4, 8),
        torch.zeros(batch, 8),
        torch.zeros(batch, 8),
    )


def test_a_stage_counts_all_spikes_unless_asked_and_then_streams_as_one_window() -> None:
    x = 2.0 * torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(1))
    every, state, _ = stage()(x, begin(2), PLAIN, "a")
    assert state.first == ()
    first, state, _ = stage(first_spike=True)(x, begin(2), PLAIN, "a")
    assert isinstance(state.first, FirstSpikeState)
    assert not torch.allclose(first, every, atol=1e-3)
    carried, outs = begin(2), []
    for token in x.split(1, dim=1):
        out, carried, _ = stage(first_spike=True)(token, carried, PLAIN, "a")
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, 1), first, atol=1e-5, rtol=1e-5)


def test_a_spike_that_does_not_count_gets_no_gradient() -> None:
    spikes = train("0101").requires_grad_()
    counted = first_spikes(spikes, None, context=PLAIN, cycle=4.0)
    counted.spikes.sum().backward()
    assert spikes.grad is not None
    assert spikes.grad.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]
