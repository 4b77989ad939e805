"""A trace holds what the model did: its lens ends in its logits, its answer is the greedy one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.errors import NoPromptError, PositionError
from t4dm.model.generate import generate_batch
from t4dm.model.trace import ARRAYS, TOLD, save, trace

from .conftest import open_gate, told

PROMPT = " What is the color of Anna?"


def test_the_answer_is_the_greedy_one_and_the_lens_ends_in_the_logits(
    make_model, data, memory, writer
) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    session = told(data, model, memory, writer)["sessions"][0]
    memory.flush_accesses()
    asked = {"memory": memory, "sessions": [session], "max_new_tokens": 4}
    pieces = list(generate_batch(model, [PROMPT], count_accesses=False, **asked))
    before = memory.store.count()
    made = trace(model, PROMPT, memory=memory, writer=writer, session=session, max_new_tokens=4)
    assert made.told["answer"] == "".join(piece.text for piece in pieces)
    count = made.told["prompt_tokens"]
    assert made.told["position"] == count - 1
    assert len(made.told["tokens"]) == count + 3
    assert made.arrays["layer3.stream"].shape[:1] == (count + 3,)
    # after the last layer the lens is the output itself
    np.testing.assert_allclose(made.arrays["lens.top"][-1], made.arrays["output.top"][0], rtol=1e-4)
    assert made.arrays["lens.ids"][-1, 0] == pieces[0].token == made.arrays["output.ids"][0, 0]
    assert made.told["lens"] == ["embedding", "layer 0", "layer 1", "stack", "layer 2", "layer 3"]
    assert memory.flush_accesses() == 0
    writes = [row for row in made.told["operations"] if row["operation"] == "write"]
    assert memory.store.count() == before + sum(row["id"] is not None for row in writes) > before
    searches = [row for row in made.told["operations"] if row["operation"] == "search"]
    assert searches[0]["query"] == PROMPT
    assert made.told["reads"]
    assert {read["id"] for read in made.told["reads"]} <= {hit["id"] for hit in searches[0]["hits"]}


def test_another_position_is_looked_at_and_one_outside_is_a_mistake(make_model) -> None:
    model = open_gate(make_model()).eval()
    ids = torch.tensor([model.backbone.tokenizer.encode(PROMPT)])
    with torch.no_grad():
        likeliest = model(ids).logits[0].argmax(-1)
    for at in range(ids.shape[1]):
        assert trace(model, PROMPT, position=at).arrays["lens.ids"][-1, 0] == likeliest[at]
    for at in (-1, ids.shape[1]):
        with pytest.raises(PositionError, match=rf"none at {at}; .*--position {ids.shape[1] - 1}$"):
            trace(model, PROMPT, position=at)
    with pytest.raises(NoPromptError):
        trace(model, " ")


def test_files_hold_what_was_recorded_and_no_part_of_a_file_stays(make_model, tmp_path: Path) -> None:
    made = trace(open_gate(make_model()).eval(), PROMPT)
    assert save(made, tmp_path) == tmp_path / TOLD
    assert sorted(path.name for path in tmp_path.iterdir()) == [TOLD, ARRAYS]
    assert json.loads((tmp_path / TOLD).read_text()) == made.told
    with np.load(tmp_path / ARRAYS) as archive:
        assert set(archive.files) == set(made.arrays)
        assert all(np.array_equal(archive[name], made.arrays[name]) for name in archive.files)


@pytest.mark.parametrize("budget", [0, 2_000, 100_000])
def test_what_does_not_fit_is_named_and_the_trace_is_made(
    make_model, data, memory, writer, budget: int
) -> None:
    model = open_gate(make_model()).eval()
    session = told(data, model, memory, writer)["sessions"][0]
    made = trace(model, PROMPT, memory=memory, writer=writer, session=session, byte_budget=budget)
    assert made.told["dropped"]
    assert made.told["bytes"] <= budget
    assert made.told["answer"]
    length = len(made.told["tokens"])
    for name, array in made.arrays.items():  # what was dropped is a beginning, or not there
        if name.startswith("layer"):
            assert (len(array) < length) == (name in made.told["dropped"])


def test_a_bare_backbone_has_a_trace_too(make_model) -> None:
    made = trace(make_model(stack=False).eval(), PROMPT)
    assert made.told["lens"] == ["embedding", *(f"layer {index}" for index in range(4))]
    assert made.told["operations"] == made.told["reads"] == []
