"""Linear weights in 4 bits: NF4 with double quantisation (Dettmers et al. 2023), through bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from t4dm.errors import MissingExtra

BLOCK = 64
"""Weights that share one scale."""
SCALES = 256
"""Scales that share one scale of their own."""
TABLES = 4 * (16 + 256 + 1)
"""Bytes that each quantised matrix keeps beside its weights and scales: two code tables and a mean."""


def nf4_config(compute: torch.dtype) -> Any:
    """The `quantization_config` that transformers takes.

    Args:
        compute: dtype in which products are made.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("bitsandbytes", "gpu") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def nf4_bytes(parameters: int) -> int:
    """Bytes of one matrix: half a byte a weight, a byte for each block, four for 256 of these, and tables."""
    blocks = -(-parameters // BLOCK)
    return -(-parameters // 2) + blocks + 4 * -(-blocks // SCALES) + TABLES


def quantized_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The linear layers of `model` whose weights are in 4 bits, by name."""
    return ((name, layer) for name, layer in model.named_modules() if type(layer).__name__ == "Linear4bit")


def keep_layout(model: nn.Module) -> None:
    """Keep the 4-bit weights as they were stored.

    On a CPU with AVX512-BF16 bitsandbytes repacks a layer at its first pass in eval mode: its products are
    then rounded to bfloat16 whatever the compute dtype, no gradient passes any more, and the way back is
    inexact.
    """
    for _, layer in quantized_layers(model):
        layer.support_avx512bf16_for_cpu = False


def dequantized(layer: nn.Module) -> Tensor:
    """The weight `[out, in]` of a linear layer as the forward pass uses it; a plain one is its own."""
    weight: Any = layer.weight
    if getattr(weight, "quant_state", None) is None:
        return weight.detach()
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, weight.quant_state)
