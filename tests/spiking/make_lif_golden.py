"""Writes what other people's LIF neurons answer: `python tests/spiking/make_lif_golden.py [FOLDER]`.

It needs the extra `judges`. Run it once and commit what it writes; the tests compare with these files, and
with the packages themselves where they are installed. Every file holds inputs, outputs, the packages'
versions and the call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
BATCH, STEPS, WIDTH = 2, 40, 4
CALLS = {
    "spikingjelly": "functional.lif_multi_step(I, u0, tau=1/(1-alpha), decay_input=False, v_threshold=theta, "
    "v_reset=None, surrogate_function=surrogate.ATan(2.) | Sigmoid(4.), detach_reset=..., store_v_seq=True)",
    "norse": "lif_box_feed_forward_step(I/(1-alpha), LIFBoxFeedForwardState(v), LIFBoxParameters(tau_mem_inv="
    "(1-alpha)/dt, v_th=theta, reset_method=reset_subtract), dt=0.001)",
    "snntorch": "Leaky(beta=alpha, threshold=theta, reset_mechanism='subtract', reset_delay=True)(I, mem)",
}


class Case(NamedTuple):
    """One setting of the neuron; `surrogate` is our name of it."""

    alpha: float
    theta: float
    surrogate: str
    detach: bool

    @property
    def name(self) -> str:
        return f"a{self.alpha}-t{self.theta}-{self.surrogate}-{'detached' if self.detach else 'through'}"


CASES = {
    "spikingjelly": [
        *(Case(a, t, "atan", d) for a in (0.5, 0.75, 0.9) for t in (1.0, 0.7) for d in (True, False)),
        *(Case(0.9, 1.0, "sigmoid", d) for d in (True, False)),
    ],
    # Norse differentiates through the reset, and its alpha is without effect: 1/(1+|x|)^2
    "norse": [Case(a, t, "superspike", False) for a in (0.5, 0.75, 0.9) for t in (1.0, 0.7)],
    "snntorch": [Case(a, t, "atan", True) for a in (0.5, 0.75, 0.9) for t in (1.0, 0.7)],
}


class Question(NamedTuple):
    """What every judge of a case is asked, batch first: currents, first membrane, gradients that flow in."""

    current: Tensor
    u0: Tensor
    on_spikes: Tensor
    on_u: Tensor


def question(case: Case) -> Question:
    """The inputs of a case; the same for every judge.

    Membranes and gradients come out near 1 in size, so that an absolute tolerance of 1e-6 is ten roundings.
    """
    random = np.random.Generator(np.random.PCG64(int(1000 * case.alpha) + int(10 * case.theta)))

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape).astype(np.float32))

    wide = (BATCH, STEPS, WIDTH)
    return Question(
        0.2 + 0.5 * normal(*wide), 0.2 * normal(BATCH, WIDTH), 0.5 * normal(*wide), 0.1 * normal(*wide)
    )


def spikingjelly(case: Case, current: Tensor, u0: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and membranes after the reset, batch first."""
    from spikingjelly.activation_based import functional, surrogate

    spikes, _, u = functional.lif_multi_step(
        current.transpose(0, 1),
        u0,
        tau=1.0 / (1.0 - case.alpha),
        decay_input=False,
        v_threshold=case.theta,
        v_reset=None,
        surrogate_function=surrogate.ATan(2.0) if case.surrogate == "atan" else surrogate.Sigmoid(4.0),
        detach_reset=case.detach,
        store_v_seq=True,
    )
    return spikes.transpose(0, 1), u.transpose(0, 1)


def norse(case: Case, current: Tensor, u0: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and membranes after the reset."""
    from norse.torch.functional.lif_box import (
        LIFBoxFeedForwardState,
        LIFBoxParameters,
        lif_box_feed_forward_step,
    )
    from norse.torch.functional.reset import reset_subtract

    dt = 0.001
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.as_tensor((1.0 - case.alpha) / dt),
        v_th=torch.as_tensor(case.theta),
        reset_method=reset_subtract,
    )
    state, spikes, u = LIFBoxFeedForwardState(u0), [], []
    for t in range(current.shape[1]):
        z, state = lif_box_feed_forward_step(current[:, t] / (1.0 - case.alpha), state, parameters, dt)
        spikes.append(z)
        u.append(state.v)
    return torch.stack(spikes, 1), torch.stack(u, 1)


def snntorch(case: Case, current: Tensor, u0: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and membranes before the delayed reset."""
    from snntorch import Leaky

    cell = Leaky(beta=case.alpha, threshold=case.theta, reset_mechanism="subtract", reset_delay=True)
    mem, spikes, membrane = u0, [], []
    for t in range(current.shape[1]):
        s, mem = cell(current[:, t], mem)
        spikes.append(s)
        membrane.append(mem)
    return torch.stack(spikes, 1), torch.stack(membrane, 1)


JUDGES: dict[str, Callable[[Case, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "spikingjelly": spikingjelly,
    "norse": norse,
    "snntorch": snntorch,
}


def answer(judge: str, case: Case) -> dict[str, Tensor]:
    """Spikes, membranes and, where the judge is one of gradients too, those of current and first membrane."""
    asked = question(case)
    current, u0 = asked.current.requires_grad_(), asked.u0.requires_grad_()
    spikes, u = JUDGES[judge](case, current, u0)
    told = {"spikes": spikes.detach(), "u": u.detach()}
    if judge != "snntorch":
        loss = (spikes * asked.on_spikes).sum() + (u * asked.on_u).sum()
        told["grad_current"], told["grad_u0"] = torch.autograd.grad(loss, (current, u0))
    return {name: part.contiguous() for name, part in told.items()}


def main(folder: Path) -> None:
    """Ask every judge every case."""
    folder.mkdir(parents=True, exist_ok=True)
    for judge, cases in CASES.items():
        arrays: dict[str, Any] = {}
        for case in cases:
            parts = {**question(case)._asdict(), **answer(judge, case)}
            arrays |= {f"{case.name}/{name}": part.numpy() for name, part in parts.items()}
        np.savez_compressed(folder / f"lif_{judge}.npz", **arrays)
        told = {"call": CALLS[judge], judge: version(judge), "torch": torch.__version__}
        (folder / f"lif_{judge}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
