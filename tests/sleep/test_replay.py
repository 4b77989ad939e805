"""Vectors to spikes, and spikes to weight changes by the one STDP rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from t4dm.plasticity.stdp import STDPParams, init_traces, stdp_change, stdp_events, stdp_step
from t4dm.sleep.night import weight_change
from t4dm.sleep.replay import REPLAY_STDP, Replay, item_links, sign_projection
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.stack import CorticalStack

RULE = STDPParams(a_plus=1.0, a_minus=0.5, tau_plus=10.0, tau_minus=20.0)


def test_a_pair_of_spikes_is_worth_what_bi_and_poo_say() -> None:
    """Channel 0 fires at 0 ms for item 0 and at 10 ms for item 1: e^-1 forward, -e^(-1/2) / 2 backward."""
    spikes = torch.zeros(4, 3)
    spikes[0, 0] = spikes[2, 0] = 1.0
    up, down = item_links(spikes, 2, RULE, dt=5.0)
    assert up[1, 0].item() == pytest.approx(math.exp(-1.0))
    assert down[0, 1].item() == pytest.approx(0.5 * math.exp(-0.5))
    assert up[0, 1].item() == down[1, 0].item() == 0.0


def test_trains_add_up_like_the_event_rule() -> None:
    """Item 0 fires at 0 and 5 ms, item 1 at 10 and 15 ms, on one channel."""
    up, down = item_links(torch.ones(4, 1), 2, RULE, dt=5.0)
    expected = stdp_events([0.0, 5.0], [10.0, 15.0], RULE)
    assert (up - down)[1, 0].item() == pytest.approx(expected, rel=1e-5)
    expected = stdp_events([10.0, 15.0], [0.0, 5.0], RULE)
    assert (up - down)[0, 1].item() == pytest.approx(expected, rel=1e-5)


def test_only_the_same_channel_counts_and_silence_does_not_dilute() -> None:
    spikes = torch.zeros(2, 100)
    spikes[0, 0] = spikes[1, 0] = 1.0
    shared = item_links(spikes, 2, RULE, dt=10.0)[0][1, 0].item()
    assert shared == pytest.approx(math.exp(-1.0))
    spikes = torch.zeros(2, 100)
    spikes[0, 0] = spikes[1, 1] = 1.0
    assert item_links(spikes, 2, RULE, dt=10.0)[0][1, 0].item() == 0.0
    assert not torch.stack(item_links(torch.zeros(2, 5), 2, RULE, dt=10.0)).any()


def test_replay_and_the_one_rule_give_the_same_weights() -> None:
    """A channel's own trains through `stdp_step`, weights in [0, 1] given, for pairs of both orders."""
    rule = STDPParams(a_plus=0.3, a_minus=0.2, tau_plus=10.0, tau_minus=20.0, mu=0.7)
    spikes = (torch.rand(12, 1, generator=torch.Generator().manual_seed(0)) < 0.6).double()
    weight = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.0, 1.0], [0.8, 0.2, 0.6]], dtype=torch.float64)
    up, down = item_links(spikes, 3, rule, dt=5.0)
    assert float(up[1, 0]) > 0.0
    assert float(down[0, 1]) > 0.0
    own = torch.eye(3, dtype=torch.float64).repeat_interleave(4, dim=0) * spikes
    traces, total = init_traces(1, 3, 3, like=spikes), torch.zeros(3, 3, dtype=torch.float64)
    for train in own:
        step, traces = stdp_step(train[None], train[None], weight, traces, rule, 5.0)
        total += step
    torch.testing.assert_close(stdp_change(up, down, weight, rule), total)
    for (j, i), now in np.ndenumerate(weight.numpy()):
        one = weight_change(float(now), float(up[j, i]), float(down[j, i]), rule)
        assert one == pytest.approx(float(total[j, i]), abs=1e-12)


def test_alike_neighbours_gain_more_than_unlike_ones(stack: CorticalStack) -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.normal(size=(1, 32)), 8, axis=0).astype(np.float32)
    unlike = rng.normal(size=(8, 32)).astype(np.float32)
    near, far = Replay()(stack, [alike, unlike])
    assert near.up.shape == far.up.shape == near.down.shape == (7,)
    assert near.up.mean() > 3 * far.up.mean()
    assert 0.01 < near.up.mean() < 0.5
    assert not near.down.any()  # a later item's spikes come after all of an earlier one's


def test_batching_and_padding_change_nothing(stack: CorticalStack) -> None:
    rng = np.random.default_rng(1)
    sequences = [rng.normal(size=(n, 32)).astype(np.float32) for n in (3, 1, 5, 40)]
    together = Replay(batch=4)(stack, sequences)
    alone = [Replay()(stack, [sequence])[0] for sequence in sequences]
    assert [len(links.up) for links in together] == [2, 0, 4, 39]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_windows_cover_each_pair_once(stack: CorticalStack) -> None:
    """With a trace shorter than an item, the split of a long sequence cannot be seen."""
    sequence = np.random.default_rng(2).normal(size=(11, 32)).astype(np.float32)
    rule = REPLAY_STDP._replace(tau_plus=0.5, tau_minus=0.5)
    whole = Replay(stdp=rule)(stack, [sequence])[0].up
    split = Replay(stdp=rule, max_items=4)(stack, [sequence])[0].up
    assert whole.any()
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
    assert [len(links.up) for links in Replay()(stack, [narrow]) + Replay()(stack, [wide])] == [3, 3]


def test_the_projection_keeps_angles() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(50, 300))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    image = unit @ sign_projection(300, 512)
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    assert np.abs(image @ image.T - unit @ unit.T).max() < 0.25
    np.testing.assert_array_equal(sign_projection(7, 7), np.eye(7))


def test_replay_is_bound_to_the_up_states_of_the_slow_oscillation(stack: CorticalStack) -> None:
    """At 1 Hz and 5 ms a token, tokens 51 to 149 of each 200 lie in the down state, 50 and 150 between."""
    sleeping = Oscillators(theta=0.0, gamma=0.0, delta=0.0, token_seconds=0.005)
    sequence = np.random.default_rng(5).normal(size=(60, 32)).astype(np.float32)
    (free,), (bound,) = (Replay(oscillators=o).spikes(stack, [sequence]) for o in (None, sleeping))
    count = torch.arange(1, 241)
    up, between = ((count < 50) | (count > 150)), count % 100 == 50
    assert torch.equal(bound[up & ~between], free[up & ~between])
    assert not bound[~up & ~between].any()
    assert free[~up & ~between].any()
    links = Replay(oscillators=sleeping)(stack, [sequence])[0]
    assert not links.up[14:36].any()
    assert links.up[:10].any()
    assert links.up[40:].any()


def test_the_non_spiking_twin_replays_too() -> None:
    torch.manual_seed(2)
    stack = CorticalStack(
        width=32, blocks=1, heads=2, capsules=4, gate_rank=8, decay_rank=8, recall=False, neuron="gelu"
    )
    (links,) = Replay()(stack, [np.ones((3, 32), dtype=np.float32)])
    assert np.isfinite(links.up).all()
