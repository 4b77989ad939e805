"""Two traces per synapse while a network runs, against the step-by-step rule."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from t4dm.plasticity.eligibility_tape import EligibilityTape
from t4dm.plasticity.stdp import STDPParams, init_traces, stdp_parts
from t4dm.plasticity.stdp_tape import STDPTape
from t4dm.plasticity.tape import Synapse
from t4dm.plasticity.three_factor import ThreeFactor

RULE = STDPParams(a_plus=1.0, a_minus=0.35, tau_plus=4.0, tau_minus=8.0, a3_plus=0.2, tau_y=6.0)


class Fired(NamedTuple):
    spikes: Tensor


class Threshold(nn.Module):
    def forward(self, current: Tensor) -> Fired:
        return Fired((current > 0.3).float())

    def leak(self) -> Tensor:
        return torch.full((4,), 0.5)

    def sensitivity(self, output: Fired) -> Tensor:
        return torch.ones_like(output.spikes)

    def modulated_gain(self, output: Fired) -> None:
        return None


def net(inputs: int = 3, outputs: int = 4) -> tuple[nn.Linear, Threshold, Synapse]:
    torch.manual_seed(0)
    linear, neurons = nn.Linear(inputs, outputs, bias=False), Threshold()
    return linear, neurons, Synapse(linear, neurons)


def by_steps(
    x: Tensor, spikes: Tensor, decay: float, mask: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One sequence `[T, N]`, a token at a time."""
    size = (spikes.shape[1], x.shape[1])
    plus, minus = torch.zeros(size), torch.zeros(size)
    on, off = init_traces(1, x.shape[1], spikes.shape[1]), init_traces(1, x.shape[1], spikes.shape[1])
    for t in range(len(x)):
        plus, minus = decay * plus, decay * minus
        if reset is not None and reset[t]:
            on, off = (init_traces(1, x.shape[1], spikes.shape[1]) for _ in range(2))
        if mask is not None and not mask[t]:
            continue
        up_on, down_on, on = stdp_parts(x[None, t].clamp(min=0), spikes[None, t], None, on, RULE, 1.0)
        up_off, down_off, off = stdp_parts(-x[None, t].clamp(max=0), spikes[None, t], None, off, RULE, 1.0)
        plus, minus = plus + up_on + down_off, minus + down_on + up_off
    return plus, minus


@pytest.mark.parametrize("decay", [1.0, 0.9])
@pytest.mark.parametrize("packed", [False, True])
def test_a_window_leaves_what_the_rule_gives_token_by_token(decay: float, packed: bool) -> None:
    linear, neurons, synapse = net()
    x = torch.randn(2, 13, 3, generator=torch.Generator().manual_seed(1))
    mask = reset = None
    if packed:
        mask, reset = torch.ones(2, 13, dtype=torch.bool), torch.zeros(2, 13, dtype=torch.bool)
        mask[0, :3] = mask[1, 6] = mask[1, 11:] = False
        reset[0, 7] = reset[1, 4] = True
    with STDPTape([synapse], params=RULE, trace_decay=decay) as tape:
        tape.window(mask=mask, reset=reset)
        spikes = neurons(linear(x)).spikes
    up, down = tape.parts[linear]
    rows = [
        by_steps(
            x[b], spikes[b], decay, None if mask is None else mask[b], None if reset is None else reset[b]
        )
        for b in range(2)
    ]
    torch.testing.assert_close(up, rows[0][0] + rows[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(down, rows[0][1] + rows[1][1], atol=1e-5, rtol=1e-5)
    assert float(up.min()) >= 0.0
    assert float(down.min()) >= 0.0
    assert float(up.max()) > 0.1


def test_a_negative_input_that_leads_is_depressed_as_a_positive_one_is_potentiated() -> None:
    linear, neurons, synapse = net(inputs=1, outputs=1)
    found = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            linear.weight.fill_(sign)
        x = torch.zeros(1, 6, 1)
        x[0, 2] = 0.2 * sign  # too small to fire by itself
        x[0, 4] = 0.5 * sign
        with STDPTape([synapse], params=RULE) as tape:
            neurons(linear(x))
        found.append(tuple(float(part) for part in tape.parts[linear]))
    assert found[0][0] > found[0][1] == 0.0
    assert found[1] == (found[0][1], found[0][0])


def test_both_traces_are_handed_over_and_cashed_in_apart() -> None:
    linear, neurons, synapse = net()
    x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(2))
    rule = ThreeFactor([linear.weight], lr=0.1, max_dw=10.0, max_drift=10.0)
    with STDPTape([synapse], params=RULE) as tape:
        neurons(linear(x))
    up, down = tape.parts[linear]
    tape.deposit(rule, scale=0.5)
    start = linear.weight.detach().clone()
    for potentiate, depress, expected in ((1.0, 0.0, 0.05 * up), (0.0, 1.0, -0.05 * down)):
        rule.set_modulator(potentiate, depress=depress)
        rule.step()
        torch.testing.assert_close(linear.weight.detach() - start, expected, atol=1e-6, rtol=1e-5)
        start = linear.weight.detach().clone()


@pytest.mark.parametrize("kind", [STDPTape, EligibilityTape])
def test_a_pass_through_many_layers_is_one_stretch_of_time(kind: type) -> None:
    """A trace that fades by 0.5 a token keeps 0.5^7 of itself over a window of 7, not 0.5^14."""
    (one, first, a), (two, second, b) = net(4, 4), net(4, 4)
    rule = ThreeFactor([one.weight, two.weight])
    rule.deposit(one.weight, torch.ones(4, 4))
    x = torch.zeros(1, 7, 4)
    with kind([a, b], trace_decay=0.5) as tape:
        first(one(x))
        second(two(x))
    assert tape.tokens == 7
    tape.deposit(rule)
    torch.testing.assert_close(rule.state[one.weight]["eligibility"], torch.full((4, 4), 0.5**7))
