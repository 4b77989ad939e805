"""Episodes as tokens: spans say what they claim, nothing is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from t4dm.backbone.load import TINY, load_backbone
from t4dm.data import words
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.data.recall_windows import WindowEncoder
from t4dm.errors import SettingError, WindowTooShortError

TASK = RecallTask(windows=4, facts=3, questions=2, distances=(1, 2))


@pytest.fixture(scope="module")
def tokenizer():
    assert TINY.exists()
    return load_backbone("tiny").tokenizer


@pytest.fixture(scope="module")
def encode(tokenizer):
    return lambda text: tokenizer(text)["input_ids"]


def encoder(encode, **changes) -> WindowEncoder:
    return WindowEncoder(encode=encode, **{"length": 64, "reads": 2, "writes": 6, "pad_id": 1, **changes})


def batch(encode, seed: int = 0, window: int = 3, **changes):
    story = TASK.episode(np.random.default_rng(seed), session="s")
    return story, encoder(encode, **changes).batch([(story, window)])


def test_every_word_of_the_world_is_one_token(encode) -> None:
    vocabulary = [*words.ENTITIES, *words.ATTRIBUTES, *(v for vs in words.ATTRIBUTES.values() for v in vs)]
    assert [w for w in vocabulary if len(encode(f" {w}")) != 1] == []


def test_reads_span_the_questions_and_the_next_token_is_the_answer(encode, tokenizer) -> None:
    story, b = batch(encode)
    questions = [s for s in story.windows[3] if s.kind == "question"]
    for q, question in enumerate(questions):
        start, end = int(b["read_start"][0, q]), int(b["read_end"][0, q])
        assert tokenizer.decode(b["input_ids"][0, start:end]).strip() == question.text
        assert tokenizer.decode(b["input_ids"][0, end]).strip() == question.answer
        assert bool(b["answers"][0, end])
        assert int(b["distance"][0, end]) == question.distance
        assert float(b["loss_weights"][0, end]) == 8.0


def test_writes_span_all_that_is_told_and_never_a_question(encode, tokenizer) -> None:
    story, b = batch(encode)
    told = [s for s in story.windows[3] if s.kind != "question"]
    spans = [(int(s), int(e)) for s, e in zip(b["write_start"][0], b["write_end"][0], strict=True) if e > 0]
    assert [tokenizer.decode(b["input_ids"][0, s:e]).strip() for s, e in spans] == [s.text for s in told]
    assert b["told"][0, : len(told)].tolist() == [s.kind != "distractor" for s in told]


def test_tokens_equal_those_of_the_whole_text(encode, tokenizer) -> None:
    story, b = batch(encode)
    text = "".join(f" {s.text}" + (f" {s.answer}." if s.answer else "") for s in story.windows[3])
    assert b["input_ids"][0][b["attention_mask"][0]].tolist() == encode(text)


def test_padding_has_no_label_and_no_weight(encode) -> None:
    _, b = batch(encode)
    pad = ~b["attention_mask"]
    assert bool(pad.any())
    assert bool((b["labels"][pad] == -100).all())
    assert float(b["loss_weights"][pad].sum()) == 0.0


@pytest.mark.parametrize(
    ("change", "field"),
    [({"length": 20}, "data.length"), ({"reads": 1}, "data.reads"), ({"writes": 1}, "data.writes")],
)
def test_a_window_too_small_is_an_error_that_says_what_to_set(encode, change, field) -> None:
    with pytest.raises(WindowTooShortError, match=f"set {field}="):
        batch(encode, **change)


def module(encode, **changes) -> RecallDataModule:
    return RecallDataModule(encode=encode, task=TASK, lanes=3, rounds=2, writes=6, pad_id=1, **changes)


def test_any_step_can_be_made_again(encode) -> None:
    first, again = module(encode).train_dataloader(), module(encode).train_dataloader()
    later = [first.batch_at(1, step) for step in range(8)][5]
    assert torch.equal(later["input_ids"], again.batch_at(1, 5)["input_ids"])
    assert later["sessions"] == again.batch_at(1, 5)["sessions"]


def test_splits_epochs_and_seeds_tell_different_stories(encode) -> None:
    made = module(encode)
    batches = [
        made.train_dataloader().batch_at(0, 0),
        made.train_dataloader().batch_at(1, 0),
        made.val_dataloader().batch_at(0, 0),
        module(encode, seed=1).train_dataloader().batch_at(0, 0),
    ]
    assert len({tuple(b["input_ids"].flatten().tolist()) for b in batches}) == 4
    assert len({s for b in batches for s in b["sessions"]}) == 12


def test_validation_repeats_itself(encode) -> None:
    loader = module(encode).val_dataloader()
    assert torch.equal(loader.batch_at(0, 1)["input_ids"], loader.batch_at(5, 1)["input_ids"])


def test_time_goes_on_by_a_minute_a_window_and_never_back(encode) -> None:
    loader = module(encode).train_dataloader()
    times = [float(loader.batch_at(epoch, step)["event_times"][0]) for epoch in (0, 1) for step in range(8)]
    assert np.diff(times).tolist() == [60.0] * 15


def test_a_step_of_two_windows_holds_both_of_each_lane_the_earlier_ones_first(encode) -> None:
    single, double = module(encode), module(encode, windows_per_step=2)
    ones, twos = single.train_dataloader(), double.train_dataloader()
    assert len(twos) * 2 == len(ones)
    for step in range(len(twos)):
        halves, both = [ones.batch_at(1, 2 * step + n) for n in (0, 1)], twos.batch_at(1, step)
        assert both["sessions"] == [name for half in halves for name in half["sessions"]]
        for name in ("input_ids", "event_times", "read_end", "window"):
            assert torch.equal(both[name], torch.cat([half[name] for half in halves])), name
    assert len(double.val_dataloader()) == len(single.val_dataloader())


@pytest.mark.parametrize("count", [0, 3])
def test_windows_per_step_divide_an_episode(encode, count: int) -> None:
    fix = r"choose a divisor of the 4 windows of an episode: data\.windows_per_step=1$"
    with pytest.raises(SettingError, match=fix):
        module(encode, windows_per_step=count)
