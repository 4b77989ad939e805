"""flash-linear-attention's references say what ours say: GLA, RWKV-6 and spike attention, both ways."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from t4dm.spiking.linear_attention import chunk_attention
from t4dm.spiking.rwkv import rwkv6
from t4dm.spiking.spike_attention import FastWeights, STDPWindow, stdp_attention

HERE = Path(__file__).parent
MODES = {
    "gla": ["chunk"],
    "rwkv6": ["torch_recurrent", "torch_chunk"],
    "spikes": ["quadratic", "recurrent", "chunk"],
}


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_attention_golden", HERE / "make_attention_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()
ASKED = [
    pytest.param(case, mode, id=f"{case.name}-{mode}") for case in maker.CASES for mode in MODES[case.kind]
]
installed = pytest.mark.skipif(
    find_spec("fla") is None or find_spec("triton") is None, reason="fla-core or triton is not installed"
)


@cache
def stored() -> dict[str, Tensor]:
    with np.load(HERE / "golden" / "attention_fla.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def golden(case) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    head = f"{case.name}/"
    return {name[len(head) :]: part for name, part in stored().items() if name.startswith(head)}


def ours(case, asked: dict[str, Tensor], mode: str) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """Output, state and gradients by one of our forms, with chunks that do not divide the length."""
    names = maker.ORDER[case.kind]
    inputs = [asked[name].clone().requires_grad_() for name in names]
    if case.kind == "gla":
        *tokens, S = inputs
        out, final = chunk_attention(*(x.transpose(1, 2) for x in tokens), S, chunk=16)  # type: ignore[misc]
        out = out.transpose(1, 2)
    elif case.kind == "rwkv6":
        out, final = rwkv6(*inputs, backend=mode, chunk=16)
    else:
        q, k, v, plus, minus, *state = inputs
        ones = torch.ones(maker.HEADS, 1)
        window = STDPWindow(plus, minus, ones, 0.35 * ones)
        out, fast = stdp_attention(
            q, k, v, FastWeights(*state), window, mode=mode, chunk=16, epsilon=maker.EPSILON
        )
        final = fast.S
    loss = (out * asked["on_out"]).sum() + (final * asked["on_S"]).sum()
    grads = torch.autograd.grad(loss, inputs)
    told = {"out": out, "final": final, **{f"grad_{n}": g for n, g in zip(names, grads, strict=True)}}
    return {name: part.detach() for name, part in told.items()}


def agree(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, part in mine.items():
        error = (part - theirs[name]).square().mean().sqrt() / theirs[name].square().mean().sqrt()
        assert float(error) < 2e-6, name


@pytest.mark.parametrize(("case", "mode"), ASKED)
def test_outputs_states_and_gradients_are_the_stored_ones(case, mode: str) -> None:  # type: ignore[no-untyped-def]
    theirs = golden(case)
    assert float(theirs["out"].abs().max()) > 0.1
    agree(ours(case, theirs, mode), theirs)


@installed
@pytest.mark.parametrize(("case", "mode"), ASKED)
def test_the_installed_references_agree_as_well(case, mode: str) -> None:  # type: ignore[no-untyped-def]
    agree(ours(case, maker.question(case), mode), maker.answer(case))


def test_the_golden_file_says_who_answered_and_to_which_call() -> None:
    told = json.loads((HERE / "golden" / "attention_fla.json").read_text(encoding="utf-8"))
    assert told["calls"] == maker.CALLS
    assert {"fla-core", "torch"} < told.keys()
    assert {name.split("/")[0] for name in stored()} == {case.name for case in maker.CASES}
