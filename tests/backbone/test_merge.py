"""Merging: the merged model computes what the adapter model does, from plain weights, and loads anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.backbone.merge import logit_difference, merge, save_model
from t4dm.backbone.quantize import dequantized

IDS = torch.arange(2, 34).reshape(2, 16)


def tuned(name: str = "tiny", **how: Any) -> Backbone:
    """A backbone whose LoRA says something."""
    torch.manual_seed(0)
    backbone = add_lora(load_backbone(name, **how), rank=4, targets=["q_proj", "v_proj", "down_proj"])
    for parameter_name, parameter in backbone.model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.05)
    return backbone


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_a_merged_weight_is_the_dequantised_one_and_alpha_by_rank_times_b_a(quantize: str) -> None:
    backbone = tuned(quantize=quantize)
    merged = merge(backbone)
    layer = backbone.layers[1].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    by_hand = dequantized(layer.base_layer) + 2.0 * torch.einsum("or,ri->oi", b, a)
    assert torch.allclose(merged.layers[1].self_attn.q_proj.weight, by_hand, atol=1e-6)
    untouched = merged.layers[1].self_attn.k_proj.weight
    assert torch.equal(untouched, dequantized(backbone.layers[1].self_attn.k_proj))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_every_decoder_merges_to_the_logits_of_its_adapter_model(
    decoder: Callable[[str], Path], kind: str, quantize: str
) -> None:
    backbone = tuned(str(decoder(kind)), quantize=quantize)
    merged = merge(backbone)
    bare = load_backbone(str(decoder(kind)), quantize=quantize)  # type: ignore[arg-type]
    assert logit_difference(backbone, merged, generator=seeded()) < 1e-5
    assert logit_difference(backbone, bare, generator=seeded()) > 0.01
    assert not any(p.is_meta or p.requires_grad for p in merged.model.parameters())
    assert not any(b.is_meta for b in merged.model.buffers())


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_in_bfloat16_merging_costs_less_than_bfloat16_itself_does(quantize: str) -> None:
    exact, rounded = tuned(quantize=quantize), tuned(quantize=quantize, dtype="bfloat16")
    merged = merge(rounded)
    assert {p.dtype for p in merged.model.parameters()} == {torch.bfloat16}
    of_the_dtype = logit_difference(rounded, exact, generator=seeded())
    assert 0.0 < logit_difference(rounded, merged, generator=seeded()) < of_the_dtype


def test_the_difference_of_a_model_to_itself_is_nothing_and_it_stays_in_its_mode() -> None:
    backbone = tuned()
    backbone.model.train()
    assert logit_difference(backbone, backbone, generator=seeded()) == 0.0
    assert backbone.model.training


def test_the_adapter_model_is_left_as_it_was() -> None:
    backbone = tuned(quantize="nf4")
    with torch.no_grad():
        before = backbone.model(input_ids=IDS).logits
        merge(backbone)
        assert torch.equal(backbone.model(input_ids=IDS).logits, before)


def test_a_saved_merge_is_a_plain_model_for_us_and_for_transformers(tmp_path: Path) -> None:
    merged = merge(tuned(quantize="nf4"))
    save_model(merged, tmp_path)
    ours, theirs = load_backbone(str(tmp_path)), AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "quantization_config" not in (tmp_path / "config.json").read_text()
    with torch.no_grad():
        expected = merged.model(input_ids=IDS).logits
        assert torch.equal(ours.model(input_ids=IDS).logits, expected)
        assert torch.equal(theirs.eval()(input_ids=IDS).logits, expected)
    assert ours.tokenizer.encode("Ann lives") == load_backbone("tiny").tokenizer.encode("Ann lives")


def test_a_backbone_without_lora_merges_into_itself() -> None:
    backbone = load_backbone("tiny", quantize="nf4")
    assert logit_difference(backbone, merge(backbone), generator=seeded()) < 1e-5
