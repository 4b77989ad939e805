"""How often the neurons fire: under constant current, under noise, and after calibration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import CalibrationError
from t4dm.spiking.context import PLAIN, make_context
from t4dm.spiking.lif import LIFParams, LIFState, lif_scan
from t4dm.spiking.neuron import Neurons, mean_rate

WIDTH = 64


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("drive", [1.2, 1.5, 3.0])
def test_in_small_steps_the_interval_is_the_one_of_the_differential_equation(drive: float) -> None:
    tau = 400.0  # steps; R*I in units of theta is `drive`
    alpha = torch.tensor([math.exp(-1.0 / tau)], dtype=torch.float64)
    current = torch.full((1, 4000, 1), drive, dtype=torch.float64) * (1.0 - alpha)
    spikes, _ = lif_scan(current, None, LIFParams(alpha))
    intervals = spikes.flatten().nonzero().flatten().diff()
    assert len(intervals) >= 3
    expected = tau * math.log(drive / (drive - 1.0))
    assert (intervals - expected).abs().max() <= 1.0


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.95])
def test_a_soft_reset_fires_as_a_hard_one_when_rare_and_more_when_driven(alpha: float) -> None:
    def rates(current: float) -> tuple[float, float]:
        decay = torch.tensor([alpha], dtype=torch.float64)
        soft, _ = lif_scan(torch.full((1, 2000, 1), current, dtype=torch.float64), None, LIFParams(decay))
        u, fired = 0.0, 0
        for _ in range(2000):
            u = alpha * u + current
            fired, u = (fired + 1, 0.0) if u >= 1.0 else (fired, u)
        return float(soft.mean()), fired / 2000

    rare, driven = rates(1.001 * (1.0 - alpha)), rates(0.9)
    assert rare[0] == pytest.approx(rare[1], rel=0.03)
    assert driven[0] > 1.04 * driven[1]


@pytest.mark.parametrize(("alpha", "deviation"), [(0.5, 0.58), (0.75, 0.53), (0.9, 0.53)])
def test_five_percent_of_noise_takes_the_deviation_that_theory_gives(alpha: float, deviation: float) -> None:
    spikes, _ = lif_scan(deviation * noise(8, 2000, 16, seed=0), None, LIFParams(torch.full((16,), alpha)))
    assert 0.045 < float(spikes[:, 100:].mean()) < 0.055


@pytest.mark.parametrize("scale", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("shape", ["white", "correlated", "skewed"])
def test_after_one_pass_unseen_currents_fire_at_three_to_eight_percent(scale: float, shape: str) -> None:
    def currents(seed: int) -> Tensor:
        x = noise(4, 96, WIDTH, seed=seed)
        if shape == "correlated":
            x = x + 0.5 * x.cumsum(1) / 96**0.5
        return scale * (x.exp() - 1.0 if shape == "skewed" else x)

    torch.manual_seed(0)
    neurons, rest = Neurons(width=WIDTH), LIFState(torch.zeros(4, WIDTH))
    neurons.calibrate(currents(1), rest, PLAIN)
    for seed in (2, 3):
        out = neurons(currents(seed), rest, PLAIN, "layer")
        assert 0.03 < float(out.spikes.detach().mean()) < 0.08


def test_calibration_counts_the_valid_tokens_alone() -> None:
    torch.manual_seed(0)
    neurons, rest = Neurons(width=WIDTH), LIFState(torch.zeros(2, WIDTH))
    mask = torch.zeros(2, 200, dtype=torch.bool)
    mask[:, :60] = True
    context = make_context(mask=mask)
    current = noise(2, 200, WIDTH, seed=1)
    reached = neurons.calibrate(current, rest, context)
    out = neurons(current, rest, context, "layer")
    assert reached == pytest.approx(neurons.target_rate, abs=0.002)
    assert float(out.spikes.detach()[mask].mean()) == pytest.approx(reached, abs=0.002)
    assert float(mean_rate(out.spikes, context).mean()) == pytest.approx(reached, abs=0.002)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 30.0, 1e3, 1e6])
def test_calibration_reaches_its_target_whatever_the_size_of_the_current(scale: float) -> None:
    torch.manual_seed(0)
    neurons, rest = Neurons(width=WIDTH), LIFState(torch.zeros(2, WIDTH))
    current = scale * noise(2, 128, WIDTH, seed=1)
    assert neurons.calibrate(current, rest, PLAIN) == pytest.approx(0.05, abs=0.002)
    assert float(neurons(current, rest, PLAIN, "layer").spikes.detach().mean()) == pytest.approx(
        0.05, abs=0.002
    )
    assert 0.3 < float(neurons.log_gain.detach().exp().mean()) * scale < 0.8


def test_every_neuron_is_centred_and_scaled_by_itself() -> None:
    torch.manual_seed(0)
    neurons, rest = Neurons(width=WIDTH), LIFState(torch.zeros(4, WIDTH))
    size, offset = torch.logspace(-2, 2, WIDTH), torch.linspace(-50.0, 50.0, WIDTH)
    neurons.calibrate(size * noise(4, 128, WIDTH, seed=1) + offset, rest, PLAIN)
    assert float(((neurons.centre - offset) / size).abs().max()) < 0.3
    fired = neurons(size * noise(4, 128, WIDTH, seed=2) + offset, rest, PLAIN, "layer").spikes.detach()
    rates = fired.mean(dim=(0, 1))
    assert float(rates.min()) > 0.01
    assert float(rates.max()) < 0.1


def test_the_centre_is_a_median_which_one_huge_token_does_not_move() -> None:
    neurons, current = Neurons(width=WIDTH), noise(4, 128, WIDTH, seed=1)
    current[:, 0] += 1000.0
    neurons.calibrate(current, LIFState(torch.zeros(4, WIDTH)), PLAIN)
    assert float(neurons.centre.abs().max()) < 0.3


@pytest.mark.parametrize(
    "current", [torch.zeros(1, 64, 4), torch.full((1, 64, 4), -2.0), torch.tensor([[[1.0, -1.0, 2.0, -2.0]]])]
)
def test_a_current_that_no_gain_brings_to_the_target_is_an_error_and_changes_nothing(current: Tensor) -> None:
    neurons = Neurons(width=4)
    before = {name: value.clone() for name, value in neurons.state_dict().items()}
    with pytest.raises(
        CalibrationError, match=r"qk fires at 0.0% instead of 5.0% whatever its gain; calibrate on"
    ):
        neurons.calibrate(current, LIFState(torch.zeros(1, 4)), PLAIN, "qk")
    assert all(torch.equal(value, before[name]) for name, value in neurons.state_dict().items())


def test_calibration_leaves_no_gradient_and_does_not_freeze_the_gain() -> None:
    neurons, current = Neurons(width=WIDTH), 3.0 * noise(2, 64, WIDTH, seed=1)
    neurons.calibrate(current.requires_grad_(), LIFState(torch.zeros(2, WIDTH)), PLAIN)
    assert current.grad is None
    assert neurons.log_gain.grad is None
    assert neurons.log_gain.requires_grad
    assert neurons.log_gain.is_leaf


def test_the_twin_takes_the_gains_that_make_spiking_neurons_fire_at_the_target() -> None:
    calibrated = []
    for kind in ("lif", "gelu"):
        torch.manual_seed(0)
        neurons = Neurons(width=WIDTH, neuron=kind)
        neurons.calibrate(noise(2, 128, WIDTH, seed=1), LIFState(torch.zeros(2, WIDTH)), PLAIN)
        calibrated.append(neurons.state_dict())
    for name, value in calibrated[0].items():
        assert torch.equal(value, calibrated[1][name]), name
