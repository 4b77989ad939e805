"""Low-rank adapters on the frozen backbone (Hu et al. 2021), through peft."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from peft import LoraConfig, get_peft_model
from torch import nn

from t4dm.backbone.load import Backbone
from t4dm.errors import LoraTargetError


def add_lora(
    backbone: Backbone,
    *,
    rank: int,
    alpha: int | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] = ("q_proj", "v_proj"),
) -> Backbone:
    """Wrap the targeted linear layers with W + (alpha / rank) * B A, B = 0 at the start, so nothing changes
    yet.

    Args:
        rank: r, the width of A and B.
        alpha: scale; default 2 * rank.
        dropout: on the input of A.
        targets: names of linear layers, in every decoder layer.

    Raises:
        LoraTargetError: a target names no linear layer of this backbone.
    """
    linear = {
        name.rsplit(".", 1)[-1] for name, m in backbone.decoder.named_modules() if isinstance(m, nn.Linear)
    }
    if unknown := sorted(set(targets) - linear):
        raise LoraTargetError(unknown, sorted(linear))
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():  # peft asks transformers for an attribute by its old name
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        wrapped = get_peft_model(backbone.model, config)
    return replace(backbone, model=wrapped)


def lora_parameter_count(backbone: Backbone, *, rank: int, targets: Sequence[str]) -> int:
    """r * (inputs + outputs), summed over the targeted linear layers."""
    shapes = [
        (m.in_features, m.out_features)
        for name, m in backbone.decoder.named_modules()
        if isinstance(m, nn.Linear) and name.rsplit(".", 1)[-1] in targets
    ]
    return rank * sum(i + o for i, o in shapes)
