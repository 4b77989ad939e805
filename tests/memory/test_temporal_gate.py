"""tau(t): opens, closes, keeps a write rate, and learns what is worth keeping."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from t4dm.errors import GateStateError
from t4dm.memory.temporal_gate import TemporalGate


def _settled(gate: TemporalGate, *, moments: int = 500, seed: int = 0) -> TemporalGate:
    gate(np.random.default_rng(seed).normal(size=(moments, len(gate.weights))))
    return gate


def test_an_average_moment_gets_sigmoid_of_the_bias() -> None:
    gate = TemporalGate(bias=-2.0)
    gate(np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]))
    tau = gate(np.array([[1.0, 1.0, 1.0]]), update=False)
    assert tau[0] == pytest.approx(1 / (1 + math.exp(2.0)), rel=1e-6)


def test_tau_is_the_hand_computed_sigmoid() -> None:
    """Two moments 0 and 2 in each feature: mean 1, deviation 1; the moment (2, 0, 1) has z = (1, -1, 0)."""
    gate = TemporalGate(weights=(1.5, 0.5, 9.0), bias=-2.0)
    gate(np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]))
    tau = gate(np.array([[2.0, 0.0, 1.0]]), update=False)
    assert tau[0] == pytest.approx(1 / (1 + math.exp(1.0)), rel=1e-6)


def test_z_scores_follow_their_running_mean_and_deviation() -> None:
    """decay 0.5: after 0 and 2 the mean is 1 and the variance 1; after 4 as well 2.5 and 2.75."""
    gate = TemporalGate(weights=(1.0, 0.0, 0.0), bias=-2.0, decay=0.5)
    for error in (0.0, 2.0, 4.0):
        last = gate(np.array([[error, 0.0, 0.0]]))
    z = (4.0 - 2.5) / math.sqrt(2.75)
    assert last[0] == pytest.approx(1 / (1 + math.exp(2.0 - z)), rel=1e-6)


def test_the_bias_moves_by_its_rate_towards_the_target_share() -> None:
    """One of four moments passes where one in ten may: b falls by 4 * 0.02 * (0.25 - 0.1)."""
    gate = TemporalGate(weights=(10.0, 0.0, 0.0), bias=-2.0, target_rate=0.1, bias_rate=0.02)
    moments = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    assert (gate(moments) >= 0.5).sum() == 1
    assert gate.bias == pytest.approx(-2.0 - 0.08 * 0.15)
    shut = TemporalGate(weights=(0.0, 0.0, 0.0), bias=-2.0, target_rate=0.1, bias_rate=0.02)
    shut(moments)
    assert shut.bias == pytest.approx(-2.0 + 0.08 * 0.1)


def test_the_gate_closes_and_opens() -> None:
    """Non-negative features alone, without bias and z-scores, could never go below one half."""
    gate = _settled(TemporalGate())
    dull, striking = gate(np.array([[-1.0, -1.0, -1.0], [3.0, 3.0, 3.0]]), update=False)
    assert dull < 0.05
    assert striking > 0.9


def test_non_negative_features_can_close_the_gate() -> None:
    gate = TemporalGate()
    gate(np.abs(np.random.default_rng(1).normal(size=(500, 3))))
    assert gate(np.zeros((1, 3)), update=False)[0] < 0.5


@pytest.mark.parametrize(("batch", "steps"), [(1, 6000), (16, 400), (512, 60)])
def test_the_write_rate_reaches_its_target(batch: int, steps: int) -> None:
    rng = np.random.default_rng(2)
    gate = TemporalGate(target_rate=0.1, bias_rate=0.02)
    shares = [(gate(rng.gamma(2.0, 3.0, size=(batch, 3))) >= 0.5).mean() for _ in range(steps)]
    assert np.mean(shares[steps // 2 :]) == pytest.approx(0.1, abs=0.03)


def test_the_target_rate_survives_a_change_of_scale() -> None:
    rng = np.random.default_rng(3)
    gate = TemporalGate(target_rate=0.2, decay=0.99)
    for _ in range(300):
        gate(rng.gamma(2.0, 1.0, size=(16, 3)))
    shares = [(gate(100 + 50 * rng.gamma(2.0, 1.0, size=(16, 3))) >= 0.5).mean() for _ in range(300)]
    assert np.mean(shares[150:]) == pytest.approx(0.2, abs=0.04)


def test_learning_separates_useful_from_useless_features() -> None:
    """Whether an item is used depends on feature 1 alone; the weights start equal and wrong."""
    rng = np.random.default_rng(4)
    gate = TemporalGate(weights=(0.5, 0.5, 0.5, 0.5), target_rate=0.3)
    for _ in range(300):
        features = rng.normal(loc=5.0, scale=2.0, size=(32, 4))
        gate(features)
        gate.learn(features, rng.random(32) < 1 / (1 + np.exp(-(features[:, 1] - 5.0))))
    # Feature 1 has deviation 2, so the true weight of its z-score is 2.
    assert gate.weights[1] == pytest.approx(2.0, abs=0.35)
    assert np.abs(gate.weights[[0, 2, 3]]).max() < 0.25
    probe = rng.normal(loc=5.0, scale=2.0, size=(2000, 4))
    tau = gate(probe, update=False)
    useful = probe[:, 1] > 6.0
    assert tau[useful].mean() > 3 * tau[~useful].mean()


def test_a_learned_gate_forecasts_better_than_the_first_guess() -> None:
    rng = np.random.default_rng(5)
    gate = _settled(TemporalGate(weights=(0.0, 1.0, 0.0)))
    losses = []
    for _ in range(200):
        features = rng.normal(size=(32, 3))
        losses.append(gate.learn(features, features[:, 0] > 0.5))
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])


def test_the_loss_of_learning_is_the_cross_entropy() -> None:
    gate = TemporalGate(bias=0.0)
    assert gate.learn(np.zeros((4, 3)), [1, 0, 1, 1]) == pytest.approx(math.log(2))


def test_without_a_target_rate_the_bias_is_learned_too() -> None:
    gate = _settled(TemporalGate(weights=(0.0, 0.0, 0.0), bias=-2.0, learning_rate=0.5))
    for _ in range(400):
        gate.learn(np.zeros((8, 3)), [1, 1, 1, 1, 1, 1, 0, 0])
    # Six of eight are used: the log-odds are ln 3.
    assert gate.bias == pytest.approx(math.log(3), abs=0.15)


def test_a_constant_feature_says_nothing() -> None:
    gate = TemporalGate(weights=(1.0, 1.0, 1.0))
    features = np.column_stack([np.arange(10.0), np.full(10, 1e9), np.zeros(10)])
    assert np.isfinite(gate(features)).all()
    low, high = gate(np.array([[4.5, 1e9, 0.0], [4.5, 2e9, 7.0]]), update=False)
    assert low == high


def test_evaluation_leaves_the_gate_as_it_was() -> None:
    gate = _settled(TemporalGate(target_rate=0.1))
    before = gate.state_dict()
    gate(np.full((5, 3), 9.0), update=False)
    assert gate.state_dict() == before


def test_batches_and_single_moments_give_the_same_statistics() -> None:
    features = np.random.default_rng(6).normal(3.0, 2.0, size=(64, 3))
    whole, single = TemporalGate(decay=1.0), TemporalGate(decay=1.0)
    whole(features)
    for row in features:
        single(row[None])
    np.testing.assert_allclose(whole.state_dict()["mean"], features.mean(axis=0))
    np.testing.assert_allclose(single.state_dict()["mean"], features.mean(axis=0))
    np.testing.assert_allclose(single.state_dict()["variance"], features.var(axis=0))


def test_the_state_is_plain_and_restores_the_gate() -> None:
    gate = _settled(TemporalGate(target_rate=0.1))
    gate.learn(np.ones((2, 3)), [1, 0])
    copy = TemporalGate(target_rate=0.1)
    copy.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    features = np.random.default_rng(7).normal(size=(9, 3))
    np.testing.assert_array_equal(copy(features), gate(features))
    assert copy.state_dict() == gate.state_dict()


def test_tensors_are_accepted() -> None:
    gate = TemporalGate()
    assert gate(torch.zeros(4, 3)).shape == (4,)
    assert gate.write_rate == 0.0


def test_a_state_with_other_features_is_refused() -> None:
    with pytest.raises(
        GateStateError, match="weighs 4 features, this one 3; build it with weights of length 4"
    ):
        TemporalGate().load_state_dict(TemporalGate(weights=(1, 1, 1, 1)).state_dict())


def test_wrong_arguments_say_what_to_pass() -> None:
    with pytest.raises(ValueError, match="at least one for each"):
        TemporalGate(weights=(1.0,))
    with pytest.raises(ValueError, match="share between 0 and 1"):
        TemporalGate(target_rate=1.5)
    with pytest.raises(ValueError, match=r"pass \[N, 3\]"):
        TemporalGate()(np.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        TemporalGate()(np.full((1, 3), np.nan))
