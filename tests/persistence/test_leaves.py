"""Nested state to named tensors and back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from t4dm.errors import BundleStateError
from t4dm.persistence.leaves import flatten, restore


class Cell(NamedTuple):
    u: Tensor
    trace: Tensor | None


def test_names_are_paths() -> None:
    tree = {"stack": [Cell(torch.zeros(2), None), Cell(torch.ones(3), torch.ones(1))], "step": 3}
    assert list(flatten(tree, "state")) == [
        "state/stack/0/u",
        "state/stack/1/u",
        "state/stack/1/trace",
    ]


def test_a_round_trip_keeps_structure_and_values() -> None:
    tree = (Cell(torch.arange(3.0), None), [torch.eye(2)], {"a": torch.tensor(1)})
    template = (Cell(torch.zeros(3), None), [torch.zeros(2, 2)], {"a": torch.tensor(0)})
    again = restore(template, flatten(tree, "s"), "s")
    assert isinstance(again[0], Cell)
    assert again[0].trace is None
    assert torch.equal(again[0].u, torch.arange(3.0))
    assert torch.equal(again[1][0], torch.eye(2))
    assert again[2]["a"].item() == 1


@pytest.mark.parametrize("tensors", [{}, {"s/u": torch.zeros(4)}])
def test_a_missing_or_misshapen_tensor_is_named(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(BundleStateError, match="s/u is"):
        restore(Cell(torch.zeros(3), None), tensors, "s")
