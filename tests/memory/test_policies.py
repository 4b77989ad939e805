"""Policies as filters of a real store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t4dm.memory.memory import Memory
from t4dm.memory.policies import (
    AnyPolicy,
    EpisodicPolicy,
    Policy,
    ProceduralPolicy,
    SemanticPolicy,
    success_rate,
)
from t4dm.t4dx import T4DX, Item

NOW = 1000.0


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """One direction, so that only policies tell the items apart."""
    store = T4DX.open(tmp_path / "s", dim=2, clock=lambda: NOW)
    vector = np.array([1.0, 0.0], dtype=np.float32)
    rows = [
        ("fresh", "episodic", 0.0, 990.0, {}),
        ("now", "episodic", 0.0, NOW, {}),
        ("old", "episodic", 0.1, 10.0, {}),
        ("border", "episodic", 0.3, 990.0, {}),
        ("tomorrow", "episodic", 0.0, 1001.0, {}),
        ("concept", "semantic", 0.7, 10.0, {}),
        ("stable", "semantic", 1.0, 10.0, {}),
        ("lucky", "procedural", 0.0, 10.0, {"successes": 1}),
        ("proven", "procedural", 0.0, 10.0, {"successes": 9, "failures": 1}),
        ("clumsy", "procedural", 0.0, 10.0, {"failures": 4}),
    ]
    for name, kind, kappa, event, metadata in rows:
        store.insert(
            Item(id=name, type=kind, vector=vector, kappa=kappa, event_time=event, metadata=metadata)
        )
    return Memory(store, clock=lambda: NOW, rng=np.random.default_rng(0))


def _ids(memory: Memory, policy: Policy) -> list[str]:
    return memory.read(np.array([[1.0, 0.0]]), policy=policy, k=20).ids[0]


def test_any_policy_sees_everything(memory: Memory) -> None:
    assert len(_ids(memory, AnyPolicy())) == 10


def test_current_only_hides_what_no_longer_holds(memory: Memory) -> None:
    memory.store.update_fields("old", valid_until=500.0)
    assert "old" in _ids(memory, AnyPolicy())
    assert "old" not in _ids(memory, AnyPolicy(current_only=True))


def test_episodic_is_recent_and_below_kappa_0_3(memory: Memory) -> None:
    assert set(_ids(memory, EpisodicPolicy(window=100.0))) == {"fresh", "now"}
    assert {"old", "fresh", "now"} <= set(_ids(memory, EpisodicPolicy(window=None)))
    assert "border" not in _ids(memory, EpisodicPolicy(window=None))
    assert "tomorrow" not in _ids(memory, EpisodicPolicy(window=None))


def test_semantic_starts_at_kappa_0_7_whatever_the_age(memory: Memory) -> None:
    assert set(_ids(memory, SemanticPolicy())) == {"concept", "stable"}


def test_procedural_is_ranked_by_success(memory: Memory) -> None:
    """Laplace: 10/12, 2/3, 1/6."""
    assert _ids(memory, ProceduralPolicy()) == ["proven", "lucky", "clumsy"]


def test_success_rate_follows_laplace() -> None:
    assert success_rate({}) == 0.5
    assert success_rate({"successes": 9, "failures": 1}) == pytest.approx(10 / 12)
