"""Bytes told from a config, and a refusal before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from t4dm.backbone.load import load_backbone
from t4dm.backbone.weights import check_room, free_bytes, weight_bytes
from t4dm.errors import BackboneTooLargeError, NoGpuError

GIB = 2**30
QWEN25_3B = Qwen2Config(
    vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
    num_attention_heads=16, num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip


def test_qwen25_3b_in_four_bits_stays_below_two_gib() -> None:
    need = weight_bytes(QWEN25_3B, quantize="nf4", dtype="bfloat16")
    assert need.embedding == 151_936 * 2048 * 2
    # 36 layers of 77,070,336 weights at 4.127 bits
    assert need.linear == pytest.approx(36 * 77_070_336 * 4.127 / 8, rel=3e-4)
    assert need.total < 2 * GIB
    assert need.total / GIB == pytest.approx(1.913, abs=1e-3)


def test_qwen25_3b_in_bfloat16_takes_two_bytes_for_each_of_its_3_09_billion_weights() -> None:
    need = weight_bytes(QWEN25_3B, dtype="bfloat16")
    assert need.total == pytest.approx(2 * 3_085_938_688, rel=1e-6)


def test_an_output_matrix_of_its_own_counts_as_embedding() -> None:
    untied = Qwen2Config(**{**QWEN25_3B.to_dict(), "tie_word_embeddings": False})
    tied = weight_bytes(QWEN25_3B, quantize="nf4", dtype="bfloat16")
    assert weight_bytes(untied, quantize="nf4", dtype="bfloat16").embedding == 2 * tied.embedding


def refusal(free: int, **how: Any) -> str:
    with pytest.raises(BackboneTooLargeError) as caught:
        check_room(QWEN25_3B, name="Qwen/Qwen2.5-3B", free=free, **how)
    return str(caught.value)


def test_too_little_memory_says_how_much_is_needed_and_what_to_type() -> None:
    assert refusal(4 * GIB, quantize="none", dtype="bfloat16", device="cuda") == (
        "the weights of Qwen/Qwen2.5-3B need 5.75 GiB and cuda has 4.00 GiB free; "
        "in 4 bits they need 1.91 GiB: model.backbone.quantize=nf4"
    )
    assert refusal(GIB, quantize="nf4", dtype="bfloat16", device="cpu") == (
        "the weights of Qwen/Qwen2.5-3B need 1.91 GiB and this machine has 1.00 GiB free; "
        "free some, or run with: model=tiny"
    )


def test_the_last_byte_decides() -> None:
    need = weight_bytes(QWEN25_3B, quantize="nf4", dtype="bfloat16").total
    how: dict[str, Any] = {"quantize": "nf4", "dtype": "bfloat16", "device": "cpu"}
    check_room(QWEN25_3B, name="it", free=need, **how)
    refusal(need - 1, **how)


def test_a_model_larger_than_this_machine_is_refused_before_its_weights_are_looked_for(
    tmp_path: Path,
) -> None:
    Qwen2Config(
        vocab_size=2**20, hidden_size=2**20, intermediate_size=2**21, num_hidden_layers=2,
        num_attention_heads=1024, num_key_value_heads=1024,
    ).save_pretrained(tmp_path)  # fmt: skip
    with pytest.raises(BackboneTooLargeError, match=r"this machine has .* run with: model=tiny$"):
        load_backbone(str(tmp_path), quantize="nf4", dtype="bfloat16")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(NoGpuError, match=r"^model.backbone.device=cuda:1: torch finds no GPU .*device=cpu$"):
        free_bytes("cuda:1")
