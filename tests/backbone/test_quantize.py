"""Four bits on a CPU: what is stored, what is computed, and that nothing repacks it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from t4dm.backbone.load import Backbone, load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.backbone.quantize import dequantized, nf4_bytes, quantized_layers
from t4dm.backbone.weights import weight_bytes

IDS = torch.arange(2, 34).reshape(2, 16)
# Dettmers et al. 2023, appendix E: the sixteen levels of NF4.
LEVELS = (
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
)  # fmt: skip


@pytest.fixture
def backbone() -> Backbone:
    return load_backbone("tiny", quantize="nf4")


def stored(model: Any) -> Iterator[int]:
    """Bytes of everything that the model holds, the quantisation's own tensors too; shared ones once."""
    seen: set[int] = set()
    tensors = [*model.parameters(), *model.buffers()]
    for _, layer in quantized_layers(model):
        state = layer.weight.quant_state
        tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    for tensor in tensors:
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            yield tensor.numel() * tensor.element_size()


def test_every_linear_layer_is_quantised_twice_and_nothing_else(backbone: Backbone) -> None:
    layers = dict(quantized_layers(backbone.model))
    assert len(layers) == 4 * 7
    assert all(layer.weight.quant_state.nested for layer in layers.values())
    assert {layer.weight.quant_state.quant_type for layer in layers.values()} == {"nf4"}
    assert backbone.decoder.embed_tokens.weight.dtype == torch.float32
    assert not any(p.requires_grad for p in backbone.model.parameters())


def test_a_weight_is_a_level_times_the_largest_of_its_block(backbone: Backbone) -> None:
    layer = backbone.decoder.layers[0].mlp.up_proj
    original = load_backbone("tiny").decoder.layers[0].mlp.up_proj.weight
    blocks = dequantized(layer).reshape(-1, 64)
    scales = original.reshape(-1, 64).abs().amax(dim=1, keepdim=True)
    ratio = blocks / blocks.abs().amax(dim=1, keepdim=True)
    distance = (ratio[..., None] - torch.tensor(LEVELS)).abs().amin(dim=-1)
    assert float(distance.max()) < 1e-5
    # the scale itself is in 8 bits: within 2 % of the block's largest weight
    assert torch.allclose(blocks.abs().amax(dim=1, keepdim=True), scales, rtol=0.02)


def test_a_pass_in_eval_mode_leaves_weights_logits_and_gradients_as_they_were(backbone: Backbone) -> None:
    tuned = add_lora(backbone, rank=4)
    model = tuned.model
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)

    def learn() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.train().zero_grad()
        logits = model(input_ids=IDS).logits
        logits.square().mean().backward()
        return logits.detach(), [p.grad.clone() for p in model.parameters() if p.requires_grad]

    layer = next(layer for _, layer in quantized_layers(model))
    codes, weights = layer.weight.data.clone(), dequantized(layer)
    before, gradients = learn()
    with torch.no_grad():
        evaluated = model.eval()(input_ids=IDS).logits
    after, again = learn()
    assert torch.equal(layer.weight.data, codes)
    assert torch.equal(dequantized(layer), weights)
    assert torch.allclose(before, evaluated, atol=1e-4)
    assert torch.equal(before, after)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    assert all(float(g.abs().sum()) > 0 for g in gradients)


def test_one_matrix_takes_4_127_bits_a_weight() -> None:
    # 0.5 + 1/64 + 4/(64*256) bytes a weight, and 1,092 bytes of tables
    assert nf4_bytes(2048 * 11008) == 22_544_384 // 2 + 352_256 + 4 * 1376 + 1092
    assert 8 * nf4_bytes(2048 * 11008) / (2048 * 11008) == pytest.approx(4.127, abs=5e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_what_the_config_tells_is_what_the_model_takes(dtype: Any, quantize: Any) -> None:
    backbone = load_backbone("tiny", quantize=quantize, dtype=dtype)
    config = load_backbone("tiny").model.config
    told = weight_bytes(config, quantize=quantize, dtype=dtype)
    assert told.total == sum(stored(backbone.model))


@pytest.mark.gpu
def test_on_a_gpu_the_weights_take_what_was_told_and_gradients_reach_the_loras() -> None:
    backbone = add_lora(load_backbone("tiny", quantize="nf4", dtype="bfloat16", device="cuda"), rank=4)
    told = weight_bytes(load_backbone("tiny").model.config, quantize="nf4", dtype="bfloat16")
    lora = sum(p.numel() * p.element_size() for p in backbone.model.parameters() if p.requires_grad)
    assert sum(stored(backbone.model)) == told.total + lora
    backbone.model.train()(input_ids=IDS.cuda()).logits.square().mean().backward()
    grads = [p.grad for name, p in backbone.model.named_parameters() if "lora_B" in name]
    assert all(g is not None and float(g.abs().sum()) > 0 for g in grads)
