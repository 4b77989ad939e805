"""Other people's LIF neurons say what ours says: SpikingJelly and Norse both ways, snnTorch on the reset."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from t4dm.spiking.lif import LIFParams, LIFState, lif_trajectory
from t4dm.spiking.surrogate import surrogate

HERE = Path(__file__).parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["naive", "cpu", pytest.param("triton", marks=pytest.mark.gpu)]


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_lif_golden", HERE / "make_lif_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()
ALL = [(judge, case) for judge, cases in maker.CASES.items() for case in cases]
BOTH_WAYS = [(judge, case) for judge, case in ALL if judge != "snntorch"]
DELAYED = maker.CASES["snntorch"]


def named(cases: list) -> list:  # type: ignore[type-arg]
    return [pytest.param(judge, case, id=f"{judge}-{case.name}") for judge, case in cases]


@cache
def stored(judge: str) -> dict[str, Tensor]:
    with np.load(HERE / "golden" / f"lif_{judge}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def golden(judge: str, case) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    head = f"{case.name}/"
    return {name[len(head) :]: part for name, part in stored(judge).items() if name.startswith(head)}


def ours(case, asked: dict[str, Tensor], backend: str) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """Spikes, membranes after the reset and gradients, by one of our back-ends."""
    current, u0 = (asked[name].to(DEVICE, copy=True).requires_grad_() for name in ("current", "u0"))
    decay = torch.full((current.shape[2],), case.alpha, device=DEVICE)
    params = LIFParams(decay, case.theta, surrogate(case.surrogate), case.detach)
    out = lif_trajectory(current, LIFState(u0), params, backend=backend)
    u = out.membrane - case.theta * (out.spikes.detach() if case.detach else out.spikes)
    loss = (out.spikes * asked["on_spikes"].to(DEVICE)).sum() + (u * asked["on_u"].to(DEVICE)).sum()
    grads = torch.autograd.grad(loss, (current, u0))
    told = {"spikes": out.spikes, "u": u, "grad_current": grads[0], "grad_u0": grads[1]}
    return {name: part.detach().cpu() for name, part in told.items()}


def agree(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert torch.equal(mine["spikes"], theirs["spikes"])
    torch.testing.assert_close(mine["u"], theirs["u"], atol=1e-6, rtol=0.0)
    for name in ("grad_current", "grad_u0"):
        torch.testing.assert_close(mine[name], theirs[name], atol=2e-6, rtol=0.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("judge", "case"), named(BOTH_WAYS))
def test_spikes_membranes_and_gradients_are_the_stored_ones(judge: str, case, backend: str) -> None:  # type: ignore[no-untyped-def]
    theirs = golden(judge, case)
    assert 0.05 < float(theirs["spikes"].mean()) < 0.5
    agree(ours(case, theirs, backend), theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("judge", "case"), named(BOTH_WAYS))
def test_the_installed_judges_agree_as_well(judge: str, case, backend: str) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip(judge)
    asked = maker.question(case)._asdict()
    agree(ours(case, asked, backend), maker.answer(judge, case))


def pre_reset_form(case, asked: dict[str, Tensor], beta: float) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """h_t = alpha * h_{t-1} + I_t - beta * s_{t-1}: the reset takes effect a step later, inside the leak."""
    h = asked["u0"]
    s, spikes, membrane = torch.zeros_like(h), [], []
    for t in range(asked["current"].shape[1]):
        h = case.alpha * h + asked["current"][:, t] - beta * s
        s = (h >= case.theta).to(h.dtype)
        spikes.append(s)
        membrane.append(h)
    return torch.stack(spikes, 1), torch.stack(membrane, 1)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in DELAYED])
def test_a_delayed_reset_of_theta_is_snntorch_and_one_of_alpha_theta_is_ours(case) -> None:  # type: ignore[no-untyped-def]
    theirs = golden("snntorch", case)
    spikes, membrane = pre_reset_form(case, theirs, case.theta)
    assert torch.equal(spikes, theirs["spikes"])
    torch.testing.assert_close(membrane, theirs["u"], atol=1e-6, rtol=0.0)

    mine = ours(case, theirs, "cpu")["spikes"]
    assert torch.equal(pre_reset_form(case, theirs, case.alpha * case.theta)[0], mine)
    assert not torch.equal(mine, theirs["spikes"])


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in DELAYED])
def test_the_installed_snntorch_still_delays_its_reset(case) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("snntorch")
    asked = maker.question(case)._asdict()
    theirs = maker.answer("snntorch", case)
    spikes, membrane = pre_reset_form(case, asked, case.theta)
    assert torch.equal(spikes, theirs["spikes"])
    torch.testing.assert_close(membrane, theirs["u"], atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("judge", sorted(maker.CASES))
def test_every_golden_file_says_who_answered_and_to_which_call(judge: str) -> None:
    told = json.loads((HERE / "golden" / f"lif_{judge}.json").read_text(encoding="utf-8"))
    assert told["call"] == maker.CALLS[judge]
    assert {judge, "torch"} < told.keys()
    assert {name.split("/")[0] for name in stored(judge)} == {case.name for case in maker.CASES[judge]}
