"""Long windows are run in pieces: outputs, states, reductions and gradients are those of one piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.errors import SettingError
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import StackOutput, map_state

WIDTH, ROWS, STEPS = 32, 3, 23


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(window: int, **settings: Any) -> CorticalStack:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"width": WIDTH, "blocks": 2, "heads": 2, "capsules": 4, "chunk": 8}
    return CorticalStack(**arguments | settings, window=window)


def padded() -> Tensor:
    mask = torch.ones(ROWS, STEPS, dtype=torch.bool)
    mask[0, :9] = mask[1, 14:] = False  # row 0 has no token in the first piece of seven
    return mask


def starts() -> Tensor:
    reset = torch.zeros(ROWS, STEPS, dtype=torch.bool)
    reset[2, [0, 7, 16]] = True
    return reset


GIVEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding": {"mask": padded()},
    "documents": {"reset": starts()},
    "padding and documents": {"mask": padded(), "reset": starts()},
    "modulators of each token": {"modulators": Neuromod(ne=noise(ROWS, STEPS).sigmoid(), da=0.7)},
    "rhythms": {"oscillators": Oscillators()},
    "memory": {
        "recall": noise(ROWS, 5, WIDTH, seed=3),
        "recall_mask": noise(ROWS, STEPS, 5, seed=4) > 0,
    },
    "local": {"local": True},
}


def tensors(out: StackOutput) -> list[Tensor]:
    found: list[Tensor] = [out.h, *out.aux]
    map_state(lambda tensor: (found.append(tensor), tensor)[1], out.state)
    return found


def run(window: int, given: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    stack, h = built(window), noise(ROWS, STEPS, WIDTH, seed=5).requires_grad_()
    out = stack(h, **given)
    loss = (
        (out.h * noise(*out.h.shape, seed=6)).sum()
        + out.aux.goodness.sum()
        + out.state.blocks[-1].rwkv.S.sum()
    )
    leaves = [h, *stack.parameters()]
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return tensors(out), [torch.zeros(()) if grad is None else grad for grad in grads]


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("window", [1, 7, 22])
def test_pieces_are_one_window(window: int, name: str) -> None:
    whole, pieces = run(STEPS, GIVEN[name]), run(window, GIVEN[name])
    for one, other in zip(whole, pieces, strict=True):
        for expected, found in zip(one, other, strict=True):
            scale = float(expected.detach().abs().max()) or 1.0
            torch.testing.assert_close(found / scale, expected / scale, atol=2e-5, rtol=0)


def test_a_window_of_its_own_length_is_not_cut() -> None:
    h = noise(ROWS, STEPS, WIDTH)
    assert torch.equal(built(STEPS)(h).h, built(2048)(h).h)


def test_nothing_is_cut_where_a_recorder_watches() -> None:
    recorder = SpikeRecorder(inner=True)
    out = built(7)(noise(1, STEPS, WIDTH), recorder=recorder)
    assert torch.equal(out.h, built(STEPS)(noise(1, STEPS, WIDTH)).h)
    assert recorder.spikes("block0.out").shape[1] == STEPS


def test_a_window_without_tokens_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"model\.stack\.window=0 .* set it to a number of tokens from 1 on$"
    ):
        built(0)
