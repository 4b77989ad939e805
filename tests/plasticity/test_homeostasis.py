"""Scaling of neurons by their rates and of edges by their ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.plasticity.homeostasis import (
    RateTracker,
    downscale_edges,
    downscaling_factor,
    scale_neurons,
    scaling_factor,
    track_rate,
)

TARGET = 0.05
# 0.5 and 2 are also the bounds of one step's factor, so that a single clipped step can hit the target by luck
DRIVES = [0.4, 0.5, 0.6, 1.6, 2.0, 2.5]


def settle(
    gamma: float | None, *, elasticity: float = 3.0, drive: float = 0.5, steps: int = 10
) -> list[float]:
    """Rates, in units of the target, of a neuron whose input was scaled by `drive`.

    The rate answers the weight with an elasticity k = dlog r / dlog w; those of our neurons are 1.1 to 6.8.
    """
    weight, rates = torch.ones(1, 1, dtype=torch.float64), []
    chosen = {} if gamma is None else {"gamma": gamma}
    for _ in range(steps):
        rate = (TARGET * (drive * weight[:, 0]) ** elasticity).clamp(max=1.0)
        rates.append(float(rate) / TARGET)
        weight = scale_neurons(weight, rate, target=TARGET, **chosen)
    return rates


def steps_to_settle(gamma: float | None, **setting: float) -> int:
    """The first of 30 steps from which the rate stays within a tenth of the target; 30 when none."""
    away = [n for n, rate in enumerate(settle(gamma, steps=30, **setting)) if abs(rate - 1.0) > 0.1]
    return away[-1] + 1


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("elasticity", [2.0, 2.5, 3.0, 4.0, 5.0])
def test_with_gamma_a_quarter_the_rate_returns_to_target_in_at_most_five_steps(
    drive: float, elasticity: float
) -> None:
    assert abs(settle(0.25, drive=drive, elasticity=elasticity)[0] - 1.0) > 0.3
    assert 1 <= steps_to_settle(0.25, drive=drive, elasticity=elasticity) <= 5


@pytest.mark.parametrize("drive", DRIVES)
@pytest.mark.parametrize("elasticity", [1.1, 2.0, 3.0, 5.0, 6.8])
def test_with_the_default_gamma_it_returns_within_ten_steps_at_any_elasticity_we_measured(
    drive: float, elasticity: float
) -> None:
    assert steps_to_settle(None, drive=drive, elasticity=elasticity) <= 10


def test_a_gamma_above_a_quarter_no_longer_settles_the_most_elastic_neurons() -> None:
    assert steps_to_settle(0.25, drive=0.6, elasticity=6.8) <= 10
    assert steps_to_settle(0.30, drive=0.6, elasticity=6.8) == 30


@pytest.mark.parametrize("elasticity", [2.5, 3.0, 5.0])
def test_with_gamma_one_it_ends_in_a_cycle_of_two_around_the_target(elasticity: float) -> None:
    tail = settle(1.0, drive=0.9, elasticity=elasticity, steps=60)[-6:]
    assert tail[2:] == pytest.approx(tail[:-2], rel=1e-6)
    assert max(tail) > 1.4
    assert min(tail) < 0.7


def test_gamma_times_elasticity_below_two_is_the_border_of_stability() -> None:
    for elasticity in (1.5, 3.0, 6.0):
        calm = settle(1.9 / elasticity, elasticity=elasticity, drive=0.99, steps=120)[-2:]
        assert calm == pytest.approx([1.0, 1.0], abs=1e-3)
        restless = settle(2.1 / elasticity, elasticity=elasticity, drive=0.99, steps=120)[-2:]
        assert abs(restless[1] - restless[0]) > 0.1


def test_a_neurons_weights_keep_their_ranks_and_their_ratios_through_many_steps() -> None:
    weight = torch.rand(1, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.01
    start = weight.clone()
    for _ in range(10):
        rate = TARGET * (0.5 * weight.mean() / start.mean()) ** 3.0
        weight = scale_neurons(weight, rate.reshape(1), target=TARGET)
    assert torch.equal(weight.argsort(), start.argsort())
    log_ratio = (weight / start).log()
    assert float(log_ratio.std() / log_ratio.mean()) < 0.01
    assert float(log_ratio.mean()) > 0.5


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


def uniform(n: int) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


EDGES = {
    "uniform": uniform(1000) + 1e-3,
    "log-normal": torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp(),
    "few": uniform(25) + 1e-3,
    "nearly equal": 0.5 + 1e-9 * uniform(300),
    "of both signs": 2.0 * uniform(500) - 1.0,
}


@pytest.mark.parametrize("kind", EDGES)
def test_a_night_shrinks_edges_by_eighteen_percent_and_spares_the_strongest_fifth(kind: str) -> None:
    weight = EDGES[kind]
    after = downscale_edges(weight)
    change = after / weight - 1
    assert -0.23 < float(change.mean()) < -0.13
    assert float(change.mean()) == pytest.approx(-0.18, abs=1e-9)
    strongest = weight.abs().argsort(descending=True)[: len(weight) // 5]
    assert float(change[strongest].abs().max()) < 0.05
    assert torch.equal(after.abs().argsort(), weight.abs().argsort())
    assert torch.equal(after.argsort(), weight.argsort())
    assert float(change.max()) <= 0.0


def test_the_loss_grows_towards_the_weakest_edge() -> None:
    weight = EDGES["log-normal"].sort().values
    loss = 1.0 - downscaling_factor(weight)
    assert bool((loss[1:] <= loss[:-1]).all())
    assert float(loss[0]) > 0.25


def test_equal_edges_stay_equal_and_the_mean_loss_does_not_depend_on_how_many_are() -> None:
    generator = torch.Generator().manual_seed(2)
    for sizes in (1, 2, 3, 7, 50):
        weight = 0.1 + torch.randint(0, sizes, (60,), generator=generator).double()
        factor = downscaling_factor(weight)
        for size in weight.unique():
            assert factor[weight == size].unique().numel() == 1
        assert float(factor.mean()) == pytest.approx(0.82, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_edges_lose_as_much_on_average(n: int) -> None:
    assert float(downscaling_factor(torch.rand(n)).mean()) == pytest.approx(0.82, abs=1e-6)


def test_no_edges_are_no_fault() -> None:
    assert downscaling_factor(torch.zeros(0)).shape == (0,)
