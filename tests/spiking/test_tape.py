"""Eligibility gathered from running neurons equals the gradient where it must."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from t4dm.plasticity.eligibility_tape import EligibilityTape
from t4dm.plasticity.tape import Synapse
from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.spiking.context import PLAIN, Context, make_context
from t4dm.spiking.neuromodulators import BASELINE, Neuromod
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.oscillators import Oscillators, oscillator_signal
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import LIFState


def layer(inputs: int = 5, outputs: int = 4, tau: float = 4.0) -> tuple[nn.Linear, Neurons]:
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs, bias=False).double()
    neurons = Neurons(width=outputs, gain=1.3, tau=(tau, tau)).double()
    with torch.no_grad():
        linear.weight.mul_(3.0)
    return linear, neurons


def run(linear: nn.Linear, neurons: Neurons, x: Tensor, context: Context = PLAIN) -> Tensor:
    state = LIFState(torch.zeros(x.shape[0], linear.out_features, dtype=x.dtype))
    return neurons(linear(x), state, context, "layer").spikes


@pytest.mark.parametrize("padded", [False, True])
def test_with_the_exact_learning_signal_eligibility_is_the_gradient(padded: bool) -> None:
    linear, neurons = layer()
    x, target = torch.randn(3, 20, 5, dtype=torch.float64), torch.rand(3, 20, 4, dtype=torch.float64)
    mask = reset = None
    if padded:
        mask, reset = torch.rand(3, 20) > 0.3, torch.rand(3, 20) > 0.8
    with EligibilityTape([Synapse(linear, neurons)], signal="gradient") as tape:
        tape.window(mask=mask, reset=reset)
        spikes = run(linear, neurons, x, make_context(mask=mask, reset=reset))
        assert 0.05 < float(spikes.detach().mean()) < 0.8
        (spikes - target).square().sum().backward()
    assert linear.weight.grad is not None
    error = (tape.eligibility[linear] - linear.weight.grad).abs().max() / linear.weight.grad.abs().max()
    assert float(error) < 1e-12


MODULATED = ["rhythms", "noradrenaline", "noradrenaline by token", "both"]


@pytest.mark.parametrize("modulated", MODULATED)
def test_it_is_under_rhythms_and_noradrenaline_too(modulated: str) -> None:
    linear, neurons = layer()
    x, target = torch.randn(3, 20, 5, dtype=torch.float64), torch.rand(3, 20, 4, dtype=torch.float64)
    signal = None
    if modulated in ("rhythms", "both"):
        clock = torch.arange(1.0, 21.0).expand(3, 20)
        signal = oscillator_signal(clock, Oscillators(theta=0.3, gamma=0.3))
    by_token = torch.rand(3, 20, generator=torch.Generator().manual_seed(4))
    levels = {
        "rhythms": BASELINE,
        "noradrenaline": Neuromod(ne=0.9),
        "noradrenaline by token": Neuromod(ne=by_token),
        "both": Neuromod(ne=by_token),
    }[modulated]
    with EligibilityTape([Synapse(linear, neurons)], signal="gradient") as tape:
        tape.window()
        spikes = run(linear, neurons, x, make_context(modulators=levels, signal=signal))
        (spikes - target).square().sum().backward()
    assert linear.weight.grad is not None
    error = (tape.eligibility[linear] - linear.weight.grad).abs().max() / linear.weight.grad.abs().max()
    assert float(error) < 1e-12


def test_without_a_signal_eligibility_is_pre_trace_times_post_sensitivity_by_hand() -> None:
    linear, neurons = layer(1, 1)
    x = torch.tensor([[[1.0], [0.0], [2.0]]], dtype=torch.float64)
    alpha, decay = neurons.leak().item(), 0.9
    with EligibilityTape([Synapse(linear, neurons)], trace_decay=decay) as tape, torch.no_grad():
        out = neurons(linear(x), LIFState(torch.zeros(1, 1, dtype=torch.float64)), PLAIN, "layer")
    psi = neurons.sensitivity(out).flatten().tolist()
    bar = [1.0, alpha, alpha**2 + 2.0]
    expected = sum(decay ** (2 - t) * psi[t] * bar[t] for t in range(3))
    assert float(tape.eligibility[linear]) == pytest.approx(expected, rel=1e-12)


def test_windows_add_up_with_fading_and_deposit_hands_them_over() -> None:
    linear, neurons = layer()
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    optimizer = ThreeFactor([linear.weight], lr=0.1, modulator=1.0, max_drift=1.0)
    with EligibilityTape([Synapse(linear, neurons)], trace_decay=0.9) as tape:
        run(linear, neurons, x)
        one = tape.eligibility[linear].clone()
        run(linear, neurons, x)
        torch.testing.assert_close(tape.eligibility[linear], one * 0.9**6 + one)
        before = linear.weight.detach().clone()
        tape.deposit(optimizer)
        assert tape.eligibility == {}
    optimizer.step()
    assert not torch.equal(linear.weight.detach(), before)
    run(linear, neurons, x)
    assert tape.eligibility == {}


def test_a_stack_learns_by_the_tape_and_only_in_its_synapses() -> None:
    torch.manual_seed(0)
    stack = CorticalStack(width=16, blocks=2, heads=2, capsules=4)
    synapses = stack.synapses()
    weights = [synapse.linear.weight for synapse in synapses]
    assert len(weights) == 6
    optimizer = ThreeFactor(weights, lr=0.01, modulator=1.0, max_drift=1.0)
    before = {name: p.detach().clone() for name, p in stack.named_parameters()}
    with EligibilityTape(synapses) as tape, torch.no_grad():
        stack(torch.randn(2, 12, 16))
        tape.deposit(optimizer)
    optimizer.step()
    moved = {name for name, p in stack.named_parameters() if not torch.equal(p.detach(), before[name])}
    names = {name for name, p in stack.named_parameters() if any(p is w for w in weights)}
    assert moved == names


def test_descending_on_the_exact_eligibility_lowers_the_loss() -> None:
    linear, neurons = layer()
    x, target = torch.randn(4, 20, 5, dtype=torch.float64), torch.zeros(4, 20, 4, dtype=torch.float64)
    optimizer = ThreeFactor(
        [linear.weight], lr=0.001, modulator=-1.0, trace_decay=0.0, max_dw=1.0, max_drift=100.0
    )
    losses = []
    for _ in range(13):
        with EligibilityTape([Synapse(linear, neurons)], signal="gradient") as tape:
            loss = (run(linear, neurons, x) - target).square().sum()
            loss.backward()
            tape.deposit(optimizer)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
