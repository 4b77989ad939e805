"""BCM while a network runs: by hand, against single steps, and on a task that timing solves as well."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from t4dm.plasticity.bcm import BCMParams, bcm_step
from t4dm.plasticity.bcm_tape import BCMTape
from t4dm.plasticity.stdp_tape import STDPTape
from t4dm.plasticity.tape import Synapse
from t4dm.plasticity.three_factor import ThreeFactor

KEEP = math.exp(-1.0 / 8.0)


class Fired(NamedTuple):
    spikes: Tensor


class Threshold(nn.Module):
    """Fires where its current is at least 1; meant to do so at every tenth token."""

    target_rate = 0.1

    def forward(self, current: Tensor) -> Fired:
        return Fired((current >= 1.0).float())


def net(*weights: float) -> tuple[nn.Linear, Threshold, Synapse]:
    linear, neurons = nn.Linear(len(weights), 1, bias=False), Threshold()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([weights]))
    return linear, neurons, Synapse(linear, neurons)


def rates(spikes: Tensor, mask: Tensor | None = None) -> Tensor:
    """In units of the target, token by token."""
    y, found = torch.zeros_like(spikes[:, 0]), []
    for t in range(spikes.shape[1]):
        now = KEEP * y + spikes[:, t] * (1.0 - KEEP) / 0.1
        y = now if mask is None else torch.where(mask[:, t, None], now, y)
        found.append(y)
    return torch.stack(found, 1)


@pytest.mark.parametrize("padded", [False, True])
def test_a_window_leaves_what_bcm_gives_token_by_token(padded: bool) -> None:
    linear, neurons, synapse = net(1.0, 0.8, -1.0)
    x = torch.rand(2, 40, 3, generator=torch.Generator().manual_seed(0))
    mask = None
    if padded:
        mask = torch.rand(2, 40, generator=torch.Generator().manual_seed(1)) > 0.3
        mask[:, 5] = False
    params = BCMParams(lr=1.0, tau_theta=20.0)
    with BCMTape([synapse], params=params) as tape, torch.no_grad():
        tape.window(mask=mask)
        spikes = neurons(linear(x)).spikes
        if mask is not None:
            spikes = spikes * mask.unsqueeze(-1)
    y, theta, total = rates(spikes, mask), torch.ones(1), torch.zeros(1, 3)
    for t in range(40):
        live = torch.ones(2, dtype=torch.bool) if mask is None else mask[:, t]
        if live.any():
            change, theta = bcm_step(x[live, t], y[live, t], theta, params)
            total += change * live.sum()
    up, down = tape.parts[linear]
    torch.testing.assert_close(up - down, total, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tape.theta[0], theta, atol=1e-5, rtol=1e-5)
    assert min(float(up.min()), float(down.min())) > 0.0


def test_thresholds_go_on_from_one_tape_to_the_next() -> None:
    linear, neurons, synapse = net(1.0, 1.0)
    x = torch.rand(1, 30, 2, generator=torch.Generator().manual_seed(2)) * 0.8
    with BCMTape([synapse]) as whole, torch.no_grad():
        neurons(linear(x))
        neurons(linear(x))
    levels = None
    for _ in range(2):
        with BCMTape([synapse], theta=levels) as tape, torch.no_grad():
            neurons(linear(x))
        levels = tape.theta
    assert torch.equal(tape.theta[0], whole.theta[0])
    assert float(tape.theta[0]) != 1.0


def test_a_negative_input_is_depressed_where_a_positive_one_is_potentiated() -> None:
    found = []
    for sign in (1.0, -1.0):
        linear, neurons, synapse = net(sign, 1.0)
        x = torch.tensor([[[0.0, 2.0], [0.5 * sign, 0.0]]])
        with BCMTape([synapse]) as tape, torch.no_grad():
            neurons(linear(x))
        found.append([float(part[0, 0]) for part in tape.parts[linear]])
    assert found[1] == found[0][::-1]
    assert found[0][0] != found[0][1]


@pytest.mark.parametrize("kind", [STDPTape, BCMTape])
def test_either_rule_learns_to_fire_for_the_cue_that_was_there_when_a_teacher_made_it_fire(
    kind: type,
) -> None:
    """A comes before and while the teacher drives the neuron, B when it is falling silent again."""
    linear, neurons, synapse = net(0.5, 0.5, 1.0)
    x = torch.zeros(1, 60, 3)
    x[0, 0:6, 0] = 1.0
    x[0, 2:6, 2] = 1.0
    x[0, 18:30, 1] = 1.0
    rule = ThreeFactor([linear.weight], lr=0.02, max_dw=0.05, max_drift=10.0)
    thresholds: list[Tensor] | None = None
    for _ in range(20):
        extra = {"theta": thresholds} if kind is BCMTape else {}
        with kind([synapse], **extra) as tape, torch.no_grad():
            neurons(linear(x))
        thresholds = tape.theta if isinstance(tape, BCMTape) else None
        tape.deposit(rule)
        rule.set_modulator(1.0, depress=1.0)
        rule.step()
        with torch.no_grad():
            linear.weight[0, 2] = 1.0  # the teacher does not learn
    cue, other, _ = linear.weight.detach()[0].tolist()
    assert cue >= 1.0  # fires by itself
    assert other < 0.5  # and for B less than ever
    rule.set_modulator(0.0, depress=0.0)
    before = linear.weight.detach().clone()
    rule.step()
    assert torch.equal(linear.weight.detach(), before)  # without a modulator nothing is cashed in
