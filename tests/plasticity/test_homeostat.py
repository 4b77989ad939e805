"""Scaling of real LIF layers: they return to their rate, or cycle where gamma is 1."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import SettingError
from t4dm.plasticity.homeostat import Homeostat
from t4dm.spiking.context import PLAIN
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.state import LIFState

WIDTH, BATCH, STEPS = 8, 16, 256


def layer() -> Neurons:
    torch.manual_seed(0)
    return Neurons(width=WIDTH, gain=0.55, target_rate=0.05)


def live(neurons: Neurons, day: int) -> Tensor:
    """A day of 4096 tokens of Gaussian current; each neuron's rate in units of the target, `[D]`."""
    current = torch.randn(BATCH, STEPS, WIDTH, generator=torch.Generator().manual_seed(day))
    with torch.no_grad():
        spikes = neurons(current, LIFState(torch.zeros(BATCH, WIDTH)), PLAIN, "layer").spikes
    return spikes.mean(dim=(0, 1)) / neurons.target_rate


def days(gamma: float, *, drive: float, count: int) -> Tensor:
    """Rates `[days, D]` of neurons whose input was scaled by `drive` before the first."""
    neurons, rates = layer(), []
    with torch.no_grad():
        neurons.log_gain.add_(math.log(drive))
    homeostat = Homeostat([neurons], least_tokens=1000)
    homeostat.gamma = gamma  # for the control also past what the constructor takes
    with homeostat:
        for day in range(count):
            rates.append(live(neurons, day))
            homeostat.scale()
    return torch.stack(rates)


@pytest.mark.parametrize("drive", [0.5, 2.0])
def test_after_its_input_was_halved_or_doubled_a_layer_returns_to_its_rate_in_ten_mornings(
    drive: float,
) -> None:
    rates = days(0.2, drive=drive, count=13)
    mean = rates.mean(dim=1)
    assert abs(float(mean[0]) - 1.0) > 0.5
    assert bool((mean[10:] - 1.0).abs().max() <= 0.1)
    assert float((rates[10:] - 1.0).square().mean().sqrt()) < 0.15  # 4096 tokens cannot tell closer


def test_with_gamma_one_neurons_swing_ever_further_from_it() -> None:
    """Each by itself, so that the layer's mean hides it: here the elasticity of a rate is about 2."""
    calm, restless = (days(gamma, drive=0.5, count=14)[-6:] for gamma in (0.2, 1.0))
    assert float((calm - 1.0).abs().max()) < 0.3
    assert float(restless.max()) > 1.6
    assert float(restless.min()) < 0.6
    turns = (restless[1:] - 1.0) * (restless[:-1] - 1.0) < 0.0
    assert float(turns.float().mean()) > 0.7


@pytest.mark.parametrize("gamma", [0.2501, 1.0, 0.0, -0.2, math.nan])
def test_a_gamma_at_which_rates_do_not_settle_is_refused(gamma: float) -> None:
    with pytest.raises(SettingError, match=r"phase.homeostasis=.* at most 0.25: \+\+phase.homeostasis=0.2$"):
        Homeostat([layer()], gamma=gamma)
    assert Homeostat([layer()], gamma=0.25).gamma == 0.25


def test_a_morning_moves_each_gain_by_the_clipped_power_of_its_own_rate() -> None:
    neurons = layer()
    homeostat = Homeostat([neurons], gamma=0.2, least_tokens=1000)
    with homeostat:
        live(neurons, 0)
    rate, before = homeostat.trackers[0].rate.clone(), neurons.log_gain.detach().clone()
    step = homeostat.scale()
    expected = (0.05 / rate.clamp(min=1e-3)).pow(0.2).clamp(0.5, 2.0).log()
    torch.testing.assert_close(neurons.log_gain.detach() - before, expected, atol=1e-6, rtol=1e-4)
    assert step == pytest.approx(float(expected.abs().mean()))
    assert homeostat.trackers[0].tokens == 0.0


def test_too_few_tokens_scale_nothing_and_go_on_counting() -> None:
    neurons = layer()
    homeostat = Homeostat([neurons])
    before = neurons.log_gain.detach().clone()
    with homeostat:
        live(neurons, 0)
    assert homeostat.scale() == 0.0
    assert torch.equal(neurons.log_gain.detach(), before)
    assert homeostat.trackers[0].tokens == BATCH * STEPS
    live(neurons, 1)  # outside, nothing is counted
    assert homeostat.trackers[0].tokens == BATCH * STEPS


def test_padding_is_not_silence() -> None:
    neurons = layer()
    current = torch.full((1, 40, WIDTH), 2.0)
    mask = torch.arange(40).unsqueeze(0) < 10
    state = LIFState(torch.zeros(1, WIDTH))
    with Homeostat([neurons]) as homeostat:
        homeostat.window(mask=mask)
        spikes = neurons(current, state, PLAIN._replace(mask=mask), "layer").spikes
    assert homeostat.trackers[0].tokens == 10
    torch.testing.assert_close(homeostat.trackers[0].rate, spikes[0, :10].mean(dim=0).detach())
    assert float(homeostat.trackers[0].rate.min()) > 0.1


def test_what_was_counted_survives_a_checkpoint() -> None:
    neurons = layer()
    with Homeostat([neurons]) as homeostat:
        live(neurons, 0)
    copy = Homeostat([neurons])
    copy.load_state_dict(homeostat.state_dict())
    assert torch.equal(copy.trackers[0].rate, homeostat.trackers[0].rate)
    assert copy.trackers[0].tokens == homeostat.trackers[0].tokens
