"""Loading: frozen, shipped, and one clear line where a model cannot be had."""

from __future__ import annotations

import json
import socket

import pytest
import torch

from t4dm.backbone.load import TINY, load_backbone
from t4dm.errors import BackboneUnavailableError, InsertionPointError


def test_the_shipped_backbone_is_a_frozen_qwen2_in_float32() -> None:
    backbone = load_backbone("tiny")
    assert backbone.model.config.model_type == "qwen2"
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    assert not backbone.model.training


def test_the_shipped_files_stay_within_ten_megabytes() -> None:
    files = [f for f in TINY.iterdir() if f.is_file()]
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= {f.name for f in files}
    assert sum(f.stat().st_size for f in files) < 10_000_000
    assert json.loads((TINY / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]


def test_a_hub_model_without_network_is_one_line_with_the_fix() -> None:
    with pytest.raises(BackboneUnavailableError) as caught:
        load_backbone("Qwen/Qwen2.5-0.5B", revision="060db6499f32faf8b98477b0a26969ef7d8b9987")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("run with: model=tiny")
    assert "060db6499f32" in str(caught.value)


def test_without_network_the_hub_is_asked_once_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:  # a port that is bound and does not listen refuses at once
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}"
        )
        with pytest.raises(BackboneUnavailableError):
            load_backbone("Qwen/Qwen2.5-0.5B", revision="060db6499f32faf8b98477b0a26969ef7d8b9987")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_is_not_there_is_an_error_that_names_the_range(layer: int) -> None:
    with pytest.raises(InsertionPointError, match="a number from 1 to 3"):
        load_backbone("tiny").layer(layer)


def test_checkpointing_is_not_reentrant() -> None:
    backbone = load_backbone("tiny", checkpointing=True)
    layer = backbone.layers[0]
    assert layer.gradient_checkpointing
    assert layer._gradient_checkpointing_func.keywords["use_reentrant"] is False
