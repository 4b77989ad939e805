"""LoRA: how many parameters, and nothing changes before it learns."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora, lora_parameter_count
from t4dm.errors import LoraTargetError


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
