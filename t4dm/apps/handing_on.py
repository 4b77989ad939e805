"""What `t4dm export` and `t4dm merge` do: a run's model, for elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from t4dm.apps import finished
from t4dm.apps.exported import write_export
from t4dm.apps.model_card import model_card
from t4dm.backbone.identity import stamp
from t4dm.backbone.merge import logit_difference, merge, save_model
from t4dm.errors import NoLoraError
from t4dm.persistence.whole_folder import whole_folder


class Merged(NamedTuple):
    """A merged model on the disk."""

    folder: Path
    difference: float
    """Largest absolute difference of its logits to the adapter model's, on random tokens."""
    dtype: str

    def lines(self) -> list[str]:
        """What the command says."""
        return [
            f"largest logit difference to the adapter model: {self.difference:.3g} ({self.dtype})",
            f"{self.folder}: the language model with its LoRA merged; the stack is not part of it: "
            f"t4dm export RUN {self.folder}-stack",
        ]


def export(run: Path, out: Path) -> Path:
    """Write what a run learnt to the new folder `out`; it appears whole or not at all.

    Raises:
        RunFolderError: `run` is no run with a checkpoint.
        FolderExistsError: something is at `out`.
    """
    with whole_folder(out) as folder:
        trained = finished.load(run, changes={})
        model = trained.parts.model
        tagged = stamp(model.backbone)
        counts = {
            "lora": sum(p.numel() for p in model.lora_parameters()),
            "stack": sum(
                p.numel() for n, p in model.named_parameters() if not n.startswith("language_model.")
            ),
        }
        card = model_card(
            folder=out.name,
            config=trained.config,
            identity=tagged["backbone"],
            lora=tagged["lora"],
            parameters=counts,
            summary=_summary(run),
        )
        writer = trained.parts.writer
        write_export(folder, model=model, writer=writer, config=trained.config, card=card)
    return out


def merged(run: Path, out: Path) -> Merged:
    """Write a run's language model with its LoRA merged to the new folder `out`, as transformers does.

    Raises:
        RunFolderError: `run` is no run with a checkpoint.
        NoLoraError: it was trained without LoRA.
        FolderExistsError: something is at `out`.
    """
    with whole_folder(out) as folder:
        backbone = finished.load(run, changes={}).parts.model.backbone
        if not stamp(backbone)["lora"]:
            raise NoLoraError(str(run))
        plain = merge(backbone)
        difference = logit_difference(backbone, plain, generator=torch.Generator().manual_seed(0))
        save_model(plain, folder)
    model: Any = plain.model
    return Merged(out, difference, str(model.dtype).removeprefix("torch."))


def _summary(run: Path) -> dict[str, Any]:
    file = run / "summary.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
