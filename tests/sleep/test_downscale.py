"""Edge homeostasis."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t4dm.memory.memory import Memory
from t4dm.plasticity.homeostasis import downscale_edges
from t4dm.plasticity.stdp import stdp_change
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.downscale import Downscale
from t4dm.sleep.nrem import Nrem, by_session
from t4dm.sleep.replay import REPLAY_STDP, Replay
from t4dm.t4dx import Edge, EdgeType

NOW = 1000.0


def _chain(memory: Memory, make_item, weights: list[float]) -> None:
    items = [make_item(f"i{n:02}", axis=n, event_time=n) for n in range(len(weights) + 1)]
    edges = [
        Edge(items[n + 1].id, items[n].id, EdgeType.TEMPORAL_AFTER, weight)
        for n, weight in enumerate(weights)
    ]
    memory.store.insert_many(items, edges)


def _weights(memory: Memory, kind: EdgeType = EdgeType.TEMPORAL_AFTER) -> np.ndarray:
    edges = sorted(memory.store.edges(edge_type=kind), key=lambda edge: edge.source)
    return np.array([edge.weight for edge in edges])


def _sleep(memory: Memory, *phases, stack=None):
    rng = np.random.default_rng(0)
    return run_cycle(memory, stack, phases=phases, clock=lambda: NOW, rng=rng, compact=False)


def test_the_strongest_fifth_is_spared_and_the_mean_loss_is_18_percent(memory: Memory, make_item) -> None:
    before = np.linspace(0.05, 0.95, 20)
    _chain(memory, make_item, before.tolist())
    report = _sleep(memory, Downscale())
    after = _weights(memory)
    factor = after / before
    assert factor[-4:] == pytest.approx(1.0)
    assert (np.diff(factor[:16]) > 0).all()
    assert (np.diff(after) > 0).all()
    assert factor.mean() == pytest.approx(0.82, abs=0.01)
    assert report.edges_downscaled == 16


def test_edges_of_weight_zero_take_no_rank_from_the_others(memory: Memory, make_item) -> None:
    """Ranked with the others, thirty of them would leave the twenty that stand with a loss of 5 %."""
    standing = np.linspace(0.05, 0.95, 20)
    _chain(memory, make_item, [*standing, *[0.0] * 30])
    report = _sleep(memory, Downscale())
    after = _weights(memory)
    np.testing.assert_allclose(after[:20], downscale_edges(torch.from_numpy(standing)).numpy(), atol=1e-6)
    assert (after[:20] / standing).mean() == pytest.approx(0.82, abs=0.01)
    assert not after[20:].any()
    assert report.edges_downscaled == 16


def test_a_night_shrinks_skewed_weights_as_it_shrinks_synapses(memory: Memory, make_item) -> None:
    """de Vivo et al. 2017: 18 % smaller after sleep, the largest fifth spared. Log-normal, sigma = 1."""
    before = np.clip(0.1 * np.random.default_rng(0).lognormal(sigma=1.0, size=99), 1e-3, 1.0)
    _chain(memory, make_item, before.tolist())
    _sleep(memory, Downscale())
    after, order = _weights(memory), np.argsort(before)
    change = after / before - 1.0
    assert -0.23 <= change.mean() <= -0.13
    assert np.abs(change[order[-20:]]).max() < 0.05
    assert change[order[:20]].mean() < change[order[40:60]].mean() < change[order[-20:]].mean()
    assert np.array_equal(np.argsort(after), order)


def test_facts_are_not_scaled(memory: Memory, make_item) -> None:
    _chain(memory, make_item, [0.5])
    edges = [Edge("i01", "i00", kind, 0.5) for kind in (EdgeType.MERGED_FROM, EdgeType.SUPERSEDES)]
    memory.store.insert_many([], edges)
    _sleep(memory, Downscale())
    assert _weights(memory, EdgeType.MERGED_FROM).tolist() == [0.5]
    assert _weights(memory, EdgeType.SUPERSEDES).tolist() == [0.5]
    assert _weights(memory)[0] < 0.5


def test_replay_and_downscaling_compose_in_their_order(memory: Memory, make_item, stack) -> None:
    """w' = f * (w + dw), with the dw of the one rule and f from the weights after replay."""
    weights = np.array([0.2, 0.4, 0.6, 0.8])
    _chain(memory, make_item, weights.tolist())
    (items,) = by_session(memory.store.scan())
    (links,) = Replay()(stack, [np.stack([item.vector for item in items])])
    start, up, down = (torch.from_numpy(part.astype(np.float64)) for part in (weights, *links))
    lifted = start + stdp_change(up, down, start, REPLAY_STDP)
    assert bool((lifted > start).all())
    _sleep(memory, Nrem(), Downscale(), stack=stack)
    np.testing.assert_allclose(_weights(memory), downscale_edges(lifted).numpy(), atol=1e-6)


def test_many_nights_neither_saturate_nor_erase_what_is_replayed(memory: Memory, make_item, stack) -> None:
    items = [make_item(f"i{n}", axis=1, event_time=n) for n in range(6)]
    edges = [Edge(f"i{n + 1}", f"i{n}", EdgeType.TEMPORAL_AFTER, 0.5) for n in range(5)]
    memory.store.insert_many(items, edges)
    for _ in range(12):
        _sleep(memory, Nrem(kappa_below=1.0), Downscale(), stack=stack)
    assert (_weights(memory) > 0.05).all()
    assert (_weights(memory) < 0.95).all()


def test_a_store_without_edges_sleeps(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("a"))
    assert _sleep(memory, Downscale()).edges_downscaled == 0
