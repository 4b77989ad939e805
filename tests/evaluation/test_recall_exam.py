"""The recall exam: every arm answers the same questions, and each arm is what its name says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.backbone.load import load_backbone
from t4dm.backbone.lora import add_lora
from t4dm.data.recall import CHANCE
from t4dm.errors import ExamTooSmallError
from t4dm.evaluation.recall import ARMS, RecallExam, _last_telling, _with_facts, held_out_task
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.memory.memory import Memory
from t4dm.memory.temporal_gate import TemporalGate
from t4dm.model import MemoryLM
from t4dm.model.writer import MemoryWriter, gate_features
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX

DISTANCES = (1, 2)


@pytest.fixture
def model() -> MemoryLM:
    torch.manual_seed(0)
    backbone = add_lora(load_backbone("tiny"), rank=2)
    embedder = LexicalEmbedder(vocab_size=len(backbone.tokenizer), dim=64)
    return MemoryLM(
        backbone=backbone,
        stack=CorticalStack(width=32, blocks=1, heads=2),
        insert_at=2,
        embedder=embedder,
        recalled=2,
    )


@pytest.fixture
def exam(model) -> RecallExam:
    return RecallExam(
        task=held_out_task(distances=DISTANCES),
        encode=lambda text: model.backbone.tokenizer(text)["input_ids"],
        pad_id=1,
        episodes=6,
        batch=4,
    )


@pytest.fixture
def writer() -> MemoryWriter:
    return MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=2.0))


def sit(exam, model, writer, folder: Path, **changes):
    with T4DX.open(folder / "store", dim=64, clock=lambda: 0.0) as store:
        memory = Memory(store, clock=lambda: 0.0, rng=np.random.default_rng(0))
        return exam.run(model, memory=memory, writer=writer, **changes)


def test_every_arm_answers_every_question_at_every_distance(exam, model, writer, tmp_path) -> None:
    nights: list[int] = []
    scores = sit(exam, model, writer, tmp_path, night=lambda: nights.append(1))
    assert tuple(scores.recall) == ARMS
    counts = {arm: {d: cell["n"] for d, cell in by.items()} for arm, by in scores.recall.items()}
    assert len({str(c) for c in counts.values()}) == 1
    assert set(counts["memory"]) == {"1", "2"}
    assert sum(counts["memory"].values()) == 12
    assert nights == [1]
    assert scores.chance == CHANCE


def test_before_training_the_arms_without_facts_in_the_prompt_agree(exam, model, writer, tmp_path) -> None:
    recall = sit(exam, model, writer, tmp_path).recall
    assert recall["frozen"] == recall["lora"] == recall["no_memory"] == recall["memory"] == recall["shuffled"]


def test_lora_changes_the_arm_lora_and_never_the_arm_frozen(exam, model, writer, tmp_path) -> None:
    before = sit(exam, model, writer, tmp_path / "a", arms=["frozen", "lora", "in_prompt"]).recall
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=1.0)
    after = sit(exam, model, writer, tmp_path / "b", arms=["frozen", "lora", "in_prompt"]).recall
    assert before["frozen"] == after["frozen"]
    assert before["in_prompt"] == after["in_prompt"]
    assert before["lora"] != after["lora"] or before["lora"]["1"]["mean"] == 0.0


def test_in_the_prompt_stand_the_facts_as_told_last(exam) -> None:
    for episode in exam.draw():
        facts = [s for s in _with_facts(episode).windows[0] if s.kind != "question"]
        questions = [s for s in episode.windows[-1] if s.kind == "question"]
        assert [f.text.split()[-1].rstrip(".") for f in facts] == [q.answer for q in questions]
        assert facts == [_last_telling(episode, q) for q in questions]


def test_the_exam_leaves_the_model_and_the_gate_as_they_were(exam, model, writer, tmp_path) -> None:
    model.train()
    gate, weights = writer.gate.state_dict(), {k: v.clone() for k, v in model.state_dict().items()}
    sit(exam, model, writer, tmp_path)
    assert model.training
    assert writer.gate.state_dict() == gate
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_the_gate_is_judged_by_what_told_something(exam, model, tmp_path) -> None:
    scores = sit(
        exam, model, MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=2.0)), tmp_path / "open"
    )
    assert scores.gate == {"write_rate": 1.0, "told_kept": 1.0, "distractors_kept": 1.0}
    shut = sit(
        exam, model, MemoryWriter(gate=TemporalGate(weights=gate_features(), bias=-9.0)), tmp_path / "shut"
    )
    assert shut.gate == {"write_rate": 0.0, "told_kept": 0.0, "distractors_kept": 0.0}
    assert shut.store["before"]["items"] == 0.0


def test_shuffled_memories_are_anothers_even_in_a_part_of_one_episode(exam, model, writer, tmp_path) -> None:
    """Five episodes in parts of four leave one alone; it must not read its own memories."""
    read: list[list[str]] = []
    original = Memory.read

    def spy(self, queries, **settings):
        read.append(list(settings["sessions"]))
        return original(self, queries, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Memory, "read", spy)
        sit(replace(exam, episodes=5), model, writer, tmp_path, arms=["shuffled"])
    own = [e.session for e in replace(exam, episodes=5).draw()]
    asked = [list(dict.fromkeys(sessions)) for sessions in read[-2:]]
    assert asked == [own[1:5], own[:1]]


def test_one_episode_has_no_stranger(exam, model, writer, tmp_path) -> None:
    with pytest.raises(ExamTooSmallError, match=r"set exam.recall.episodes=2 or more$"):
        sit(replace(exam, episodes=1), model, writer, tmp_path, arms=["shuffled"])


def test_the_same_seed_draws_the_same_exam_and_another_seed_another(exam) -> None:
    assert exam.draw() == exam.draw()
    assert exam.draw() != replace(exam, seed=2).draw()


def test_without_a_store_only_the_arms_without_memory_make_sense(exam, model) -> None:
    scores = exam.run(model, memory=None, writer=None, arms=["frozen", "no_memory"])
    assert set(scores.recall) == {"frozen", "no_memory"}
    assert scores.gate == {}
