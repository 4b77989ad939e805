"""BCM: sign by threshold, sliding threshold, stable selectivity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.plasticity.bcm import BCMParams, bcm_phi, bcm_step


def test_activity_below_the_threshold_depresses_and_above_it_potentiates() -> None:
    y = torch.tensor([0.0, 0.5, 1.0, 2.0])
    assert bcm_phi(y, 1.0).tolist() == [0.0, -0.25, 0.0, 2.0]


def test_one_step_follows_the_rule_by_hand() -> None:
    x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0], [1.0]])
    change, theta = bcm_step(x, y, torch.tensor([1.5]), BCMParams(lr=0.1, tau_theta=10.0), dt=2.0)
    # phi = [1.0, -0.5]; mean over the batch of phi * x
    torch.testing.assert_close(change, 0.1 * 2.0 * torch.tensor([[(1.0 - 1.5) / 2, (2.0 - 2.0) / 2]]))
    keep = math.exp(-0.2)
    torch.testing.assert_close(theta, torch.tensor([keep * 1.5 + (1 - keep) * 2.5]))


def crossover(theta: Tensor, params: BCMParams) -> float:
    """The lowest post rate that a step potentiates."""
    rates = torch.linspace(0.01, 5.0, 500)
    changes = [bcm_step(torch.ones(1, 1), y.reshape(1, 1), theta, params)[0] for y in rates]
    return float(rates[torch.cat(changes).flatten() > 0][0])


def crossovers(params: BCMParams, levels: tuple[float, ...]) -> list[float]:
    """After living at each of the levels in turn."""
    theta, found = torch.tensor([1.0]), []
    for level in levels:
        for _ in range(200):
            _, theta = bcm_step(torch.ones(1, 1), torch.full((1, 1), level), theta, params)
        found.append(crossover(theta, params))
    return found


def test_the_crossover_moves_down_when_activity_halves_and_back_when_it_returns() -> None:
    before, deprived, after = crossovers(BCMParams(tau_theta=20.0), (2.0, 1.0, 2.0))
    assert deprived <= 0.8 * before
    assert deprived == pytest.approx(1.0, abs=0.02)  # the mean of y^2
    assert after == pytest.approx(before, abs=0.02)


def test_a_threshold_that_does_not_slide_keeps_its_crossover() -> None:
    before, deprived = crossovers(BCMParams(tau_theta=math.inf), (2.0, 1.0))
    assert before == deprived


def test_with_a_fixed_threshold_weights_run_away_and_with_a_sliding_one_they_do_not() -> None:
    def grown(tau_theta: float) -> float:
        w, theta, params = torch.tensor([[1.2]]), torch.tensor([1.0]), BCMParams(0.02, tau_theta)
        for _ in range(400):
            x = torch.ones(1, 1)
            change, theta = bcm_step(x, x @ w.t(), theta, params)
            w = (w + change).clamp(0.0, 100.0)
        return float(w)

    assert grown(10.0) == pytest.approx(1.0, abs=0.05)
    assert grown(math.inf) == 100.0


def test_a_neuron_becomes_selective_for_one_of_two_patterns_and_stays_bounded() -> None:
    patterns = torch.eye(2)
    w, theta = torch.tensor([[0.55, 0.45]]), torch.tensor([0.5])
    params = BCMParams(lr=0.02, tau_theta=10.0)
    for n in range(4000):
        x = patterns[n % 2].unsqueeze(0)
        change, theta = bcm_step(x, x @ w.t(), theta, params)
        w = (w + change).clamp(min=0.0)
    assert float(w[0, 0]) > 10 * float(w[0, 1])
    assert float(w.max()) < 5.0
