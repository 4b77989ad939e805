"""Single stages by hand: gate, capsules, apical compartment, goodness, modulators, rhythms, shift."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import StackShapeError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.apical import ApicalGate, forward_forward_loss, goodness
from t4dm.spiking.capsules import CapsuleRouting
from t4dm.spiking.context import PLAIN, make_context, shift, token_clock
from t4dm.spiking.neuromodulators import BASELINE, Neuromod, NeuromodulatorBus, effects
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.oscillators import Oscillators, oscillator_signal, threshold_shift
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


def test_goodness_is_one_at_the_target_rate_and_grows_with_the_square() -> None:
    assert goodness(torch.ones(2, 3, 5)).tolist() == [[1.0] * 3] * 2
    assert goodness(2.0 * torch.ones(1, 5)).item() == 4.0


def test_the_forward_forward_loss_by_hand_and_its_direction() -> None:
    positive, negative = torch.tensor([2.0], requires_grad=True), torch.tensor([0.5], requires_grad=True)
    loss = forward_forward_loss(positive, negative)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.0)) + math.log1p(math.exp(-0.5)), rel=1e-6)
    loss.backward()
    assert positive.grad is not None
    assert negative.grad is not None
    assert positive.grad.item() < 0.0 < negative.grad.item()


def test_effects_at_baseline_are_exactly_the_identity() -> None:
    assert all(factor is None for factor in effects(BASELINE))
    tensors = effects(Neuromod(*(torch.full((3,), 0.5) for _ in range(4))))
    for name, factor in zip(tensors._fields, tensors, strict=True):
        assert factor is not None
        assert torch.equal(factor, torch.full((3, 1, 1), 0.0 if name == "gate" else 1.0))


def test_dopamine_changes_plasticity_by_20_to_50_percent_and_monotonically() -> None:
    write = effects(Neuromod(da=torch.linspace(0.0, 1.0, 5))).write
    assert write is not None
    factors = write.flatten().tolist()
    assert factors == sorted(factors)
    assert 0.2 <= factors[-1] - 1.0 <= 0.5
    assert 0.2 <= 1.0 - factors[0] <= 0.5


def quiet(batch: int = 1) -> dict[str, Tensor]:
    return {"reward": torch.zeros(batch), "surprise": torch.zeros(batch), "invalidity": torch.zeros(batch)}


def test_the_bus_rests_at_the_baseline() -> None:
    bus = NeuromodulatorBus()
    levels, state = bus.step(bus.init_state(2), **quiet(2))
    assert all(level.tolist() == [0.5, 0.5] for level in levels)
    assert all(latent.abs().max() == 0.0 for latent in state)


@pytest.mark.parametrize(
    ("event", "name"), [("reward", "da"), ("surprise", "ne"), ("invalidity", "ach"), ("reward", "ht")]
)
def test_each_event_raises_its_modulator_which_then_fades(event: str, name: str) -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    raised, state = bus.step(state, **{**quiet(), event: torch.tensor([5.0])})
    peak = float(getattr(raised, name))
    assert peak > 0.503
    for _ in range(100):
        faded, state = bus.step(state, **quiet(), tokens=50.0)
    assert abs(float(getattr(faded, name)) - 0.5) < 0.01


def test_an_expected_reward_moves_dopamine_less_and_its_omission_lowers_it() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    reward = {**quiet(), "reward": torch.ones(1)}
    first, state = bus.step(state, **reward)
    for _ in range(60):
        later, state = bus.step(state, **reward)
    assert 0.5 <= float(later.da) < float(first.da)
    omitted, _ = bus.step(state, **quiet())
    assert float(omitted.da) < 0.5


def test_noradrenaline_pushes_acetylcholine_down() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    for _ in range(5):
        levels, state = bus.step(state, **{**quiet(), "surprise": torch.tensor([3.0])})
    assert float(levels.ne) > 0.6
    assert float(levels.ach) < 0.5


def test_rhythms_have_their_frequencies_and_gamma_rides_on_thetas_peak() -> None:
    clock = torch.arange(400, dtype=torch.float64).unsqueeze(0)
    o = Oscillators(theta=1.0, gamma=0.0, delta=0.0, token_seconds=0.005)
    slow = oscillator_signal(clock, o).slow.flatten()
    spectrum = torch.fft.rfft(slow).abs()
    assert int(spectrum.argmax()) / (400 * 0.005) == pytest.approx(6.0)
    nested = oscillator_signal(clock, o._replace(gamma=1.0))
    envelope = (nested.carrier_cos.square() + nested.carrier_sin.square()).sqrt().flatten()
    torch.testing.assert_close(envelope, 0.5 * (1.0 + slow), atol=1e-9, rtol=1e-9)


def test_encoding_and_retrieval_peak_half_a_theta_cycle_apart() -> None:
    signal = oscillator_signal(
        torch.arange(400.0).unsqueeze(0), Oscillators(phase_coding=0.5, token_seconds=0.001)
    )
    encode, retrieve = signal.encode.flatten()[:166], signal.retrieve.flatten()[:166]
    gap = abs(int(encode.argmax()) - int(retrieve.argmax())) * 0.001 * 6.0 * 360.0
    assert gap == pytest.approx(180.0, abs=5.0)
    assert float(encode.max() / encode.min()) >= 2.0
    assert 0.4 < float(signal.up_state.mean()) < 0.8


def test_gamma_gives_each_neuron_its_own_phase() -> None:
    signal = oscillator_signal(torch.zeros(1, 1), Oscillators(theta=0.0, gamma=0.1))
    moved = threshold_shift(signal, 4).flatten()
    torch.testing.assert_close(moved, torch.tensor([-0.1, 0.0, 0.1, 0.0]), atol=1e-7, rtol=1e-5)


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
