"""Mistakes about the backbone, as typed: one line each, exit code 1, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import GPT2Config, Qwen2Config

Command = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model.memory_lm.insert_at=9"], "cannot insert before layer 9 of a backbone of 4 layers; "),
        (["model.lora.targets=[query]"], "no linear layer is named query; choose model.lora.targets among "),
        (["model.lora.rank=0"], "model.lora.rank=0 does not work; "),
        (["model.backbone.name=owner/name"], "the backbone owner/name is not on this machine "),
        (["model.backbone.name=HUGE", "++model.backbone.quantize=nf4"], "the weights of "),
        (["model.backbone.name=GPT2"], "is a gpt2 model, and the stack fits decoders of type qwen2, "),
    ],
)
def test_a_mistake_about_the_backbone_is_one_line(
    t4dm: Command, tiny: list[str], tmp_path: Path, typed: list[str], said: str
) -> None:
    Qwen2Config(vocab_size=2**20, hidden_size=2**20, num_hidden_layers=2).save_pretrained(tmp_path / "HUGE")
    GPT2Config(n_layer=1).save_pretrained(tmp_path / "GPT2")
    typed = [
        word.replace("=HUGE", f"={tmp_path}/HUGE").replace("=GPT2", f"={tmp_path}/GPT2") for word in typed
    ]
    code, _, told = t4dm("train", *tiny, *typed)
    assert code == 1
    [line] = [line for line in told.splitlines() if line.startswith("t4dm: ")]
    assert said in line
    assert "Traceback" not in told
