"""A LoRA as a folder in peft's format, so that other tools read it too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError

from t4dm.backbone.load import Backbone
from t4dm.backbone.lora import quiet_peft
from t4dm.errors import ExportBrokenError

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"


def save_adapter(backbone: Backbone, folder: Path) -> None:
    """Write the LoRA of `backbone` to `folder`; its base model is named, not copied."""
    model: Any = backbone.model
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template of a model card, unfilled
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": backbone.name, "revision": backbone.revision}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_adapter(backbone: Backbone, folder: Path, *, trainable: bool = False) -> Backbone:
    """Wrap a bare backbone with the LoRA of `folder`.

    Args:
        backbone: without LoRA.
        folder: from `save_adapter`.
        trainable: whether the LoRA goes on learning.

    Raises:
        ExportBrokenError: a file is missing or cut short, or does not fit the backbone.
    """
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise ExportBrokenError(folder, f"it has no {name}")
    model: Any = backbone.model
    try:
        with quiet_peft():
            wrapped = PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (SafetensorError, ValueError, RuntimeError) as error:
        problem = (str(error).splitlines() or [""])[0]
        raise ExportBrokenError(folder, f"its LoRA cannot be put on {backbone.name} ({problem})") from error
    return replace(backbone, model=wrapped.train(model.training))
