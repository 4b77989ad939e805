"""Three-factor learning against autograd: a layer of neurons written as a plain loop is the judge."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from t4dm.plasticity.eligibility_tape import EligibilityTape
from t4dm.plasticity.tape import Synapse
from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.spiking.stack import CorticalStack

INPUTS, OUTPUTS = 6, 5


class Output(NamedTuple):
    spikes: Tensor
    membrane: Tensor


class LoopNeurons(nn.Module):
    """LIF with a leak of its own for every neuron; all gradients are left to autograd.

    The surrogate is atan(pi x) / pi, by adding it and taking it away again without a gradient.
    """

    def __init__(self, decay: Tensor, *, detach_reset: bool = True) -> None:
        super().__init__()
        self.decay = decay
        self.detach_reset = detach_reset

    def forward(self, current: Tensor, mask: Tensor | None = None, reset: Tensor | None = None) -> Output:
        u, spikes, membranes = torch.zeros_like(current[:, 0]), [], []
        for t in range(current.shape[1]):
            before = u if reset is None else u * ~reset[:, t, None]
            h = self.decay * before + current[:, t]
            soft = torch.atan(math.pi * (h - 1.0)) / math.pi
            s = (h >= 1.0).to(h.dtype) + soft - soft.detach()
            u = h - (s.detach() if self.detach_reset else s)
            if mask is not None:
                s, u = s * mask[:, t, None], torch.where(mask[:, t, None], u, before)
            spikes.append(s)
            membranes.append(h)
        return Output(torch.stack(spikes, 1), torch.stack(membranes, 1))

    def leak(self) -> Tensor:
        return self.decay

    def sensitivity(self, output: Output) -> Tensor:
        return 1.0 / (1.0 + (math.pi * (output.membrane - 1.0)).square())

    def modulated_gain(self, output: Output) -> None:
        return None


def layer(*, detach_reset: bool = True) -> tuple[nn.Linear, LoopNeurons]:
    torch.manual_seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=False).double()
    with torch.no_grad():
        linear.weight.mul_(2.5)
    decay = torch.tensor([0.1, 0.5, 0.8, 0.95, 0.99], dtype=torch.float64)
    return linear, LoopNeurons(decay, detach_reset=detach_reset)


def loss_of(spikes: Tensor) -> Tensor:
    target = torch.rand(spikes.shape, generator=torch.Generator().manual_seed(1), dtype=spikes.dtype)
    return (spikes - target).square().sum() + spikes[:, 1:].mul(spikes[:, :-1]).sum()


def relative_error(
    linear: nn.Linear, neurons: LoopNeurons, mask: Tensor | None = None, reset: Tensor | None = None
) -> float:
    """Of the eligibility with the exact learning signal, against the gradient of the weight."""
    x = torch.randn(3, 40, INPUTS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with EligibilityTape([Synapse(linear, neurons)], signal="gradient") as tape:
        tape.window(mask=mask, reset=reset)
        spikes = neurons(linear(x), mask=mask, reset=reset).spikes
        assert 0.05 < float(spikes.detach().mean()) < 0.8
        loss_of(spikes).backward()
    assert linear.weight.grad is not None
    return float((tape.eligibility[linear] - linear.weight.grad).norm() / linear.weight.grad.norm())


def test_with_the_exact_learning_signal_eligibility_is_the_gradient_for_any_leaks() -> None:
    assert relative_error(*layer()) <= 1e-12


def test_it_is_with_padding_and_document_starts_too() -> None:
    generator = torch.Generator().manual_seed(3)
    mask, reset = (torch.rand(3, 40, generator=generator) > bound for bound in (0.3, 0.8))
    assert relative_error(*layer(), mask=mask, reset=reset) <= 1e-12


def test_it_is_not_when_the_gradient_also_runs_through_the_reset() -> None:
    assert relative_error(*layer(detach_reset=False)) > 0.01


def test_it_is_not_when_the_tape_believes_in_one_mean_leak() -> None:
    linear, neurons = layer()
    mean = neurons.decay.mean().expand(OUTPUTS)
    neurons.leak = lambda: mean  # type: ignore[method-assign]
    assert relative_error(linear, neurons) > 0.01


@pytest.mark.parametrize("modulator", [-1.0, 1.0])
def test_a_step_of_the_optimizer_is_a_step_along_the_gradient_and_turns_with_the_modulator(
    modulator: float,
) -> None:
    linear, neurons = layer()
    before, lr = linear.weight.detach().clone(), 1e-3
    optimizer = ThreeFactor([linear.weight], lr=lr, modulator=modulator, max_dw=1.0, max_drift=10.0)
    with EligibilityTape([Synapse(linear, neurons)], signal="gradient") as tape:
        loss_of(neurons(linear(torch.rand(2, 30, INPUTS, dtype=torch.float64))).spikes).backward()
        tape.deposit(optimizer)
    optimizer.step()
    assert linear.weight.grad is not None
    expected = modulator * lr * linear.weight.grad
    error = (linear.weight.detach() - before - expected).norm() / expected.norm()
    assert float(error) <= 1e-12


def test_eligibility_decays_by_lambda_per_token_from_the_input_that_left_it() -> None:
    linear, neurons = layer()
    x = torch.zeros(1, 10, INPUTS, dtype=torch.float64)
    x[0, 0] = 0.1
    neurons.decay = torch.zeros(OUTPUTS, dtype=torch.float64)  # nothing but lambda carries over time
    found = {}
    for decay in (1.0, 0.8):
        with EligibilityTape([Synapse(linear, neurons)], trace_decay=decay) as tape, torch.no_grad():
            neurons(linear(x))
        found[decay] = tape.eligibility[linear]
    torch.testing.assert_close(found[0.8], 0.8**9 * found[1.0], rtol=1e-12, atol=0.0)


def test_in_a_stack_of_six_blocks_it_points_where_the_gradient_does() -> None:
    """Exactly for queries and keys, which act by spikes alone; compartments also act by their currents."""
    torch.manual_seed(0)
    stack = CorticalStack(width=32, blocks=6, heads=2, capsules=4)
    x, target = torch.randn(2, 4, 24, 32)
    with EligibilityTape(stack.synapses(), signal="gradient") as tape:
        (stack(x).h - target).square().sum().backward()
    linears = [synapse.linear for synapse in stack.synapses()]
    pairs = [(tape.eligibility[one].flatten(), one.weight.grad.flatten()) for one in linears]
    found, wanted = (torch.cat(side) for side in zip(*pairs, strict=True))
    assert float(torch.cosine_similarity(found, wanted, dim=0)) >= 0.5
    assert min(float(torch.cosine_similarity(*pair, dim=0)) for pair in pairs[::3]) >= 1.0 - 1e-5
