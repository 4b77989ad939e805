"""Each stage of a block by itself: it speaks, it is silent where it should be, and no road is missing."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.errors import MissingBackendError
from t4dm.spiking import neuron as neuron_module
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.capsules import CapsuleRouting
from t4dm.spiking.context import PLAIN
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.thalamic_gate import ThalamicGate

WIDTH = 32
# weights with which a stage ends: at zero it adds nothing, whatever goes on inside
ENDS = ("attention.out", "apical.out", "time_mix.out", "channel_mix.value")


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(**settings: Any) -> CorticalStack:
    """A calibrated stack, to be changed as one likes."""
    return copy.deepcopy(_built(**settings))


@functools.cache
def _built(**settings: Any) -> CorticalStack:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"width": WIDTH, "blocks": 2, "heads": 2, "capsules": 4, "recall_blocks": 2}
    stack = CorticalStack(**arguments | settings)
    stack.calibrate(noise(4, 64, WIDTH, seed=9), recall=noise(4, 5, WIDTH, seed=8))
    return stack


@torch.no_grad()
def spoken(stack: CorticalStack, **given: Any) -> Tensor:
    return stack(noise(2, 24, WIDTH), recall=noise(2, 5, WIDTH, seed=2), **given).h


@torch.no_grad()
def close(stack: CorticalStack, *names: str) -> None:
    """Zero the weights of these linear layers in every block."""
    for block in stack.blocks:
        for name in names:
            block.get_submodule(name).weight.zero_()


def silence(name: str) -> Callable[[CorticalBlock], None]:
    return lambda block: block.get_parameter(f"{name}.log_gain").fill_(-20.0)


def zero(name: str) -> Callable[[CorticalBlock], None]:
    return lambda block: block.get_parameter(name).zero_()


ABLATIONS: dict[str, Callable[[CorticalBlock], Any]] = {
    "recall": zero("recall.gate"),
    "1 thalamic gate, its look at the stream": zero("gate.from_stream.weight"),
    "1 thalamic gate, its look at memory": zero("gate.from_memory.weight"),
    "1 thalamic gate, closed": lambda block: block.get_parameter("gate.up.bias").fill_(-50.0),
    "2 integration": silence("integrate"),
    "3 spike attention": zero("attention.out.weight"),
    "3 queries and keys": silence("attention.neurons"),
    "4 apical gate": zero("apical.out.weight"),
    "4 spikes": silence("apical.neurons"),
    "4 apical compartment": zero("apical.apical.weight"),
    "4 prediction": zero("apical.predict_up.weight"),
    "4 capsules": zero("apical.capsules.vote"),
    "5 time mix": zero("time_mix.out.weight"),
    "5 channel mix": zero("channel_mix.value.weight"),
    "6 readout": silence("readout"),
}


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("stage", ABLATIONS)
def test_taking_a_stage_away_changes_the_output(stage: str, index: int) -> None:
    stack = built()
    before = spoken(stack)
    with torch.no_grad():
        ABLATIONS[stage](stack.blocks[index])
    change = (spoken(stack) - before).abs().mean() / before.std()
    # capsules weigh channels that differ little before the predictor has learned anything
    assert float(change) > (1e-4 if stage in ("4 capsules", "4 prediction") else 3e-3)


def test_calcium_speaks_where_basal_and_apical_spikes_have_met() -> None:
    stack, h = built(), noise(4, 96, WIDTH)
    with torch.no_grad():
        before = stack(h)
        assert all(float((block.apical.ca > 0.0).float().mean()) > 0.05 for block in before.state.blocks)
        for index in (1, 0):
            zero("apical.calcium_gain")(stack.blocks[index])
            after = stack(h)
            assert not torch.equal(after.h, before.h)
            before = after


@pytest.mark.parametrize("stage", [name for name in ABLATIONS if name[0] in "12"])
def test_the_first_two_stages_speak_even_where_the_others_are_silent(stage: str) -> None:
    stack = built()
    close(stack, *ENDS)
    before = spoken(stack)
    with torch.no_grad():
        ABLATIONS[stage](stack.blocks[1])
    assert float((spoken(stack) - before).abs().mean()) > 3e-3


def test_the_float_shortcut_carries_stage_two_to_stage_six_by_the_equations() -> None:
    stack = built(blocks=1)
    close(stack, *ENDS)
    block, x = stack.blocks[0], noise(2, 24, WIDTH)
    state = stack.init_state(2).blocks[0]
    with torch.no_grad():
        out = stack(x).h
        n = block.gate(block.norms[0](x), None, PLAIN)
        y = n * (0.5 + 0.5 * block.integrate(n, state.lif, PLAIN, "i").spikes)
        fired = block.readout(block.norms[4](x + y), state.out, PLAIN, "o").spikes
    assert torch.equal(out, x + y * (0.5 + 0.5 * fired))
    assert 0.0 < float(fired.mean()) < 1.0


def test_the_shortcut_is_float_so_gradient_reaches_stage_one_past_all_spikes_and_stages() -> None:
    stack = built(blocks=1, surrogate="ste_rect")
    close(stack, *ENDS)
    for name in ("integrate", "readout"):
        # far below the threshold this surrogate is 0: nothing comes back through a spike
        with torch.no_grad():
            silence(name)(stack.blocks[0])
    stack(noise(2, 24, WIDTH)).h.square().sum().backward()
    reached = stack.blocks[0].gate.up.weight.grad
    assert reached is not None
    assert float(reached.abs().min()) > 0.0


def test_with_every_branch_closed_a_block_is_exactly_the_identity_and_its_gradient_one() -> None:
    stack, x = built(), noise(2, 24, WIDTH).requires_grad_()
    close(stack, *ENDS)
    with torch.no_grad():
        for block in stack.blocks:
            block.gate.up.weight.zero_()
            block.gate.up.bias.fill_(-200.0)
    out = stack(x).h
    assert torch.equal(out, x)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones_like(x), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("end", "inner"),
    [
        ("attention.out", "attention.qk.weight"),
        ("attention.out", "attention.window_logit"),
        ("apical.out", "apical.basal.weight"),
        ("apical.out", "apical.capsules.vote"),
        ("time_mix.out", "time_mix.decay_up.weight"),
        ("channel_mix.value", "channel_mix.key.weight"),
    ],
)
def test_a_stage_whose_end_is_zero_adds_exactly_nothing(end: str, inner: str) -> None:
    stack = built()
    opened = spoken(stack)
    close(stack, end)
    before = spoken(stack)
    assert not torch.equal(opened, before)
    with torch.no_grad():
        for block in stack.blocks:
            block.get_parameter(inner).normal_()
    assert torch.equal(spoken(stack), before)


def test_a_closed_recall_gate_is_exactly_no_memory() -> None:
    stack, h, rows = built(), noise(2, 24, WIDTH), noise(2, 5, WIDTH, seed=2)
    with torch.no_grad():
        assert not torch.equal(stack(h, recall=rows).h, stack(h).h)
        for block in stack.blocks:
            block.recall.gate.zero_()
        assert torch.equal(stack(h, recall=rows).h, stack(h).h)
        nothing = torch.zeros(2, 24, 5, dtype=torch.bool)
    opened = built()
    with torch.no_grad():
        assert torch.equal(opened(h, recall=rows, recall_mask=nothing).h, opened(h).h)


def test_a_wide_open_thalamic_gate_is_exactly_the_identity() -> None:
    gate, x = ThalamicGate(width=8, rank=4), noise(2, 3, 8)
    with torch.no_grad():
        gate.up.weight.zero_()
        gate.up.bias.fill_(200.0)
    assert torch.equal(gate(x, noise(2, 3, 8, seed=2), PLAIN), x)


@pytest.mark.parametrize("capsules", [2, 3, 4, 16])
def test_capsules_that_all_agree_alike_are_exactly_the_identity(capsules: int) -> None:
    routing, y = CapsuleRouting(width=48, capsules=capsules), noise(2, 3, 48)
    assert torch.equal(routing(y, torch.zeros_like(y))[0], y)
    assert not torch.equal(routing(y, noise(2, 3, 48, seed=2))[0], y)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", Neuromod._fields)
def test_every_modulator_speaks_on_either_side_of_its_baseline(name: str, level: float) -> None:
    stack = built()
    base = spoken(stack)
    moved = spoken(stack, modulators=Neuromod(**{name: torch.full((2,), level)}))
    assert float((moved - base).abs().mean()) > 1e-3


@pytest.mark.parametrize("neuron", ["lif", "gelu"])
@pytest.mark.parametrize("level", [0.5, torch.tensor(0.5), torch.full((2,), 0.5), torch.full((2, 24), 0.5)])
def test_modulators_at_their_baseline_change_not_one_bit(level: Tensor | float, neuron: str) -> None:
    stack, h = built(neuron=neuron), noise(2, 24, WIDTH)
    with torch.no_grad():
        plain = stack(h, recall=noise(2, 5, WIDTH, seed=2))
        still = stack(
            h, recall=noise(2, 5, WIDTH, seed=2), modulators=Neuromod(da=level, ne=level, ach=level, ht=level)
        )
    assert torch.equal(plain.h, still.h)
    for one, other in zip(plain.aux, still.aux, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain.state.blocks[1].attn.S, still.state.blocks[1].attn.S)
    assert torch.equal(plain.state.blocks[1].rwkv.S, still.state.blocks[1].rwkv.S)


@pytest.mark.parametrize("name", ["theta", "gamma", "delta", "phase_coding"])
def test_every_rhythm_speaks_and_at_amplitude_zero_changes_not_one_bit(name: str) -> None:
    stack = built()
    base = spoken(stack)
    still = Oscillators(theta=0.0, gamma=0.0, delta=0.0, phase_coding=0.0)
    assert torch.equal(spoken(stack, oscillators=still), base)
    moved = spoken(stack, oscillators=still._replace(**{name: 0.1}))
    assert float((moved - base).abs().mean()) > 1e-4


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_block_scans_lif_neurons_four_times_and_no_more(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = built(blocks=blocks)
    scanned, real = [], neuron_module.lif_trajectory

    def counted(current: Tensor, *args: Any, **kwargs: Any) -> Any:
        scanned.append(current.shape[-1])
        return real(current, *args, **kwargs)

    monkeypatch.setattr(neuron_module, "lif_trajectory", counted)
    spoken(stack, modulators=Neuromod(ne=torch.full((2,), 0.9)), oscillators=Oscillators())
    assert scanned == [WIDTH] * 4 * blocks  # stages 2, 3 (q and k in one), 4 (b and a in one), 6


def test_a_stack_tells_which_back_ends_run_it() -> None:
    assert built().explain() == {"lif": "cpu", "spike attention": "chunk", "rwkv": "torch_chunk"}
    assert built(neuron="gelu", attention_mode="recurrent").explain("cpu") == {
        "lif": "linear_scan",
        "spike attention": "recurrent",
        "rwkv": "torch_chunk",
    }
    torch.manual_seed(0)
    asked = CorticalStack(width=WIDTH, blocks=1, heads=2, capsules=4, attention_mode="fla")
    with pytest.raises(MissingBackendError, match="'fla' cannot run here"):
        asked.explain("cpu")
