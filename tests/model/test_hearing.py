"""What was read and said is offered sentence by sentence, to the gate that training made."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from t4dm.backbone.load import load_backbone
from t4dm.memory.temporal_gate import TemporalGate
from t4dm.model.generate import recalled
from t4dm.model.hearing import remember, sentences
from t4dm.model.writer import MemoryWriter, gate_features
from t4dm.t4dx import EdgeType

TOKENIZER = load_backbone("tiny").tokenizer


def encoded(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" Anna is red. Ben is blue!", [" Anna is red.", " Ben is blue!"]),
        (" Anna is red.\n Ben is blue", [" Anna is red.", " Ben is blue"]),
        (" What is the color of Anna? red.", [" What is the color of Anna? red."]),
        (" Ben is blue. What is Anna?", [" Ben is blue."]),
        (" What is Anna? What is Ben? blue.", [" What is Ben? blue."]),
        (" What is Anna?", []),
        (" .", []),
        (" What is Anna?\n", []),
        ("", []),
    ],
)
def test_sentences_are_spans_and_a_question_goes_with_its_answer(text: str, found: list[str]) -> None:
    ids = encoded(text)
    spans = sentences(TOKENIZER, ids, longest=16)
    assert [TOKENIZER.decode(ids[start:end]) for start, end in spans] == found


def test_a_span_is_never_longer_than_what_is_read_of_an_item() -> None:
    ids = encoded(" one two three four five six seven eight nine ten is what? that and more of that.")
    spans = sentences(TOKENIZER, ids, longest=6)
    assert all(2 <= end - start <= 6 for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_special_tokens_part_sentences_and_belong_to_none() -> None:
    ids = [TOKENIZER.eos_token_id, *encoded(" Anna is"), TOKENIZER.pad_token_id, *encoded(" red and blue.")]
    spans = sentences(TOKENIZER, ids, longest=16)
    assert [TOKENIZER.decode(ids[s:e]) for s, e in spans] == [" Anna is", " red and blue."]


def test_what_passes_is_written_as_training_writes_it(make_model, memory, writer) -> None:
    model, ids = make_model().eval(), encoded(" The color of Anna is red. What is it? red.")
    offered = remember(model, memory, writer, ids, session="s", event_time=50.0)
    # the same batch, laid out by hand, through the writer of training
    labels = torch.tensor([ids])
    with torch.no_grad():
        output = model(labels, labels=labels)
    spans = sentences(TOKENIZER, ids, longest=16)
    error = float(output.token_losses[0, spans[0][0] : spans[0][1]].mean())
    assert [each.text for each in offered] == ["The color of Anna is red.", "What is it? red."]
    first = memory.store.get(offered[0].id)
    assert first.session == "s"
    assert first.event_time == 50.0
    assert first.importance == pytest.approx(offered[0].tau)
    assert first.metadata["prediction_error"] == pytest.approx(error, rel=1e-6)
    assert first.metadata["tokens"] == ids[slice(*spans[0])]


def test_a_closed_gate_writes_nothing_and_learns_nothing(make_model, memory) -> None:
    shut = MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=-20.0))
    before = shut.state_dict()
    offered = remember(
        make_model().eval(), memory, shut, encoded(" Anna is red."), session="s", event_time=1.0
    )
    assert [each.id for each in offered] == [None]
    assert offered[0].tau < 0.01
    assert memory.store.count() == 0
    assert shut.state_dict() == before


def test_what_was_recalled_is_what_a_memory_derives_from(make_model, memory, writer) -> None:
    model, ids = make_model().eval(), encoded(" The color of Anna is red.")
    old = remember(model, memory, writer, ids, session="s", event_time=1.0)[0].id
    found = recalled(model, memory, [ids], ["s"])
    new = remember(model, memory, writer, ids, session="s", event_time=2.0, recall=found[0])[0].id
    edges = list(memory.store.edges(source=new, edge_type=EdgeType.DERIVED_FROM))
    assert [edge.target for edge in edges] == [old]


def test_a_text_without_a_sentence_runs_no_model(memory, writer) -> None:
    class Silent:
        backbone, recall_tokens = load_backbone("tiny"), 16

    assert remember(Silent(), memory, writer, encoded(" What?"), session="s", event_time=1.0) == []
