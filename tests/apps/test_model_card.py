"""The README of an export: what was trained on what, and under which licence."""

from __future__ import annotations

from typing import Any

import yaml

from t4dm.apps.model_card import model_card


def card(name: str, *, revision: str | None, lora: dict[str, Any]) -> str:
    identity = {
        "name": name,
        "type": "qwen2",
        "layers": 36,
        "width": 2048,
        "revision": revision,
        "weights": "abc",
    }
    data = {"_target_": "t4dm.data.text.TextDataModule", "files": ["/home/ann/private/book.txt"]}
    config = {"name": "wake", "seed": 7, "model": {"memory_lm": {"insert_at": 18}}, "data": data}
    parameters = {"lora": 3_686_400, "stack": 1000}
    return model_card(
        folder="mine", config=config, identity=identity, lora=lora, parameters=parameters, summary={}
    )


def test_it_names_base_revision_parameters_and_data_but_no_folder_of_the_owner() -> None:
    lora = {"rank": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]}
    text = card("Qwen/Qwen2.5-3B", revision="3aab1f1", lora=lora)
    head = yaml.safe_load(text.split("---")[1])
    assert (head["base_model"], head["license"]) == ("Qwen/Qwen2.5-3B", "other")
    for told in (
        "3aab1f1",
        "3,687,400",
        "rank 16, alpha 32, on q_proj, v_proj",
        "TextDataModule, book.txt",
        "seed 7",
    ):
        assert told in text
    assert "private" not in text
    assert "keeps to the licence of Qwen/Qwen2.5-3B" in text


def test_the_shipped_backbone_without_lora_has_its_own_licence() -> None:
    text = card("tiny", revision=None, lora={})
    assert yaml.safe_load(text.split("---")[1])["license"] == "apache-2.0"
    assert "none; weights abc" in text
