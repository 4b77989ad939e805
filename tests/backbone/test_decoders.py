"""Any Qwen2, Qwen3, Llama or Mistral decoder stands the same tap, LoRA, cache and checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from t4dm.backbone.load import Backbone, load_backbone, new_cache
from t4dm.backbone.lora import add_lora
from t4dm.backbone.tap import inserted, stream_at
from t4dm.errors import UnsupportedBackboneError
from t4dm.model.projections import Entry, Exit

KINDS = ("qwen2", "qwen3", "llama", "mistral")
IDS = torch.arange(2, 34).reshape(2, 16)
MASK = torch.ones_like(IDS, dtype=torch.bool)
Decoder = Callable[[str], Path]

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


@pytest.fixture(params=KINDS)
def backbone(request: pytest.FixtureRequest, decoder: Decoder) -> Backbone:
    return load_backbone(str(decoder(request.param)))


def doors(backbone: Backbone) -> tuple[Callable[[Tensor], Tensor], Exit]:
    """Entry and exit around a linear layer; the exit's gate is zero at the start."""
    torch.manual_seed(1)
    entry, middle = Entry(stream_width=backbone.width, width=32), nn.Linear(32, 32)
    leave = Exit(entry=entry)
    return (lambda stream: leave(stream, middle(entry(stream)))), leave


def test_a_stack_behind_a_zero_gate_changes_no_bit(backbone: Backbone) -> None:
    adapter, leave = doors(backbone)
    with torch.no_grad():
        plain = backbone.model(input_ids=IDS).logits
        with inserted(backbone, 2, adapter):
            tapped = backbone.model(input_ids=IDS).logits
        leave.gamma.fill_(0.5)
        with inserted(backbone, 2, adapter):
            opened = backbone.model(input_ids=IDS).logits
    assert torch.equal(plain, tapped)
    assert not torch.equal(plain, opened)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_stream_is_what_the_lower_layers_put_out(backbone: Backbone, layer: int) -> None:
    with torch.no_grad():
        states = backbone.model(input_ids=IDS, output_hidden_states=True).hidden_states
    assert torch.equal(stream_at(backbone, layer, IDS, MASK), states[layer])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_gradients_reach_every_lora_below_the_stack(decoder: Decoder, kind: str, quantize: str) -> None:
    grads = {}
    for checkpointing in (False, True):
        torch.manual_seed(2)
        backbone = add_lora(
            load_backbone(str(decoder(kind)), quantize=quantize, checkpointing=checkpointing),  # type: ignore[arg-type]
            rank=2,
            targets=["q_proj", "v_proj", "down_proj"],
        )
        adapter, leave = doors(backbone)
        nn.init.constant_(leave.gamma, 0.5)
        backbone.model.train()
        with inserted(backbone, 2, adapter):
            backbone.model(input_ids=IDS, use_cache=False).logits.square().mean().backward()
        grads[checkpointing] = {
            name: p.grad.clone() for name, p in backbone.model.named_parameters() if "lora_B" in name
        }
    below = [g for name, g in grads[False].items() if "layers.0." in name or "layers.1." in name]
    assert len(below) == 6
    assert all(float(g.abs().sum()) > 0 for g in below)
    assert all(torch.allclose(g, grads[True][name], rtol=1e-5, atol=1e-9) for name, g in grads[False].items())


def test_token_by_token_with_a_cache_gives_the_logits_of_one_pass(backbone: Backbone) -> None:
    adapter, leave = doors(backbone)
    nn.init.constant_(leave.gamma, 0.5)
    with torch.no_grad(), inserted(backbone, 2, adapter):
        whole = backbone.model(input_ids=IDS).logits
        cache, steps = new_cache(), []
        for t in range(IDS.shape[1]):
            ids = IDS[:, t : t + 1]
            steps.append(backbone.model(input_ids=ids, past_key_values=cache, use_cache=True).logits)
    assert torch.allclose(whole, torch.cat(steps, dim=1), atol=1e-5)


def test_a_model_of_another_kind_is_one_line_that_names_the_kinds(tmp_path: Path) -> None:
    transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackboneError) as caught:
        load_backbone(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} is a gpt2 model, and the stack fits decoders of type qwen2, qwen3, llama, mistral; "
        "take one of these, for example: model=qwen25_05b"
    )


def test_a_model_of_an_unknown_kind_is_the_same_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nobody_knows"}')
    with pytest.raises(UnsupportedBackboneError, match=r"unknown here.*model=qwen25_05b$") as caught:
        load_backbone(str(tmp_path))
    assert "\n" not in str(caught.value)
