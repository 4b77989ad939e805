"""The LoRA added into the weights: one plain model, without adapter and without quantisation.

It is merged onto the *dequantised* weights, those that it was trained on, not onto the original ones. So the
merged model computes what the adapter model computes, up to rounding: W + (alpha / rank) B A is rounded to
the model's dtype once, where the adapter adds its product to the layer's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from t4dm.backbone.load import Backbone, freeze
from t4dm.backbone.quantize import dequantized
from t4dm.backbone.weights import on_meta

PROBE = (4, 64)
"""Rows and tokens on which a merged model is compared."""


def merge(backbone: Backbone) -> Backbone:
    """A backbone of plain linear layers that holds `backbone`'s weights with its LoRA added, in its dtype.

    What is not merged is shared with `backbone`, not copied.
    """
    model: Any = backbone.model
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = type(base.config).from_dict(_plain_config(base))
    merged: Any = on_meta(config)
    dtype = base.get_input_embeddings().weight.dtype
    tensors = {name: tensor.to(dtype) for name, tensor in _tensors(base)}
    merged.load_state_dict(tensors, strict=False, assign=True)
    _take_buffers(merged, base)
    merged.tie_weights()
    merged.config.dtype = dtype
    merged.generation_config = base.generation_config
    freeze(merged)
    return Backbone(merged.eval(), backbone.tokenizer, backbone.name, backbone.revision)


def _plain_config(base: nn.Module) -> dict[str, Any]:
    config: dict[str, Any] = base.config.to_dict()  # type: ignore[union-attr, operator]
    config.pop("quantization_config", None)
    return config


def _tensors(base: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters of the plain model, by its names; the linear layers with what LoRA adds to them."""
    for path, module in base.named_modules():
        if isinstance(module, LoraLayer):
            layer: Any = module.get_base_layer()
            yield f"{path}.weight", _merged_weight(module, layer)
            if layer.bias is not None:
                yield f"{path}.bias", layer.bias.detach()
        elif isinstance(module, nn.Linear) and not _inside_lora(path):
            yield f"{path}.weight", dequantized(module)
            if module.bias is not None:
                yield f"{path}.bias", module.bias.detach()
        elif not isinstance(module, nn.Linear):
            for name, parameter in module.named_parameters(recurse=False):
                yield f"{path}.{name}".lstrip("."), parameter.detach()


def _inside_lora(path: str) -> bool:
    return bool({"base_layer", "lora_A", "lora_B"} & set(path.split(".")))


def _merged_weight(module: Any, layer: nn.Module) -> Tensor:
    """W + (alpha / rank) B A, summed in float32."""
    weight = dequantized(layer)
    total = weight.to(torch.float32, copy=True)
    for name in module.active_adapters:
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        total += module.scaling[name] * (b.detach().float() @ a.detach().float())
    return total.to(weight.dtype)


def _take_buffers(merged: nn.Module, base: nn.Module) -> None:
    """Rotary frequencies are in no checkpoint; on the meta device they have no values."""
    for name, buffer in base.named_buffers():
        path, _, leaf = name.rpartition(".")
        owner = merged.get_submodule(path)
        if leaf in owner._buffers:
            owner._buffers[leaf] = buffer


@torch.no_grad()
def logit_difference(one: Backbone, other: Backbone, *, generator: torch.Generator) -> float:
    """Largest absolute difference of two models' logits on random tokens `PROBE`, both in eval mode."""
    vocabulary = int(one.decoder.config.vocab_size)
    ids = torch.randint(vocabulary, PROBE, generator=generator).to(one.device)
    logits = [_evaluated(b, ids) for b in (one, other)]
    return float((logits[0] - logits[1]).abs().max())


def _evaluated(backbone: Backbone, ids: Tensor) -> Tensor:
    was, model = backbone.model.training, backbone.model.eval()
    logits: Tensor = model(input_ids=ids, use_cache=False).logits.float()
    model.train(was)
    return logits


def save_model(backbone: Backbone, folder: Path) -> None:
    """Write a plain model and its tokenizer as transformers does: safetensors and configs."""
    model: Any = backbone.model
    model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
