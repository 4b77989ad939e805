"""Writes what the references of flash-linear-attention answer.

`python tests/spiking/make_attention_golden.py [FOLDER]` needs the extra `judges`. Run it once and commit
what it writes; the tests compare with this file, and with the package itself where it is installed. Layouts
are ours, batch first and `[B, T, H, K]`.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
BATCH, HEADS, KEYS, VALUES, EPSILON = 2, 2, 4, 3, 1.0
CALLS = {
    "gla": "fla.ops.gla.naive.naive_recurrent_gla(q K^1/2, k, v, log_decay, S, True): it scales q by K^-1/2",
    "rwkv6": "fla.ops.rwkv6.recurrent_naive.naive_recurrent_rwkv6([B, H, T, K] of r, k, v, log_decay, u, "
    "scale=1.0, initial_state=S, output_final_state=True)",
    "spikes": "naive_recurrent_gla of the depressed keys over that of their sizes with values 1",
}


class Case(NamedTuple):
    """A recurrence and a length."""

    kind: str
    steps: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.steps}"


CASES = [Case(kind, steps) for kind in CALLS for steps in (1, 15, 40)]


def question(case: Case) -> dict[str, Tensor]:
    """Inputs, and under `on_out` and `on_S` the gradients that flow in; fp32."""
    random = np.random.Generator(np.random.PCG64(case.steps))

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape).astype(np.float32))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, size=shape).astype(np.float32))

    wide, deep = (BATCH, case.steps, HEADS, KEYS), (BATCH, case.steps, HEADS, VALUES)
    asked = {
        "q": normal(*wide),
        "k": normal(*wide),
        "v": normal(*deep),
        "S": normal(BATCH, HEADS, KEYS, VALUES),
    }
    if case.kind == "spikes":
        asked |= {name: (asked[name] > 0.5).float() for name in ("q", "k")}
        asked |= {name: uniform(-0.6, 0.0, HEADS, KEYS) for name in ("log_plus", "log_minus")}
        asked |= {"z": uniform(0.0, 2.0, BATCH, HEADS * KEYS), "ybar": uniform(0.0, 2.0, BATCH, HEADS * KEYS)}
    else:
        asked["log_decay"] = uniform(-0.6, 0.0, *wide)
    if case.kind == "rwkv6":
        asked["u"] = normal(HEADS, KEYS)
    return {**asked, "on_out": normal(*deep), "on_S": normal(BATCH, HEADS, KEYS, VALUES)}


def gla(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    """Output and final state, by the reference of fla."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is no GPU
        from fla.ops.gla.naive import naive_recurrent_gla
    return naive_recurrent_gla(q * q.shape[-1] ** 0.5, k, v, log_decay, S, True)


def rwkv6(r: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, u: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
    """Output and final state, by the reference of fla."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fla.ops.rwkv6.recurrent_naive import naive_recurrent_rwkv6
    r, k, v, log_decay = (x.transpose(1, 2) for x in (r, k, v, log_decay))
    out, S = naive_recurrent_rwkv6(r, k, v, log_decay, u, scale=1.0, initial_state=S, output_final_state=True)
    return out.transpose(1, 2), S


def spikes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_plus: Tensor,
    log_minus: Tensor,
    S: Tensor,
    z: Tensor,
    ybar: Tensor,
    *,
    a_plus: float = 1.0,
    a_minus: float = 0.35,
) -> tuple[Tensor, Tensor]:
    """Output and final state of spike attention: two GLA recurrences over keys depressed token by token."""
    trace, keys = ybar.view_as(q[:, 0]), []
    for t in range(q.shape[1]):
        trace = log_minus.exp() * trace
        keys.append(a_plus - a_minus * trace)
        trace = trace + q[:, t]
    strength = torch.stack(keys, dim=1)
    log = log_plus.expand_as(q)
    value, S = gla(q, k * strength, v, log, S)
    ones, z = torch.ones_like(v[..., :1]), z.view_as(q[:, 0]).unsqueeze(-1)
    evidence, _ = gla(q, k * strength.abs(), ones, log, z)
    return value / (EPSILON + evidence), S


JUDGES: dict[str, Any] = {"gla": gla, "rwkv6": rwkv6, "spikes": spikes}
ORDER = {
    "gla": ("q", "k", "v", "log_decay", "S"),
    "rwkv6": ("q", "k", "v", "log_decay", "u", "S"),
    "spikes": ("q", "k", "v", "log_plus", "log_minus", "S", "z", "ybar"),
}


def answer(case: Case) -> dict[str, Tensor]:
    """Output, state and the gradient of every input."""
    asked = question(case)
    inputs = [asked[name].requires_grad_() for name in ORDER[case.kind]]
    out, S = JUDGES[case.kind](*inputs)
    loss = (out * asked["on_out"]).sum() + (S * asked["on_S"]).sum()
    grads = torch.autograd.grad(loss, inputs)
    told = {"out": out, "final": S, **{f"grad_{n}": g for n, g in zip(ORDER[case.kind], grads, strict=True)}}
    return {name: part.detach().contiguous() for name, part in told.items()}


def main(folder: Path) -> None:
    """Ask every case."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{case.name}/{name}": part.detach().numpy()
        for case in CASES
        for name, part in {**question(case), **answer(case)}.items()
    }
    np.savez_compressed(folder / "attention_fla.npz", **arrays)
    told = {"calls": CALLS, "fla-core": version("fla-core"), "torch": torch.__version__}
    (folder / "attention_fla.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
