"""The stack's cost grows with the number of tokens, and not faster: counted, so that no clock is needed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from t4dm.spiking.stack import CorticalStack

WIDTH, CHUNK = 16, 8


class Written(TorchDispatchMode):
    """Counts the elements that all operations give back, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.elements += sum(part.numel() for part in tree_leaves(out) if isinstance(part, Tensor))
        return out


def built(mode: str) -> CorticalStack:
    torch.manual_seed(0)
    return CorticalStack(
        width=WIDTH, blocks=1, heads=2, capsules=2, recall=False, chunk=CHUNK, attention_mode=mode
    )


def given(steps: int, *, documents: bool) -> tuple[Tensor, dict[str, Tensor]]:
    h = torch.randn(1, steps, WIDTH, requires_grad=True)
    if not documents:
        return h, {}
    mask, reset = torch.ones(1, steps, dtype=torch.bool), torch.zeros(1, steps, dtype=torch.bool)
    mask[0, ::9], reset[0, 20::20] = False, True
    return h, {"mask": mask, "reset": reset}


def written(mode: str, steps: int, *, documents: bool) -> int:
    stack, (h, rest) = built(mode), given(steps, documents=documents)
    with Written() as counted:
        stack(h, **rest).h.sum().backward()
    return counted.elements


def kept(mode: str, steps: int, *, documents: bool) -> int:
    """Bytes that the forward pass keeps for the backward one, each storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    stack, (h, rest) = built(mode), given(steps, documents=documents)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = stack(h, **rest)
    assert out.h.shape[1] == steps
    return sum(storages.values())


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("count", [written, kept])
def test_work_and_memory_grow_with_the_tokens_by_an_exponent_of_one(count: Any, documents: bool) -> None:
    small, large = (count("chunk", steps, documents=documents) for steps in (128, 512))
    assert math.log(large / small) / math.log(4) == pytest.approx(1.0, abs=0.05)


def test_the_count_sees_the_square_of_the_quadratic_form() -> None:
    small, large = (written("quadratic", steps, documents=False) for steps in (64, 256))
    assert math.log(large / small) / math.log(4) > 1.5
