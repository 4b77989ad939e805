"""Loading: frozen, shipped, and one clear line where a model cannot be had."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that refuses at once, and a user who has not said so."""
    with socket.socket() as nobody:  # a port that is bound and does not listen
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}"
        )
        yield


@pytest.mark.usefixtures("no_network")
def test_without_network_the_hub_is_asked_once_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BackboneUnavailableError):
        load_backbone("Qwen/Qwen2.5-0.5B", revision="060db6499f32faf8b98477b0a26969ef7d8b9987")
    assert capfd.readouterr() == ("", "")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_hub_model_loads_without_network_and_knows_its_commit(
    revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "models--owner--name"
    shutil.copytree(TINY, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = load_backbone("owner/name", revision=revision)
    assert (backbone.name, backbone.revision) == ("owner/name", COMMIT)
    assert capfd.readouterr() == ("", "")  # nobody was asked


def test_another_revision_than_the_cached_one_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(TINY, tmp_path / "models--owner--name" / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        BackboneUnavailableError, match=r"owner/name at revision f{40} is not on this machine"
    ):
        load_backbone("owner/name", revision="f" * 40)


@pytest.mark.parametrize("name", ["./no/such/folder", "no such name", "a/b/c"])
def test_a_name_that_is_nowhere_is_one_line(name: str) -> None:
    with pytest.raises(BackboneUnavailableError) as caught:
        load_backbone(name)
    assert str(caught.value).startswith(f"the backbone {name} is not on this machine")
    assert "\n" not in str(caught.value)


def test_a_folder_without_weights_is_one_line(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "half", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(BackboneUnavailableError, match="half is not on this machine and cannot be fetched"):
        load_backbone(str(tmp_path / "half"))


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_a_layer_that_is_not_there_is_an_error_that_names_the_range(layer: int) -> None:
    with pytest.raises(InsertionPointError, match="a number from 1 to 3"):
        load_backbone("tiny").layer(layer)


def test_checkpointing_is_not_reentrant() -> None:
    backbone = load_backbone("tiny", checkpointing=True)
    layer = backbone.layers[0]
    assert layer.gradient_checkpointing
    assert layer._gradient_checkpointing_func.keywords["use_reentrant"] is False
