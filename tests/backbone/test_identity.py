"""A backbone is recognised by its shape and weights, in whatever dtype; another one is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t4dm.backbone.identity import check_identity, check_stamp, identity, stamp
from t4dm.backbone.load import TINY, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.errors import BackboneMismatchError, LoraMismatchError


@pytest.mark.parametrize("how", [{"quantize": "nf4"}, {"dtype": "bfloat16"}, {"checkpointing": True}])
def test_the_fingerprint_is_the_same_however_the_weights_are_loaded(how: dict[str, Any]) -> None:
    assert identity(load_backbone("tiny", **how)) == identity(load_backbone("tiny"))


def test_the_same_weights_under_another_path_are_the_same_backbone(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "moved")
    moved = load_backbone(str(tmp_path / "moved"))
    check_identity(identity(load_backbone("tiny")), moved, what="it")


def test_one_changed_weight_of_the_same_shape_is_another_backbone() -> None:
    tuned = load_backbone("tiny")
    before = identity(tuned)
    with torch.no_grad():
        tuned.decoder.norm.weight[0] += 0.5
    with pytest.raises(BackboneMismatchError):
        check_identity(before, tuned, what="it")


def test_another_backbone_is_one_line_that_names_both(decoder: Callable[[str], Path]) -> None:
    folder = decoder("llama")
    there = {**identity(load_backbone(str(folder))), "name": "owner/llama", "revision": "0123456789abcdef"}
    here = identity(load_backbone("tiny"))
    with pytest.raises(BackboneMismatchError) as caught:
        check_identity(there, load_backbone("tiny"), what="the checkpoint X")
    assert str(caught.value) == (
        f"the checkpoint X was trained on owner/llama at 0123456789ab (llama, 4 layers of 64, weights "
        f"{there['weights']}), not on tiny (qwen2, 4 layers of 128, weights {here['weights']}); "
        "set model.backbone.name=owner/llama model.backbone.revision=0123456789abcdef"
    )


def test_a_stamp_refuses_another_alpha_and_an_old_checkpoint_has_none() -> None:
    tuned = add_lora(load_backbone("tiny"), rank=2, alpha=4)
    check_stamp(stamp(tuned), tuned, what="it")
    check_stamp({"clock": None}, tuned, what="it")
    with pytest.raises(LoraMismatchError, match=r"alpha 8, .* set model.lora.alpha=8$"):
        check_stamp(stamp(add_lora(load_backbone("tiny"), rank=2, alpha=8)), tuned, what="it")
