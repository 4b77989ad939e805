"""Scaling of neurons by their rates and of edges by their ranks."""

from __future__ import annotations

import pytest
import torch

from t4dm.plasticity.homeostasis import (
    RateTracker,
    downscale_edges,
    downscaling_factor,
    scale_neurons,
    scaling_factor,
    track_rate,
)

TARGET = 0.05


def settle(gamma: float, *, elasticity: float = 3.0, drive: float = 0.5, steps: int = 10) -> list[float]:
    """Rates of a neuron whose rate answers its weight with the given elasticity, input scaled by `drive`."""
    weight, rates = torch.ones(1, 1), []
    for _ in range(steps):
        rate = (TARGET * (drive * weight[:, 0]) ** elasticity).clamp(max=1.0)
        rates.append(float(rate))
        weight = scale_neurons(weight, rate, target=TARGET, gamma=gamma)
    return rates


@pytest.mark.parametrize("drive", [0.5, 2.0])
def test_the_rate_returns_to_target_within_ten_steps(drive: float) -> None:
    rates = settle(0.2, drive=drive)
    assert abs(rates[0] / TARGET - 1) > 0.5
    assert abs(rates[-1] / TARGET - 1) < 0.1


def test_with_gamma_one_it_never_settles() -> None:
    rates = settle(1.0, drive=0.8, steps=40)
    tail = [rate / TARGET for rate in rates[-6:]]
    assert max(tail) > 1.5
    assert min(tail) < 0.67


def test_scaling_is_multiplicative_clipped_and_keeps_ranks_within_a_neuron() -> None:
    weight = torch.tensor([[0.1, 0.3, -0.2], [1.0, 2.0, 3.0]])
    scaled = scale_neurons(weight, torch.tensor([0.0, 1.0]), target=TARGET)
    ratio = scaled / weight
    torch.testing.assert_close(ratio, ratio[:, :1].expand(2, 3))
    assert torch.equal(scaled.argsort(dim=1), weight.argsort(dim=1))
    assert scaling_factor(torch.tensor([0.0, TARGET, 1.0]), gamma=5.0).tolist() == [2.0, 1.0, 0.5]


def test_a_rate_is_averaged_without_bias_at_first_and_forgotten_later() -> None:
    tracker = RateTracker(torch.zeros(1))
    for mean in (0.1, 0.3):
        tracker = track_rate(tracker, torch.tensor([mean]), 100.0)
    assert float(tracker.rate) == pytest.approx(0.2, rel=1e-5)
    for _ in range(50):
        tracker = track_rate(tracker, torch.tensor([0.7]), 5000.0)
    assert float(tracker.rate) == pytest.approx(0.7, rel=1e-3)


def test_a_night_shrinks_edges_by_eighteen_percent_and_spares_the_strongest_fifth() -> None:
    weight = torch.rand(1000, generator=torch.Generator().manual_seed(0)) ** 2 + 0.01
    after = downscale_edges(weight)
    change = after / weight - 1
    assert -0.23 < float(change.mean()) < -0.13
    assert float(change.mean()) == pytest.approx(-0.18, abs=0.005)
    strongest = weight.argsort(descending=True)[:200]
    assert float(change[strongest].abs().max()) < 0.05
    assert torch.equal(after.argsort(), weight.argsort())
    assert float(change.max()) <= 0.0


def test_equal_edges_stay_equal_and_few_edges_do_not_fail() -> None:
    assert downscale_edges(torch.tensor([0.5, 0.5, 0.5])).unique().numel() == 1
    assert downscaling_factor(torch.zeros(0)).shape == (0,)
    assert 0.0 < float(downscale_edges(torch.tensor([0.4]))) < 0.4
