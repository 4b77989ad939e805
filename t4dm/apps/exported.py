"""What a run learnt as one folder that can be moved and shared, and the way back.

```
folder/
  README.md            model card
  adapter/             the LoRA in peft's format
  stack.safetensors    cortical stack and its doors
  keys.safetensors     how much each token counts in a search key
  config.yaml          the model's part of the run's config
  export.json          written last: format, backbone, LoRA, gate, size and SHA-256 of every other file
``` The backbone is named, not copied, and memories stay with the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from safetensors.torch import load_file, save_file

from t4dm.backbone.adapter import load_adapter, save_adapter
from t4dm.backbone.identity import check_identity, stamp
from t4dm.backbone.load import Backbone
from t4dm.config import build, chosen
from t4dm.errors import BundleFormatError, ExportBrokenError, ModelMismatchError
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.model import MemoryLM
from t4dm.model.writer import MemoryWriter

FORMAT = 1
ADAPTER, STACK, KEYS = "adapter", "stack.safetensors", "keys.safetensors"
CONFIG, INDEX = "config.yaml", "export.json"


class Exported(NamedTuple):
    """An export, loaded again."""

    model: MemoryLM
    """In eval mode; nothing of it learns."""
    writer: MemoryWriter
    """With the gate as it was trained."""


def write_export(
    folder: Path, *, model: MemoryLM, writer: MemoryWriter, config: Mapping[str, Any], card: str
) -> None:
    """Fill `folder`, which is empty.

    Args:
        folder: see the module's docstring.
        model, writer: what learnt.
        config: of the run.
        card: README.md.
    """
    tagged = stamp(model.backbone)
    if tagged["lora"]:
        save_adapter(model.backbone, folder / ADAPTER)
    if beside := _beside_backbone(model):
        save_file(beside, folder / STACK)
    index = {"format": FORMAT, **tagged, "gate": writer.gate.state_dict(), "keys": None}
    if model.embedder is not None:
        state = model.embedder.state_dict()
        save_file({"idf": torch.from_numpy(state.pop("idf"))}, folder / KEYS)
        index["keys"] = state
    text = yaml.safe_dump({"model": config["model"]}, sort_keys=False)
    (folder / CONFIG).write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")
    index["files"] = _digests(folder)
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def load_export(folder: Path, **backbone: Any) -> Exported:
    """The model of an export, on the backbone that it was trained on.

    Args:
        folder: from `t4dm export`.
        backbone: changes of how the backbone is loaded, such as `device="cpu"` or `quantize="nf4"`.

    Raises:
        ExportBrokenError: a file is missing or altered.
        BundleFormatError: it was written by a newer version.
        BackboneMismatchError: what the config loads is another backbone.
    """
    folder = Path(folder)
    index = _checked(folder)
    c = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))["model"]
    base: Backbone = build({**c["backbone"], **backbone})
    check_identity(index["backbone"], base, what=f"the export {folder}")
    if index["lora"]:
        base = load_adapter(base, folder / ADAPTER)
    model: MemoryLM = build(
        c["memory_lm"],
        backbone=base,
        stack=next((build(node) for node in chosen({"": c.get("stack")})), None),
        embedder=_embedder(folder, index["keys"]),
    )
    _put_back(model, folder)
    writer: MemoryWriter = build(c["writer"])
    writer.gate.load_state_dict(index["gate"])
    return Exported(model.to(base.device).requires_grad_(False).eval(), writer)


def _beside_backbone(model: MemoryLM) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
        if not name.startswith("language_model.")
    }


def _put_back(model: MemoryLM, folder: Path) -> None:
    own = _beside_backbone(model)
    found = load_file(folder / STACK) if (folder / STACK).is_file() else {}
    if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in found.items()}:
        raise ModelMismatchError(f"{folder / STACK} holds other tensors than the stack of {CONFIG}")
    model.load_state_dict(found, strict=False)


def _embedder(folder: Path, keys: Mapping[str, Any] | None) -> LexicalEmbedder | None:
    if keys is None:
        return None
    return LexicalEmbedder.from_state({**keys, "idf": load_file(folder / KEYS)["idf"].numpy()})


def _digests(folder: Path) -> dict[str, list[Any]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): [file.stat().st_size, _sha256(file)] for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(folder: Path) -> dict[str, Any]:
    """The index of an export whose every file is what was written."""
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version, files = int(index["format"]), dict(index["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportBrokenError(folder, f"{INDEX} cannot be read") from error
    if version > FORMAT:
        raise BundleFormatError(path=folder, found=version, known=FORMAT)
    for name, (size, digest) in files.items():
        file = folder / name
        if not file.is_file():
            raise ExportBrokenError(folder, f"{name} is missing")
        if name != "README.md" and (file.stat().st_size != size or _sha256(file) != digest):
            raise ExportBrokenError(folder, f"{name} has been altered")
    return index
