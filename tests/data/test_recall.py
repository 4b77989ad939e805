"""Recall episodes: exact answers at the asked distance, the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from t4dm.data import words
from t4dm.data.recall import CHANCE, RecallTask, mqar


def episode(seed: int = 0, **settings: object):
    return RecallTask(**settings).episode(np.random.default_rng(seed), session="s")


def told_before(story, window: int, key) -> list[tuple[int, str]]:
    """(window, sentence) of every telling of `key` up to `window`, in order."""
    return [
        (w, s.text)
        for w in range(window + 1)
        for s in story.windows[w]
        if s.key == key and s.kind in ("fact", "update")
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_answer_is_what_was_told_last_at_the_stated_distance(seed: int) -> None:
    story = episode(seed, windows=8, facts=3, questions=4, distances=(1, 2, 3), update_rate=0.4)
    asked = [(w, s) for w, window in enumerate(story.windows) for s in window if s.kind == "question"]
    assert len(asked) > 10
    for w, question in asked:
        last_window, last_text = told_before(story, w, question.key)[-1]
        assert w - last_window == question.distance
        assert last_text.endswith(f" {question.answer}.")


def test_an_update_changes_the_value_and_says_now() -> None:
    story = episode(3, windows=10, facts=4, update_rate=0.5)
    updates = [s for window in story.windows for s in window if s.kind == "update"]
    assert updates
    assert all(" is now " in s.text for s in updates)
    for update in updates:
        texts = [text for _, text in told_before(story, 9, update.key)]
        values = [text.split()[-1] for text in texts]
        assert all(a != b for a, b in itertools.pairwise(values))


def test_distance_zero_asks_in_the_same_window_after_the_telling() -> None:
    story = episode(1, windows=1, facts=4, questions=4, distances=(0,), update_rate=0.0)
    kinds = [s.kind for s in story.windows[0]]
    assert kinds[-4:] == ["question"] * 4
    assert kinds.count("fact") == 4


def test_questions_take_turns_among_distances() -> None:
    story = episode(
        2,
        windows=17,
        telling=16,
        facts=3,
        questions=5,
        distances=(1, 2, 4, 8, 16),
        asking=16,
        update_rate=0.0,
    )
    assert sorted(s.distance for s in story.windows[16] if s.kind == "question") == [1, 2, 4, 8, 16]
    assert not [s for window in story.windows[:16] for s in window if s.kind == "question"]


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    assert episode(5) == episode(5)
    assert episode(5) != episode(6)


def test_guessing_within_an_attribute_succeeds_once_in_sixteen() -> None:
    assert {len(set(values)) for values in words.ATTRIBUTES.values()} == {16}
    assert pytest.approx(1 / 16) == CHANCE
    rng = np.random.default_rng(0)
    task = RecallTask(windows=2, facts=4, questions=4, distances=(1,), update_rate=0.0)
    right = total = 0
    for i in range(400):
        for s in task.episode(rng, session=str(i)).windows[1]:
            if s.kind == "question":
                values = words.ATTRIBUTES[s.key[1]]
                right, total = right + (values[rng.integers(16)] == s.answer), total + 1
    assert abs(right / total - CHANCE) < 0.02


def test_mqar_asks_every_pair_once_after_the_distance() -> None:
    story = mqar(pairs=4, windows=3, distance=2).episode(np.random.default_rng(0), session="s")
    assert [len(w) for w in story.windows] == [4, 0, 4]
    assert {s.key for s in story.windows[0]} == {s.key for s in story.windows[2]}


def test_entities_and_values_never_collide() -> None:
    values = [v for vs in words.ATTRIBUTES.values() for v in vs]
    assert len(values) == len(set(values))
    assert not set(values) & (set(words.ENTITIES) | set(words.ATTRIBUTES))


def test_a_world_of_one_attribute_asks_for_the_entity_and_one_that_is_told_out_updates() -> None:
    story = episode(4, windows=3, facts=4, entities=3, attributes=1, distances=(1,), update_rate=0.0)
    told = [s for window in story.windows for s in window if s.kind in ("fact", "update")]
    assert len({s.key[1] for s in told}) == 1
    assert [s.kind for s in told].count("fact") == 3
    assert len(told) == 12
