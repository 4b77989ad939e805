"""Which implementation of the LIF neuron runs: by name, or the quickest one that this machine has."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch

from t4dm.errors import MissingBackendError, UnknownBackendError
from t4dm.spiking import lif_cpu, lif_naive
from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.surrogate import REGISTRY, Surrogate

Run = Callable[[Drive, LIFParams], LIFTrajectory]

SETTING = "model.stack.lif_backend"
BACKENDS = {
    "cpu": "one autograd.Function over the sequence; saves only h, hand-written backward; runs on any device",
    "naive": "a plain loop recorded by autograd; the reference that the others are tested against",
    "triton": "one GPU kernel over the sequence each way; saves only h; works under torch.compile",
}


def explain_backends(device: torch.device | str | None = None) -> dict[str, str]:
    """Which LIF back-ends there are, what each is or why it cannot run, and which one `auto` takes.

    Args:
        device: where the currents are; the GPU when one is visible, otherwise the CPU.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    why = why_no_triton(where)
    told = dict(BACKENDS)
    if why is not None:
        told["triton"] = f"not here: {why}"
    return {**told, "auto": choose("auto", where, REGISTRY["atan"])}


def choose(name: str, device: torch.device, surrogate: Surrogate) -> str:
    """The back-end that `name` means for currents on `device`.

    Raises:
        UnknownBackendError: no back-end has that name.
        MissingBackendError: it was asked for by name and cannot run.
    """
    if known_backend(name) not in ("auto", "triton"):
        return name
    why = why_no_triton(device, surrogate)
    if name == "triton" and why is not None:
        raise MissingBackendError("LIF", "triton", why, setting=SETTING)
    return "triton" if why is None and (name == "triton" or device.type == "cuda") else "cpu"


def known_backend(name: str) -> str:
    """The name itself, for whoever keeps it until there is a current.

    Raises:
        UnknownBackendError: no back-end has that name.
    """
    if name not in ("auto", *BACKENDS):
        raise UnknownBackendError("LIF", name, ["auto", *BACKENDS], setting=SETTING)
    return name


def backend(name: str) -> Run:
    """The function behind a name that `choose` returned."""
    if name == "triton":
        from t4dm.spiking import lif_triton

        return lif_triton.run
    return lif_naive.run if name == "naive" else lif_cpu.run


def why_no_triton(device: torch.device, surrogate: Surrogate | None = None) -> str | None:
    """The reason why the Triton kernels cannot run on that device, None when they can."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if surrogate is not None and REGISTRY.get(surrogate.name) is not surrogate:
        return f"its kernels know the registered surrogates only, and {surrogate.name!r} is not one"
    # Triton's own switch: kernels are interpreted, so they run without a GPU, for tests
    if os.environ.get("TRITON_INTERPRET") == "1" or device.type == "cuda":
        return None
    return f"the current is on {device.type}, and it runs on cuda"
