"""How much memory a backbone's weights need, told from its config before anything is loaded."""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from t4dm.backbone.quantize import nf4_bytes
from t4dm.errors import BackboneTooLargeError, NoGpuError

GIB = 2**30


class WeightBytes(NamedTuple):
    """Bytes of a backbone's weights."""

    linear: int
    """Matrices of the decoder layers; these are quantised."""
    embedding: int
    """The embedding and, where it is not tied, the output matrix; these never are."""
    rest: int
    """Gains, biases and buffers."""

    @property
    def total(self) -> int:
        return sum(self)


def on_meta(config: Any) -> nn.Module:
    """The model of a transformers `config`, with shapes and without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def weight_bytes(config: Any, *, quantize: str = "none", dtype: str = "float32") -> WeightBytes:
    """Bytes of the weights once they are loaded; activations, gradients and LoRA come on top.

    Args:
        config: of transformers.
        quantize: `"nf4"` counts 4.127 bits for each weight of a linear layer.
        dtype: of what is not quantised.
    """
    model, size = on_meta(config), getattr(torch, dtype).itemsize
    linear = embedding = 0
    seen: set[int] = set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.Embedding) or id(weight) in seen:
            continue
        seen.add(id(weight))
        count = module.weight.numel()
        if isinstance(module, nn.Embedding) or name == "lm_head":
            embedding += count * size
        else:
            linear += nf4_bytes(count) if quantize == "nf4" else count * size
    rest = sum(p.numel() * size for p in model.parameters() if id(p) not in seen)
    return WeightBytes(linear, embedding, rest + sum(b.numel() * b.element_size() for b in model.buffers()))


def free_bytes(device: str) -> int:
    """Free memory of a device: of the GPU, or what this machine can still give.

    Raises:
        NoGpuError: torch finds no GPU.
    """
    if torch.device(device).type != "cuda":
        return int(psutil.virtual_memory().available)
    if not torch.cuda.is_available():
        raise NoGpuError(f"model.backbone.device={device}")
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def check_room(config: Any, *, name: str, quantize: str, dtype: str, device: str, free: int) -> None:
    """Refuse a backbone whose weights alone are larger than what is free.

    Args:
        name: told in the message.
        free: bytes, see `free_bytes`.

    Raises:
        BackboneTooLargeError: says how much is needed, how much there is, and whether 4 bits would do.
    """
    need = weight_bytes(config, quantize=quantize, dtype=dtype).total
    if need <= free:
        return
    smaller = None
    if quantize != "nf4":
        smaller = weight_bytes(config, quantize="nf4", dtype="bfloat16").total
    raise BackboneTooLargeError(
        name,
        need=need / GIB,
        free=free / GIB,
        device=device,
        smaller=smaller / GIB if smaller is not None and smaller <= free else None,
    )
