"""LoRA: how many parameters, and nothing changes before it learns."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora, check_lora, lora_of, lora_parameter_count, lora_settings
from t4dm.errors import LoraMismatchError, LoraTargetError, SettingError


@cache
def qwen25_3b_on_meta() -> Backbone:
    """The published shape of Qwen2.5-3B (its config.json), without weights."""
    config = Qwen2Config(
        vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
        num_attention_heads=16, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    with torch.device("meta"):
        return Backbone(Qwen2ForCausalLM(config), None, "meta", None)  # type: ignore[arg-type]


def test_rank_16_on_queries_and_values_of_3b_is_3_686_400_parameters() -> None:
    targets = ["q_proj", "v_proj"]
    backbone = qwen25_3b_on_meta()
    assert lora_parameter_count(backbone, rank=16, targets=targets) == 3_686_400
    assert lora_parameter_count(backbone, rank=64, targets=targets) == 14_745_600


@pytest.mark.parametrize("rank", [1, 4])
def test_the_formula_counts_what_peft_makes(rank: int) -> None:
    targets = ["q_proj", "v_proj", "down_proj"]
    backbone = load_backbone("tiny")
    expected = lora_parameter_count(backbone, rank=rank, targets=targets)
    made = add_lora(backbone, rank=rank, targets=targets)
    assert sum(p.numel() for p in made.model.parameters() if p.requires_grad) == expected


def test_logits_are_the_backbones_bit_for_bit_before_training() -> None:
    ids = torch.arange(2, 34).reshape(2, 16)
    with torch.no_grad():
        before = load_backbone("tiny").model(input_ids=ids).logits
        after = add_lora(load_backbone("tiny"), rank=4).model(input_ids=ids).logits
    assert torch.equal(before, after)


def test_an_unknown_target_is_an_error_that_lists_the_choices() -> None:
    with pytest.raises(
        LoraTargetError, match=r"named query; choose model.lora.targets among down_proj, .*v_proj"
    ):
        add_lora(load_backbone("tiny"), rank=4, targets=["query"])


def test_the_decoder_is_found_through_peft() -> None:
    plain, wrapped = load_backbone("tiny"), add_lora(load_backbone("tiny"), rank=2)
    assert type(plain.decoder) is type(wrapped.decoder)
    assert wrapped.width == 128
    assert len(wrapped.layers) == 4


PRESETS = sorted((Path(__file__).parents[2] / "configs" / "model" / "lora").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_has_as_many_parameters_at_3b_as_its_first_line_says(preset: Path) -> None:
    text = preset.read_text()
    said = re.fullmatch(r"# Rank (\d+) on .*: ([\d,]+) parameters at 3B\.", text.splitlines()[0])
    assert said
    config = yaml.safe_load(text)
    assert config["rank"] == int(said[1])
    count = lora_parameter_count(qwen25_3b_on_meta(), rank=config["rank"], targets=config["targets"])
    assert count == int(said[2].replace(",", ""))
    if named := re.search(r"_(\d+)m$", preset.stem):  # the file's name, in millions
        assert round(count / 1e6) == int(named[1])


def test_the_presets_cover_the_ranks_8_to_64_and_three_ways_to_15_million() -> None:
    assert {yaml.safe_load(p.read_text())["rank"] for p in PRESETS} == {8, 16, 32, 64}
    assert sum(p.stem.endswith("_15m") for p in PRESETS) == 3


def test_the_formula_counts_quantised_layers_too() -> None:
    targets = ["q_proj", "down_proj"]
    plain, quantised = load_backbone("tiny"), load_backbone("tiny", quantize="nf4")
    assert lora_parameter_count(quantised, rank=8, targets=targets) == lora_parameter_count(
        plain, rank=8, targets=targets
    )


@pytest.mark.parametrize("rank", [8, 16, 32, 64])
def test_alpha_is_twice_the_rank_unless_it_is_given(rank: int) -> None:
    assert lora_settings(add_lora(load_backbone("tiny"), rank=rank)) == {
        "rank": rank,
        "alpha": 2 * rank,
        "targets": ["q_proj", "v_proj"],
    }
    assert lora_settings(add_lora(load_backbone("tiny"), rank=rank, alpha=5))["alpha"] == 5


def test_dropout_drops_in_training_only() -> None:
    backbone = add_lora(load_backbone("tiny"), rank=4, dropout=0.5)
    for name, parameter in backbone.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(2, 34).reshape(2, 16)
    torch.manual_seed(0)
    with torch.no_grad():
        quiet = [backbone.model.eval()(input_ids=ids).logits for _ in range(2)]
        noisy = [backbone.model.train()(input_ids=ids).logits for _ in range(2)]
    assert torch.equal(quiet[0], quiet[1])
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, r"^model.lora.rank=0 does not work; set model.lora.rank=16, or no LoRA: .*=null$"),
        ({"dropout": 1.0}, r"^model.lora.dropout=1.0 does not work; .*model.lora.dropout=0.05$"),
        ({"dropout": -0.1}, r"^model.lora.dropout=-0.1 does not work"),
    ],
)
def test_settings_that_cannot_work_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        add_lora(load_backbone("tiny"), **{"rank": 4, **changes})


def test_a_checkpoints_tensors_tell_rank_and_targets() -> None:
    backbone = add_lora(load_backbone("tiny"), rank=3, targets=["v_proj", "down_proj"])
    tensors = {f"language_model.{n}": t for n, t in backbone.model.state_dict().items() if "lora" in n}
    assert lora_of(tensors) == {"rank": 3, "targets": ["down_proj", "v_proj"]}
    assert lora_of({"stack.weight": torch.zeros(2)}) == {}


@pytest.mark.parametrize(
    ("field", "found", "message"),
    [
        ("rank", 8, "the checkpoint's LoRA has rank 8, the model's has 16; set model.lora.rank=8"),
        ("alpha", 8, "the checkpoint's LoRA has alpha 8, the model's has 32; set model.lora.alpha=8"),
        (
            "targets",
            ["k_proj", "q_proj"],
            "the checkpoint's LoRA has targets [k_proj,q_proj], the model's has [q_proj,v_proj]; "
            "set model.lora.targets=[k_proj,q_proj]",
        ),
    ],
)
def test_another_lora_is_one_line_with_the_setting_to_type(field: str, found: Any, message: str) -> None:
    here = {"rank": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]}
    check_lora(here, here)
    check_lora({}, here)
    with pytest.raises(LoraMismatchError) as caught:
        check_lora({**here, field: found}, here)
    assert str(caught.value) == message
