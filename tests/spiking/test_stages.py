"""Single stages by hand: gate, capsules, apical compartment, goodness, modulators, rhythms, shift."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import StackShapeError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.apical import ApicalGate
from t4dm.spiking.capsules import CapsuleRouting
from t4dm.spiking.context import PLAIN, make_context, shift, token_clock
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.state import ApicalState, LIFState
from t4dm.spiking.thalamic_gate import ThalamicGate


def test_the_gate_starts_open_and_acetylcholine_opens_it_further() -> None:
    torch.manual_seed(0)
    gate, x = ThalamicGate(width=8, rank=4), torch.ones(2, 3, 8)
    with torch.no_grad():
        gate.up.weight.zero_()
    assert float(gate(x, None, PLAIN).detach().mean()) == pytest.approx(1 / (1 + math.exp(-2.0)), rel=1e-6)
    more = make_context(modulators=Neuromod(ach=torch.tensor([1.0, 0.0])))
    high, low = gate(x, None, more).detach().mean(dim=(1, 2)).tolist()
    assert high == pytest.approx(1 / (1 + math.exp(-3.0)), rel=1e-6)
    assert low == pytest.approx(1 / (1 + math.exp(-1.0)), rel=1e-6)


def test_memory_moves_the_gate() -> None:
    torch.manual_seed(0)
    gate, x = ThalamicGate(width=8, rank=4), torch.randn(2, 3, 8)
    assert not torch.equal(gate(x, torch.randn(2, 3, 8), PLAIN), gate(x, None, PLAIN))


def test_equal_agreement_of_all_capsules_is_the_identity() -> None:
    routing, y = CapsuleRouting(width=12, capsules=3), torch.randn(2, 4, 12)
    routed, coefficients = routing(y, torch.zeros(2, 4, 12))
    torch.testing.assert_close(routed, y)
    torch.testing.assert_close(coefficients, torch.full((2, 4, 3), 1 / 3))


def test_the_capsule_that_agrees_with_its_prediction_gains_by_the_softmax() -> None:
    routing = CapsuleRouting(width=4, capsules=2)
    with torch.no_grad():
        routing.vote.copy_(torch.eye(2).expand(2, 2, 2))
    y = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 4)
    _, c = routing(y, torch.tensor([3.0, 0.0, 0.0, 0.0]).view(1, 1, 4))
    odds = math.exp(3.0 / math.sqrt(2.0))
    assert c.flatten().tolist() == pytest.approx([odds / (1 + odds), 1 / (1 + odds)], rel=1e-5)
    with pytest.raises(StackShapeError, match="set compartment to a multiple of 5, for example 15"):
        CapsuleRouting(width=12, capsules=5)


def apical(width: int = 8, part: int = 4) -> tuple[ApicalGate, ApicalState]:
    torch.manual_seed(0)
    gate = ApicalGate(
        width=width, compartment=part, capsules=2, prediction_rank=2, neurons=Neurons(width=2 * part)
    )
    return gate, ApicalState(LIFState(torch.zeros(1, 2 * part)), torch.zeros(1, part), torch.zeros(1, width))


def test_the_apical_compartment_hears_memory_and_the_previous_token_never_the_present() -> None:
    gate, state = apical()
    with torch.no_grad():
        gate.basal.weight.zero_()
    x = torch.randn(1, 5, 8)
    seen: list[Tensor] = []
    gate.apical.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    gate(x, None, state, PLAIN, "a")
    gate(x, torch.ones(1, 5, 8), state, PLAIN, "a")
    torch.testing.assert_close(seen[0], torch.cat([torch.zeros(1, 1, 8), x[:, :-1]], dim=1))
    torch.testing.assert_close(seen[1], seen[0] + 1.0)


def test_the_prediction_error_is_the_mean_squared_miss_of_the_basal_drive() -> None:
    gate, state = apical()
    with torch.no_grad():
        gate.predict_up.weight.zero_()
    x = torch.randn(1, 5, 8)
    out = gate(x, None, state, PLAIN, "a")
    torch.testing.assert_close(out.prediction_error, gate.basal(x).square().mean(-1))


def test_the_prediction_of_a_token_comes_from_the_tokens_before_it() -> None:
    gate, state = apical()
    with torch.no_grad():
        gate.neurons.log_gain.fill_(1.0)
    x = torch.randn(1, 5, 8)
    changed = x.clone()
    changed[:, 4] += torch.randn(1, 8)
    said: list[Tensor] = []
    gate.predict_up.register_forward_hook(lambda module, args, out: said.append(out.detach()))
    one, other = (gate(each, None, state, PLAIN, "a") for each in (x, changed))
    assert torch.equal(said[0], said[1])
    assert float(said[0][:, 4].abs().min()) > 0.0
    assert not torch.equal(one.prediction_error[:, 4], other.prediction_error[:, 4])


def test_the_prediction_of_a_repeated_drive_can_be_learned() -> None:
    gate, state = apical()
    x = torch.randn(1, 1, 8).expand(1, 30, 8)
    optimizer = torch.optim.Adam([*gate.predict_down.parameters(), *gate.predict_up.parameters()], lr=0.05)
    errors = []
    for _ in range(40):
        loss = gate(x, None, state, PLAIN, "a").prediction_error[:, 5:].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.3 * errors[0]


def test_coincident_spikes_load_calcium_that_opens_the_gate() -> None:
    gate, state = apical()
    with torch.no_grad():
        gate.neurons.log_gain.fill_(20.0)
        gate.basal.weight.abs_()
        gate.apical.weight.abs_()
    x = torch.ones(1, 6, 8)
    out = gate(x, torch.ones(1, 6, 8), state, PLAIN, "a")
    expected = linear_scan(torch.ones(1, 6, 4), torch.full((4,), 0.8))[1]
    torch.testing.assert_close(out.state.ca, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        gate.calcium_gain.zero_()
    assert float((out.out - gate(x, torch.ones(1, 6, 8), state, PLAIN, "a").out).detach().abs().max()) > 1e-3


def test_the_clock_counts_valid_tokens_since_the_documents_start() -> None:
    mask = torch.tensor([[True, True, False, True, True, True]])
    reset = torch.tensor([[False, False, False, True, False, False]])
    start = torch.tensor([10.0])
    count = token_clock(start, mask, mask=mask, reset=reset)
    assert count.tolist() == [[11.0, 12.0, 12.0, 1.0, 2.0, 3.0]]


def test_the_shift_skips_padding_and_stops_at_a_documents_start() -> None:
    x = torch.arange(1.0, 7.0).view(1, 6, 1)
    mask = torch.tensor([[True, False, True, True, False, True]])
    reset = torch.tensor([[False, False, False, True, False, False]])
    shifted, last = shift(x, torch.tensor([[9.0]]), make_context(mask=mask, reset=reset))
    assert shifted.flatten()[mask[0]].tolist() == [9.0, 1.0, 0.0, 4.0]
    assert last.item() == 6.0
    plain, last = shift(x, torch.tensor([[9.0]]), make_context(reset=reset))
    assert plain.flatten().tolist() == [9.0, 1.0, 2.0, 0.0, 4.0, 5.0]
    assert last.item() == 6.0
