"""Vectors to spikes, and spikes to weight changes by the one STDP rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from t4dm.plasticity.stdp import STDPParams, stdp_events
from t4dm.sleep.replay import REPLAY_STDP, Replay, item_changes, sign_projection
from t4dm.spiking.stack import CorticalStack

RULE = STDPParams(a_plus=1.0, a_minus=0.5, tau_plus=10.0, tau_minus=20.0)


def test_a_pair_of_spikes_is_worth_what_bi_and_poo_say() -> None:
    """Channel 0 fires at 0 ms for item 0 and at 10 ms for item 1: e^-1 forward, -e^(-1/2) / 2 backward."""
    spikes = torch.zeros(4, 3)
    spikes[0, 0] = spikes[2, 0] = 1.0
    change = item_changes(spikes, 2, RULE, dt=5.0)
    assert change[1, 0].item() == pytest.approx(math.exp(-1.0))
    assert change[0, 1].item() == pytest.approx(-0.5 * math.exp(-0.5))


def test_trains_add_up_like_the_event_rule() -> None:
    """Item 0 fires at 0 and 5 ms, item 1 at 10 and 15 ms, on one channel."""
    change = item_changes(torch.ones(4, 1), 2, RULE, dt=5.0)
    assert change[1, 0].item() == pytest.approx(stdp_events([0.0, 5.0], [10.0, 15.0], RULE), rel=1e-5)


def test_only_the_same_channel_counts_and_silence_does_not_dilute() -> None:
    spikes = torch.zeros(2, 100)
    spikes[0, 0] = spikes[1, 0] = 1.0
    shared = item_changes(spikes, 2, RULE, dt=10.0)[1, 0].item()
    assert shared == pytest.approx(math.exp(-1.0))
    spikes = torch.zeros(2, 100)
    spikes[0, 0] = spikes[1, 1] = 1.0
    assert item_changes(spikes, 2, RULE, dt=10.0)[1, 0].item() == 0.0
    assert not item_changes(torch.zeros(2, 5), 2, RULE, dt=10.0).any()


def test_alike_neighbours_gain_more_than_unlike_ones(stack: CorticalStack) -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.normal(size=(1, 32)), 8, axis=0).astype(np.float32)
    unlike = rng.normal(size=(8, 32)).astype(np.float32)
    near, far = Replay()(stack, [alike, unlike])
    assert near.shape == far.shape == (7,)
    assert near.mean() > 3 * far.mean()
    assert 0.01 < near.mean() < 0.5


def test_batching_and_padding_change_nothing(stack: CorticalStack) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.normal(size=(n, 32)).astype(np.float32) for n in (3, 1, 5, 40)]
    together = Replay(batch=4)(stack, sequences)
    alone = [Replay()(stack, [sequence])[0] for sequence in sequences]
    assert [len(changes) for changes in together] == [2, 0, 4, 39]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_windows_cover_each_pair_once(stack: CorticalStack) -> None:
    """With a trace shorter than an item, the split of a long sequence cannot be seen."""
    sequence = np.random.default_rng(2).normal(size=(11, 32)).astype(np.float32)
    rule = REPLAY_STDP._replace(tau_plus=0.5, tau_minus=0.5)
    whole = Replay(stdp=rule)(stack, [sequence])[0]
    split = Replay(stdp=rule, max_items=4)(stack, [sequence])[0]
    np.testing.assert_allclose(split, whole, atol=1e-6)


def test_each_item_is_shown_once_for_its_steps(stack: CorticalStack) -> None:
    sequences = [np.ones((n, 32), dtype=np.float32) for n in (2, 5)]
    assert [len(spikes) for spikes in Replay(steps=3).spikes(stack, sequences)] == [6, 15]


def test_replay_trains_nothing_and_leaves_the_mode() -> None:
    torch.manual_seed(1)
    stack = CorticalStack(width=32, blocks=1, heads=2, capsules=4, gate_rank=8, decay_rank=8, recall=False)
    before = {name: value.clone() for name, value in stack.state_dict().items()}
    Replay()(stack, [np.ones((3, 32), dtype=np.float32)])
    assert stack.training
    assert all(torch.equal(value, before[name]) for name, value in stack.state_dict().items())
    assert all(parameter.grad is None for parameter in stack.parameters())


def test_vectors_of_another_width_are_projected(stack: CorticalStack) -> None:
    rng = np.random.default_rng(3)
    narrow, wide = rng.normal(size=(4, 8)).astype(np.float32), rng.normal(size=(4, 300)).astype(np.float32)
    assert [len(changes) for changes in Replay()(stack, [narrow]) + Replay()(stack, [wide])] == [3, 3]


def test_the_projection_keeps_angles() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(50, 300))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    image = unit @ sign_projection(300, 512)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    assert np.abs(image @ image.T - unit @ unit.T).max() < 0.25
    np.testing.assert_array_equal(sign_projection(7, 7), np.eye(7))


def test_the_non_spiking_twin_replays_too() -> None:
    torch.manual_seed(2)
    stack = CorticalStack(
        width=32, blocks=1, heads=2, capsules=4, gate_rank=8, decay_rank=8, recall=False, neuron="gelu"
    )
    (changes,) = Replay()(stack, [np.ones((3, 32), dtype=np.float32)])
    assert np.isfinite(changes).all()
