"""One recorder sees all of a model within its budget; where it is off there is nothing left of it."""

from __future__ import annotations

import json

import pytest
import torch

from t4dm.backbone.tap import inserted
from t4dm.model.generate import generate_batch
from t4dm.model.glass_box import GlassBox, observing

from .conftest import asked, open_gate, told

PROMPT = " The color of Anna is"


def hooks(model: torch.nn.Module) -> int:
    """How many hooks of any kind hang on any module."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def passed(model, batch, memory, **settings) -> GlassBox:
    with torch.no_grad(), observing(model, GlassBox(**settings), memory=memory) as box:
        asked(model, batch, memory)
    return box


def test_off_there_is_no_hook_and_on_there_are_and_off_again_none(make_model, memory) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    embedder = model.embedder
    assert hooks(model) == 0
    with observing(model, GlassBox(), memory=memory):
        # model in, out; embedding; 4 layers; 8 LoRAs, each base and B; stack in, out; exit; one recall
        assert hooks(model) == 2 + 1 + 4 + 16 + 2 + 1 + 1
        assert memory.observer is not None
        assert model.embedder is not embedder
    assert hooks(model) == 0
    assert memory.observer is None
    assert model.embedder is embedder
    with pytest.raises(RuntimeError, match="stop"), observing(model, GlassBox(), memory=memory):
        raise RuntimeError("stop")
    assert hooks(model) == 0


def test_watching_changes_no_bit_of_the_output(make_model, data, memory, writer) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    batch = told(data, model, memory, writer)
    with torch.no_grad():
        plain = asked(model, batch, memory).logits
        with observing(model, GlassBox(), memory=memory):
            watched = asked(model, batch, memory).logits
    assert torch.equal(plain, watched)


def test_the_stream_after_each_layer_is_the_one_the_next_receives(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    received = {}

    def keep(layer: int):
        return lambda stream: received.setdefault(layer, stream.clone())

    with torch.no_grad(), inserted(model.backbone, 1, keep(1)), inserted(model.backbone, 3, keep(3)):
        box = passed(model, batch, None)
    assert torch.equal(box.values("layer0.stream"), received[1][:1])
    assert torch.equal(box.values("layer2.stream"), received[3][:1])
    assert torch.equal(box.values("insert.before.stream"), box.values("layer1.stream"))
    assert not torch.equal(box.values("insert.after.stream"), box.values("layer1.stream"))
    torch.testing.assert_close(box.values("layer3.norm"), box.values("layer3.stream").norm(dim=-1))


def test_a_loras_part_is_scale_b_a_x_and_with_the_base_makes_the_output(
    make_model, data, memory, writer
) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    layer = model.backbone.layers[1].self_attn.v_proj
    seen = {}
    handle = layer.register_forward_hook(lambda _m, args, out: seen.update(x=args[0][:1], out=out[:1]))
    try:
        box = passed(model, batch, None)
    finally:
        handle.remove()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    by_hand = 2.0 * seen["x"] @ a.T @ b.T  # alpha is twice the rank
    part = box.values("layer1.self_attn.v_proj.lora")
    torch.testing.assert_close(part, by_hand)
    assert float(part.abs().max()) > 0.0
    base = layer.base_layer(seen["x"])
    torch.testing.assert_close(base + part, seen["out"])
    torch.testing.assert_close(box.values("layer1.self_attn.v_proj.base_norm"), base.norm(dim=-1))
    torch.testing.assert_close(box.values("layer1.self_attn.v_proj.lora_norm"), by_hand.norm(dim=-1))


def test_every_stage_of_every_block_is_there(make_model, data, memory, writer) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    box = passed(model, told(data, model, memory, writer), memory)
    stages = {f"block{b}.{stage}" for b in (0, 1) for stage in ("integrate", "qk", "apical", "out")}
    assert set(box.spikes.names()) == stages
    inner = {"gate", "attention", "opening", "calcium", "capsules"}
    assert set(box.spikes.quantities()) == {f"block{b}.{what}" for b in (0, 1) for what in inner}
    names = {"block0.prediction_error", "block1.goodness", "block0.reading", "output.top", "output.ids"}
    assert names <= set(box.names())


def test_passes_that_encode_memories_are_no_part_of_the_reading(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    box = passed(model, batch, memory)
    assert box.values("layer0.norm").shape == (1, batch["input_ids"].shape[1])
    assert len(box.windows("layer0.norm")) == 1


def test_searches_and_writes_are_kept_with_their_words(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    with torch.no_grad(), observing(model, GlassBox(), memory=memory) as box:
        out = asked(model, batch, memory, labels=batch["labels"])
        writer.write(model, memory, batch, out, learn=False)
    searches = [row for row in box.operations if row["operation"] == "search"]
    writes = [row for row in box.operations if row["operation"] == "write"]
    decode = model.backbone.tokenizer.decode
    start, end = int(batch["read_start"][0, 0]), int(batch["read_end"][0, 0])
    assert searches[0]["query"] == decode(batch["input_ids"][0, start:end])
    assert searches[0]["session"] == batch["sessions"][0]
    assert [hit["id"] for hit in searches[0]["hits"]] == out.recall.ids[0]
    assert searches[0]["hits"][0]["score"] == pytest.approx(float(out.recall.scores[0, 0]))
    stored = {row["id"]: row for row in writes if row["id"] is not None}
    assert stored
    for name, row in stored.items():
        item = memory.store.get(name)
        assert (item.content, item.session) == (row["text"], row["session"])
        assert item.importance == pytest.approx(row["tau"])
    novel = [row for row in searches if row["query"].strip() == writes[0]["text"]]
    assert novel  # the look for something like it, before it is written


def test_decoding_is_kept_token_by_token_as_one_row(make_model) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    prompt = model.backbone.tokenizer.encode(PROMPT)
    with observing(model, GlassBox()) as box:
        answer = [piece.token for piece in generate_batch(model, [prompt], max_new_tokens=4)]
    with torch.no_grad(), observing(model, GlassBox()) as whole:
        model(torch.tensor([[*prompt, *answer[:-1]]]))
    for name in ("layer3.stream", "insert.after.stream", "layer0.self_attn.q_proj.lora"):
        torch.testing.assert_close(box.values(name), whole.values(name), atol=1e-4, rtol=0)
    assert torch.equal(box.spikes.spikes("block1.out"), whole.spikes.spikes("block1.out"))
    assert box.values("output.ids")[0, :, 0].long().tolist() == answer


@pytest.mark.parametrize("budget", [0, 3_000, 60_000, 400_000])
def test_over_the_budget_names_are_dropped_and_nothing_breaks(
    make_model, data, memory, writer, budget: int
) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    batch = told(data, model, memory, writer)
    whole = passed(model, batch, memory)
    box = passed(model, batch, memory, byte_budget=budget)
    assert box.bytes <= budget
    assert box.dropped
    kept = {*box.names(), *box.spikes.names(), *box.spikes.quantities()}
    everything = {*whole.names(), *whole.spikes.names(), *whole.spikes.quantities()}
    assert kept | set(box.dropped) == everything | ({"memory"} if "memory" in box.dropped else set())
    assert not kept & set(box.dropped)
    for name in box.names():
        assert torch.equal(box.values(name), whole.values(name))


def test_what_is_kept_is_counted(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    box = passed(model, told(data, model, memory, writer), memory, inner=False)
    floats = sum(4 * box.values(name).numel() for name in box.names())
    spikes = sum(box.spikes.spikes(name).numel() for name in box.spikes.names())
    said = sum(len(json.dumps(row)) for row in box.operations)
    assert box.bytes == floats + spikes + said
    assert whole_is_larger(model, box)


def whole_is_larger(model, box: GlassBox) -> bool:
    """Without whole streams only lengths are kept."""
    with torch.no_grad(), observing(model, GlassBox(streams=False, inner=False)) as small:
        model(torch.arange(2, 22)[None])
    return small.bytes < box.bytes and not any(name.endswith(("stream", ".lora")) for name in small.names())


def test_the_second_pass_of_the_goodness_loss_is_not_kept(make_model, data, memory, writer) -> None:
    model = open_gate(make_model())
    batch = told(data, model, memory, writer)
    with torch.no_grad(), observing(model, GlassBox(), memory=memory) as box:
        asked(model, batch, memory, negatives=2)
    length = batch["input_ids"].shape[1]
    assert box.spikes.spikes("block0.out").shape[1] == length
    assert box.values("block0.reading").shape[1] == length


def test_a_bare_backbone_can_be_watched(make_model) -> None:
    model = make_model(stack=False).eval()
    with torch.no_grad(), observing(model, GlassBox()) as box:
        model(torch.arange(2, 12)[None])
    assert "layer3.stream" in box.names()
    assert box.spikes.names() == []
