"""The models that are measured: the shipped one, and the exact shapes of Qwen2.5 with random weights.

Neither time nor memory depends on what the weights are, so nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from t4dm.backbone.load import Backbone, freeze, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.model import MemoryLM
from t4dm.spiking.stack import CorticalStack


class Shape(NamedTuple):
    """A backbone, where the stack stands, and the batch it is measured at; `hidden` 0 is the shipped one."""

    name: str
    batch: int
    tokens: int
    insert_at: int
    width: int
    blocks: int
    heads: int
    hidden: int = 0
    intermediate: int = 0
    layers: int = 0
    attention_heads: int = 0
    kv_heads: int = 0
    vocab: int = 0
    nf4: bool = False
    rank: int = 16


TINY: Final = Shape("tiny", 4, 64, 2, 128, 2, 2)
_LARGE: Final = {"batch": 4, "tokens": 2048, "width": 1024, "blocks": 6, "heads": 16, "vocab": 151_936}
QWEN05: Final = Shape(
    "qwen25_05b", insert_at=12, hidden=896, intermediate=4864, layers=24, attention_heads=14, kv_heads=2,
    **_LARGE,
)  # fmt: skip
QWEN3B: Final = Shape(
    "qwen25_3b", insert_at=18, hidden=2048, intermediate=11_008, layers=36, attention_heads=16, kv_heads=2,
    nf4=True, **_LARGE,
)  # fmt: skip
SHAPES: Final = {"cpu": (TINY,), "cuda": (TINY, QWEN05, QWEN3B)}


def config(shape: Shape) -> Qwen2Config:
    """The configuration of a Qwen2.5 of a shape."""
    return Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.attention_heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )


def backbone(shape: Shape, device: str) -> Backbone:
    """Frozen, in bfloat16 on a GPU; NF4 with double quantisation where the shape says so."""
    tiny = load_backbone("tiny", device=device)
    if not shape.hidden:
        return tiny
    torch.manual_seed(3)
    with torch.device(device):
        model = Qwen2ForCausalLM(config(shape)).to(torch.bfloat16)
    freeze(model)
    if shape.nf4:
        quantised(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return replace(tiny, model=model.eval(), name=shape.name)


def quantised(model: nn.Module) -> None:
    """Put NF4 weights into every linear layer but the head, which the embedding shares."""
    import bitsandbytes as bnb

    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear or name.endswith("lm_head"):
            continue
        device = module.weight.device
        fresh = bnb.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
        )
        fresh.weight = bnb.nn.Params4bit(
            module.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
        )
        if module.bias is not None:
            fresh.bias = nn.Parameter(module.bias.data, requires_grad=False)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, fresh.to(device))


def adapted(base: Backbone, shape: Shape) -> MemoryLM:
    """The backbone with LoRA and the stack; `bypass=True` in its forward leaves the stack out."""
    torch.manual_seed(4)
    model = MemoryLM(
        backbone=add_lora(base, rank=shape.rank),
        stack=CorticalStack(width=shape.width, blocks=shape.blocks, heads=shape.heads),
        insert_at=shape.insert_at,
        embedder=LexicalEmbedder(vocab_size=int(base.decoder.config.vocab_size), dim=1024),
    ).to(base.device)
    with torch.no_grad():  # as after training: a gate of zero would spare work to nobody, and prove nothing
        model.exit.gamma.fill_(0.05)
    return model.train()
