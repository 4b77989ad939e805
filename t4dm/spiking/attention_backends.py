"""Which implementation of spike attention and of RWKV runs: by name, or the quickest one that is here."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from t4dm.errors import MissingBackendError, UnknownBackendError

FLA = "Triton chunk kernels of flash-linear-attention; CUDA only, wants fla-core"
BACKENDS = {
    "spike attention": {
        "chunk": "a handful of matrix products over chunks of tokens; runs on any device",
        "recurrent": "one token at a time, recorded by autograd; a reference",
        "quadratic": "all pairs of tokens, memory T^2; the reference for small T",
        "fla": FLA,
    },
    "rwkv": {
        "torch_chunk": "a handful of matrix products over chunks of tokens; runs on any device",
        "torch_recurrent": "one token at a time, recorded by autograd; the reference",
        "fla": FLA,
    },
}
SETTINGS = {"spike attention": "model.stack.attention_mode", "rwkv": "model.stack.rwkv_backend"}
PORTABLE = {"spike attention": "chunk", "rwkv": "torch_chunk"}


def explain_attention_backends(device: torch.device | str | None = None) -> dict[str, dict[str, str]]:
    """For each kernel: its back-ends, what each is or why it cannot run, and which one `auto` takes.

    Args:
        device: where the tokens are; the GPU when one is visible, otherwise the CPU.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    why = why_no_fla(where)
    told = {kernel: dict(known) for kernel, known in BACKENDS.items()}
    for kernel, lines in told.items():
        if why is not None:
            lines["fla"] = f"not here: {why}"
        lines["auto"] = choose(kernel, "auto", where)
    return told


def choose(kernel: str, name: str, device: torch.device) -> str:
    """The back-end of `kernel` that `name` means for tokens on `device`.

    Raises:
        UnknownBackendError: no back-end has that name.
        MissingBackendError: it was asked for by name and cannot run.
    """
    if known_backend(kernel, name) not in ("auto", "fla"):
        return name
    why = why_no_fla(device)
    if why is None:
        return "fla"
    if name == "fla":
        instead = ("auto", PORTABLE[kernel])
        raise MissingBackendError(kernel, "fla", why, instead=instead, setting=SETTINGS[kernel])
    return PORTABLE[kernel]


def known_backend(kernel: str, name: str) -> str:
    """The name itself, for whoever keeps it until there are tokens.

    Raises:
        UnknownBackendError: no back-end of `kernel` has that name.
    """
    if name not in ("auto", *BACKENDS[kernel]):
        raise UnknownBackendError(kernel, name, ["auto", *BACKENDS[kernel]], setting=SETTINGS[kernel])
    return name


def why_no_fla(device: torch.device) -> str | None:
    """The reason why flash-linear-attention cannot run on that device, None when it can."""
    for package, module in (("fla-core", "fla"), ("triton", "triton")):
        if find_spec(module) is None:
            return f"{package} is not installed"
    return None if device.type == "cuda" else f"the tokens are on {device.type}, and it runs on cuda"
