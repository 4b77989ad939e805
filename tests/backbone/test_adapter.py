"""A LoRA in peft's format: whole, small, and back to the same logits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from t4dm.backbone.adapter import load_adapter, save_adapter
from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.errors import ExportBrokenError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing.*:FutureWarning"
)  # in peft itself
IDS = torch.arange(2, 34).reshape(2, 16)


@pytest.fixture
def tuned() -> Backbone:
    torch.manual_seed(0)
    backbone = add_lora(load_backbone("tiny"), rank=4, alpha=6)
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return backbone


def test_an_adapter_comes_back_to_the_same_bits_frozen_or_learning(tuned: Backbone, tmp_path: Path) -> None:
    save_adapter(tuned, tmp_path)
    back = load_adapter(load_backbone("tiny"), tmp_path)
    with torch.no_grad():
        expected = tuned.model.eval()(input_ids=IDS).logits
        assert torch.equal(back.model(input_ids=IDS).logits, expected)
    assert not any(p.requires_grad for p in back.model.parameters())
    learning = load_adapter(load_backbone("tiny"), tmp_path, trainable=True)
    assert all(p.requires_grad == ("lora_" in n) for n, p in learning.model.named_parameters())


def test_peft_reads_it_and_it_names_its_base_without_a_path_of_this_machine(
    tuned: Backbone, tmp_path: Path
) -> None:
    save_adapter(tuned, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"], config["lora_alpha"]) == ("tiny", 4, 6)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    # 4 layers; q: 128 -> 128, v: 128 -> 64; float32
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 4 * 4 * 4 * (256 + 192) + 4096
    theirs = PeftModel.from_pretrained(load_backbone("tiny").model, str(tmp_path))
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=IDS).logits, tuned.model.eval()(input_ids=IDS).logits)


def test_a_missing_or_cut_file_is_one_line(tuned: Backbone, tmp_path: Path) -> None:
    save_adapter(tuned, tmp_path)
    tensors = tmp_path / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(ExportBrokenError, match=r"its LoRA cannot be put on tiny .*t4dm export RUN") as cut:
        load_adapter(load_backbone("tiny"), tmp_path)
    assert "\n" not in str(cut.value)
    tensors.unlink()
    with pytest.raises(ExportBrokenError, match=r"it has no adapter_model.safetensors; "):
        load_adapter(load_backbone("tiny"), tmp_path)
