"""A store on disk, a small cortex, and items in a few directions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.memory.memory import Memory
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX, Item

# The simulated disk lies beside the storage tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "t4dx"))

DIM = 32
NOW = 1000.0

MakeItem = Callable[..., Item]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with T4DX.open(tmp_path / "store", dim=DIM, clock=lambda: NOW) as store:
        yield Memory(store, clock=lambda: NOW, rng=np.random.default_rng(0))


@pytest.fixture(scope="session")
def stack() -> CorticalStack:
    """Calibrated, so that its neurons fire."""
    torch.manual_seed(0)
    stack = CorticalStack(width=32, blocks=1, heads=2, capsules=4, gate_rank=8, decay_rank=8, recall=False)
    stack.calibrate(torch.randn(4, 64, 32))
    return stack.eval()


@pytest.fixture
def make_item() -> MakeItem:
    """An item whose vector points in random direction number `axis`, tilted by `noise`."""

    def make(name: str, *, axis: int = 0, noise: float = 0.0, seed: int = 0, **fields: object) -> Item:
        vector = np.random.default_rng(axis).normal(size=DIM)
        vector += noise * np.random.default_rng([seed, axis]).normal(size=DIM)
        values: dict[str, object] = {"content": name, "event_time": 10.0, "session": "s", "metadata": {}}
        return Item(id=name, vector=vector.astype(np.float32), **(values | fields))  # type: ignore[arg-type]

    return make
