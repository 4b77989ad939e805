"""The weights that are shown are the weights that were used."""

from __future__ import annotations

import torch

from t4dm.model.generate import recalled
from t4dm.model.recall_reading import ReadRow, recall_weights, row_tokens, strongest_rows, watching_recall
from t4dm.spiking.recall_attention import RecallAttention

from .conftest import asked, open_gate, told


def test_weights_times_values_are_the_output_of_the_attention() -> None:
    torch.manual_seed(0)
    module = RecallAttention(width=16, heads=4)
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    h, recall = torch.randn(2, 5, 16), torch.randn(2, 7, 32)
    mask = torch.rand(2, 5, 7) < 0.5
    mask[0, 2] = False
    weights = recall_weights(module, h, recall, mask)
    values = module.value(torch.nn.functional.rms_norm(recall[..., 16:], (16,))).unflatten(-1, (4, 4))
    read = torch.einsum("bhtm,bmhd->bthd", weights, values).flatten(2)
    torch.testing.assert_close(torch.tanh(module.gate) * module.out(read), module(h, recall, mask))
    assert bool((weights[0, :, 2] == 0).all())
    torch.testing.assert_close(weights.sum(-1)[1], mask[1].any(-1).float().expand(4, 5))


def test_every_read_of_a_pass_is_seen_and_no_hook_stays(make_model, data, memory, writer) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    batch = told(data, model, memory, writer)
    seen = {}
    with torch.no_grad(), watching_recall(model.stack, seen.__setitem__):
        out = asked(model, batch, memory)
    assert list(seen) == ["block0.reading"]
    assert seen["block0.reading"].shape[-1] == out.rows.visible.shape[-1]
    assert torch.equal(
        seen["block0.reading"].sum(1) > 0, out.rows.visible & (seen["block0.reading"].sum(1) > 0)
    )
    assert not any(len(m._forward_hooks) for m in model.modules())


def test_a_row_is_named_by_item_and_token(make_model, data, memory, writer) -> None:
    model = open_gate(make_model()).eval()
    batch = told(data, model, memory, writer)
    query = batch["input_ids"][0, int(batch["read_start"][0, 0]) : int(batch["read_end"][0, 0])].tolist()
    recall, rows = recalled(model, memory, [query], [batch["sessions"][0]])
    per_item = rows.visible.shape[-1] // recall.mask.shape[1]
    weights = torch.zeros(2, rows.visible.shape[-1])
    weights[0, per_item + 2], weights[1, 0] = 0.75, 0.5
    found = strongest_rows(weights, recall)
    assert found == [ReadRow(0, 0.75, 1, 3), ReadRow(1, 0.5, 0, 1)]
    assert row_tokens(recall, found) == [recall.tokens[0][1][3], recall.tokens[0][0][1]]
    # the value of that row is the embedding of that token, through the entry
    word = model.entry(model.backbone.decoder.embed_tokens.weight[recall.tokens[0][1][3]])
    torch.testing.assert_close(rows.states[0, per_item + 2, 32:], word)
