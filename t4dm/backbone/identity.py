"""Which backbone something was trained on: told by its shape and its weights, not by its name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from t4dm.backbone.load import Backbone
from t4dm.backbone.lora import check_lora, lora_settings
from t4dm.errors import BackboneMismatchError

ROWS = 64
"""Rows of the embedding in the fingerprint."""
DECISIVE = ("type", "layers", "width", "vocabulary", "weights")


def identity(backbone: Backbone) -> dict[str, Any]:
    """Name, revision, shape and a fingerprint of the weights, as plain values.

    The fingerprint is made of what is never quantised, rounded to bfloat16 first: it is the same in 4 bits,
    in bfloat16 and in float32.
    """
    decoder = backbone.decoder
    digest = hashlib.sha256()
    for part in (decoder.embed_tokens.weight[:ROWS], decoder.norm.weight):
        digest.update(part.detach().to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return {
        "name": backbone.name,
        "revision": backbone.revision,
        "type": str(decoder.config.model_type),
        "layers": len(backbone.layers),
        "width": backbone.width,
        "vocabulary": int(decoder.config.vocab_size),
        "weights": digest.hexdigest()[:16],
    }


def check_identity(trained_on: Mapping[str, Any], backbone: Backbone, *, what: str) -> None:
    """Refuse what was trained on another backbone; the same one may have moved to another path.

    Args:
        trained_on: `identity` of the backbone then.
        backbone: the one that is here.
        what: is refused, with its path.

    Raises:
        BackboneMismatchError: names both.
    """
    here = identity(backbone)
    if any(trained_on[key] != here[key] for key in DECISIVE):
        raise BackboneMismatchError(what, trained_on=trained_on, here=here)


def stamp(backbone: Backbone) -> dict[str, Any]:
    """What a checkpoint says of the backbone and the LoRA that it was made with, as plain values."""
    return {"backbone": identity(backbone), "lora": lora_settings(backbone)}


def check_stamp(found: Mapping[str, Any], backbone: Backbone, *, what: str) -> None:
    """Refuse a checkpoint by its `stamp`; an older one without a stamp passes.

    Raises:
        BackboneMismatchError: it was trained on another backbone.
        LoraMismatchError: its LoRA has another rank, alpha or other targets.
    """
    if "backbone" in found:
        check_identity(found["backbone"], backbone, what=what)
        check_lora(found["lora"], lora_settings(backbone))
