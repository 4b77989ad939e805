"""Low-rank adapters on the frozen backbone (Hu et al. 2021), through peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from t4dm.backbone.load import Backbone
from t4dm.errors import LoraMismatchError, LoraTargetError, SettingError


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
        SettingError: a rank below 1, or a dropout that is no share below 1.
    """
    if rank < 1:
        raise SettingError("model.lora.rank", rank, "set model.lora.rank=16, or no LoRA: model.lora=null")
    if not 0.0 <= dropout < 1.0:
        raise SettingError("model.lora.dropout", dropout, "set a share below 1: model.lora.dropout=0.05")
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
    with quiet_peft():
        wrapped = get_peft_model(backbone.model, config)
    return replace(backbone, model=wrapped)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """peft asks transformers for an attribute by its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def lora_settings(backbone: Backbone) -> dict[str, Any]:
    """Rank, alpha and targets of a backbone's LoRA, as plain values; empty without one."""
    configs = getattr(backbone.model, "peft_config", None)
    if not configs:
        return {}
    config: Any = configs["default"]
    return {"rank": config.r, "alpha": config.lora_alpha, "targets": sorted(config.target_modules)}


def lora_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Rank and targets of the LoRA among a checkpoint's tensors; empty where there is none."""
    a = {name.partition(".lora_A.")[0]: tensor for name, tensor in tensors.items() if ".lora_A." in name}
    if not a:
        return {}
    return {
        "rank": max(tensor.shape[0] for tensor in a.values()),
        "targets": sorted({name.rpartition(".")[2] for name in a}),
    }


def check_lora(found: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose LoRA differs from the model's, as far as both tell.

    Raises:
        LoraMismatchError: names the field, both values and what to set.
    """
    for field in ("rank", "alpha", "targets"):
        if field in found and field in here and found[field] != here[field]:
            raise LoraMismatchError(field=field, found=_typed(found[field]), here=_typed(here[field]))


def _typed(value: Any) -> str:
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value)


def lora_parameter_count(backbone: Backbone, *, rank: int, targets: Sequence[str]) -> int:
    """r * (inputs + outputs), summed over the targeted linear layers."""
    shapes = [
        (m.in_features, m.out_features)
        for name, m in backbone.decoder.named_modules()
        if isinstance(m, nn.Linear) and name.rsplit(".", 1)[-1] in targets
    ]
    return rank * sum(i + o for i, o in shapes)
