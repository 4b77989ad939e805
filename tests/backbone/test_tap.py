"""The doors into the residual stream: once a pass, gradients through, nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.backbone.tap import inserted, stream_at

IDS = torch.arange(2, 34).reshape(2, 16)
MASK = torch.ones_like(IDS, dtype=torch.bool)


@pytest.fixture
def backbone() -> Backbone:
    return load_backbone("tiny")


def test_the_stream_is_what_the_lower_layers_put_out(backbone: Backbone) -> None:
    with torch.no_grad():
        states = backbone.model(input_ids=IDS, output_hidden_states=True).hidden_states
    assert torch.equal(stream_at(backbone, 2, IDS, MASK), states[2])


def test_layers_above_the_tap_do_not_run(backbone: Backbone) -> None:
    ran: list[int] = []
    for index, layer in enumerate(backbone.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    stream_at(backbone, 2, IDS, MASK)
    assert ran == [0, 1, 2]


def test_an_identity_adapter_changes_no_bit(backbone: Backbone) -> None:
    with torch.no_grad():
        plain = backbone.model(input_ids=IDS).logits
        with inserted(backbone, 2, lambda stream: stream):
            tapped = backbone.model(input_ids=IDS).logits
    assert torch.equal(plain, tapped)


def test_the_adapter_changes_only_what_lies_above_and_leaves_when_done(backbone: Backbone) -> None:
    with torch.no_grad():
        plain = backbone.model(input_ids=IDS, output_hidden_states=True)
        with inserted(backbone, 2, lambda stream: 2.0 * stream):
            doubled = backbone.model(input_ids=IDS, output_hidden_states=True)
        again = backbone.model(input_ids=IDS)
    assert torch.equal(plain.hidden_states[2], doubled.hidden_states[2])
    assert not torch.equal(plain.hidden_states[3], doubled.hidden_states[3])
    assert torch.equal(plain.logits, again.logits)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_adapter_is_called_once_and_lower_loras_get_gradients(checkpointing: bool) -> None:
    backbone = add_lora(load_backbone("tiny", checkpointing=checkpointing), rank=2)
    backbone.model.train()
    calls: list[int] = []

    def adapter(stream: Tensor) -> Tensor:
        calls.append(1)
        return stream * 1.5

    with inserted(backbone, 2, adapter):
        backbone.model(input_ids=IDS, use_cache=False).logits.square().mean().backward()
    assert len(calls) == 1
    b_of_layer_0 = [p for n, p in backbone.model.named_parameters() if "layers.0" in n and "lora_B" in n]
    assert b_of_layer_0
    assert all(float(p.grad.abs().sum()) > 0 for p in b_of_layer_0)


def test_under_generate_the_adapter_sees_the_prompt_then_one_token_at_a_time(backbone: Backbone) -> None:
    lengths: list[int] = []

    def adapter(stream: Tensor) -> Tensor:
        lengths.append(stream.shape[1])
        return stream

    with inserted(backbone, 2, adapter):
        out = backbone.model.generate(
            IDS[:1], attention_mask=MASK[:1], max_new_tokens=3, do_sample=False, eos_token_id=None
        )
    assert out.shape[1] == 19
    assert lengths == [16, 1, 1]
