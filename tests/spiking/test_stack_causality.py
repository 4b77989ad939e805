"""No token reaches an output before it, by any road through the stack: earlier outputs stay bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import StackOutput

BATCH, STEPS, WIDTH = 2, 15, 32  # chunks of 4: the last token has company in its chunk


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def recalled() -> dict[str, Any]:
    seen = torch.zeros(BATCH, STEPS, 5, dtype=torch.bool)
    seen[:, 3:, :3] = seen[:, 8:, 3:] = True
    return {"recall": noise(BATCH, 5, WIDTH, seed=2), "recall_mask": seen}


def modulated() -> dict[str, Any]:
    levels = torch.rand(4, BATCH, STEPS, generator=torch.Generator().manual_seed(3))
    return {"modulators": Neuromod(*levels)}


def rhythmic() -> dict[str, Any]:
    return {"oscillators": Oscillators(theta=0.1, gamma=0.1, delta=0.1, phase_coding=0.4)}


def padded() -> dict[str, Any]:
    mask, reset = torch.ones(BATCH, STEPS, dtype=torch.bool), torch.zeros(BATCH, STEPS, dtype=torch.bool)
    mask[0, 2] = mask[1, 7:9] = False
    reset[0, 5] = reset[1, 10] = True
    return {"mask": mask, "reset": reset}


def everything() -> dict[str, Any]:
    return recalled() | modulated() | rhythmic() | padded()


CONDITIONS = {
    "plain": dict,
    "recall": recalled,
    "modulators": modulated,
    "oscillators": rhythmic,
    "padding and documents": padded,
    "everything": everything,
}


@functools.cache
def built(mode: str, neuron: str = "lif") -> CorticalStack:
    torch.manual_seed(0)
    stack = CorticalStack(
        width=WIDTH,
        blocks=2,
        heads=2,
        capsules=4,
        recall_blocks=2,
        attention_mode=mode,
        neuron=neuron,
        chunk=4,
    )
    stack.calibrate(noise(4, 64, WIDTH, seed=9))
    return stack


def per_token(out: StackOutput) -> dict[str, Tensor]:
    """Whatever the stack says of each token, time first."""
    return {
        "h": out.h.transpose(0, 1),
        "goodness": out.aux.goodness.movedim(2, 0),
        "prediction error": out.aux.prediction_error.movedim(2, 0),
        "capsules": out.aux.capsules.movedim(2, 0),
    }


@torch.no_grad()
def compared(stack: CorticalStack, place: int, given: dict[str, Any]) -> tuple[dict, dict]:
    """Two runs that differ in the token at `place`, in a direction that no normalisation takes out."""
    h, state = noise(BATCH, STEPS, WIDTH), stack(noise(BATCH, 5, WIDTH, seed=7)).state
    changed = h.clone()
    changed[:, place] += 3.0 * noise(BATCH, WIDTH, seed=4)
    return per_token(stack(h, state, **given)), per_token(stack(changed, state, **given))


@pytest.mark.parametrize("place", [STEPS - 1, 6])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("mode", ["chunk", "recurrent", "quadratic"])
def test_a_change_of_one_token_leaves_all_earlier_outputs_bit_identical(
    mode: str, condition: str, place: int
) -> None:
    before, after = compared(built(mode), place, CONDITIONS[condition]())
    for name, one in before.items():
        assert torch.equal(one[:place], after[name][:place]), name
        # the goodness of a token is a rate that a change may leave as it is
        if name != "goodness":
            assert bool((one[place] != after[name][place]).flatten(1).any()), name


@pytest.mark.parametrize("mode", ["chunk", "recurrent", "quadratic"])
def test_the_twin_is_as_causal(mode: str) -> None:
    before, after = compared(built(mode, "gelu"), 6, everything())
    for name, one in before.items():
        assert torch.equal(one[:6], after[name][:6]), name
        assert not torch.equal(one[6], after[name][6]), name


def test_a_change_reaches_the_tokens_after_it_until_the_document_ends() -> None:
    before, after = compared(built("chunk"), 3, {})
    assert all(not torch.equal(before["h"][t], after["h"][t]) for t in range(4, STEPS))
    reset = torch.zeros(BATCH, STEPS, dtype=torch.bool)
    reset[:, 8] = True
    before, after = compared(built("chunk"), 3, {"reset": reset})
    assert torch.equal(before["h"][8:], after["h"][8:])
    assert not torch.equal(before["h"][7], after["h"][7])


def test_no_gradient_flows_from_an_output_to_a_later_token() -> None:
    stack, h = built("chunk"), noise(1, STEPS, WIDTH).requires_grad_()
    stack(h).h[:, 6].square().sum().backward()
    assert h.grad is not None
    reached = h.grad.abs().amax(dim=-1)[0]
    assert float(reached[7:].max()) == 0.0
    assert bool((reached[:7] > 0.0).all())


def test_memories_that_a_token_may_not_see_change_nothing_before_they_may_be_seen() -> None:
    stack, h, given = built("chunk"), noise(BATCH, STEPS, WIDTH), recalled()
    rows = given["recall"].clone()
    rows[:, 3:] += noise(BATCH, 2, WIDTH, seed=5)
    with torch.no_grad():
        one, other = stack(h, **given).h, stack(h, **given | {"recall": rows}).h
    assert torch.equal(one[:, :8], other[:, :8])
    assert not torch.equal(one[:, 8], other[:, 8])


def test_a_modulator_of_a_later_token_changes_nothing_before_it() -> None:
    stack, h = built("chunk"), noise(BATCH, STEPS, WIDTH)
    levels = modulated()["modulators"]
    later = Neuromod(*(torch.cat([x[:, :9], 1.0 - x[:, 9:]], dim=1) for x in levels))
    with torch.no_grad():
        one, other = stack(h, modulators=levels).h, stack(h, modulators=later).h
    assert torch.equal(one[:, :9], other[:, :9])
    assert not torch.equal(one[:, 9], other[:, 9])


def test_rows_of_a_batch_know_nothing_of_each_other() -> None:
    stack, given = built("chunk"), everything()
    h = noise(BATCH, STEPS, WIDTH)
    changed = h.clone()
    changed[1] = noise(STEPS, WIDTH, seed=6)
    with torch.no_grad():
        one, other = stack(h, **given), stack(changed, **given)
    assert torch.equal(one.h[0], other.h[0])
    assert not torch.equal(one.h[1], other.h[1])
    assert torch.equal(one.aux.goodness[:, 0], other.aux.goodness[:, 0])
    assert torch.equal(one.state.blocks[1].rwkv.S[0], other.state.blocks[1].rwkv.S[0])
