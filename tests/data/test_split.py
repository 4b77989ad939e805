"""The held-out side depends on content and seed, never on order, number or repetition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4dm.data.split import position, split

MANY = [f"document {i}" for i in range(2000)]


def test_sides_are_disjoint_and_complete():
    sides = split(MANY, fraction=0.1, seed=1)
    assert not set(sides.train) & set(sides.held_out)
    assert sorted(sides.train + sides.held_out) == sorted(MANY)
    assert 160 < len(sides.held_out) < 240  # 200 expected, three standard deviations are 40


def test_adding_and_shuffling_documents_moves_none():
    before = split(MANY[:1000], fraction=0.1, seed=1)
    after = split(MANY[::-1], fraction=0.1, seed=1)
    assert set(before.held_out) <= set(after.held_out)
    assert set(before.train) <= set(after.train)


def test_another_seed_holds_out_other_documents():
    one, two = (set(split(MANY, fraction=0.1, seed=s).held_out) for s in (1, 2))
    assert len(one & two) < 60  # 20 expected by chance


def test_equal_documents_share_a_side():
    sides = split([*MANY, *MANY], fraction=0.1, seed=1)
    assert not set(sides.train) & set(sides.held_out)


@given(st.sets(st.text(min_size=1), min_size=2, max_size=6), st.floats(0.001, 0.999), st.integers(0, 99))
def test_two_documents_are_enough_for_both_sides(documents, fraction, seed):
    sides = split(sorted(documents), fraction=fraction, seed=seed)
    assert sides.train
    assert sides.held_out


def test_positions_are_uniform_and_fixed():
    mean = sum(position(d, seed=3) for d in MANY) / len(MANY)
    assert abs(mean - 0.5) < 3 * 0.2887 / 2000**0.5
    assert position("a", seed=1) == position("a", seed=1) != position("a", seed=2)


def test_nothing_is_held_out_at_zero():
    assert split(["a"], fraction=0, seed=1) == (["a"], [])


def test_the_end_of_a_single_document_is_held_out():
    assert split(["one two three four"], fraction=0.25, seed=1) == (["one two three "], ["four"])
    assert split(["one two"], fraction=0.01, seed=1) == (["one "], ["two"])
    assert split(["a b", "a b"], fraction=0.5, seed=1) == (["a ", "a "], ["b"])


def test_a_single_word_cannot_be_divided():
    for documents in ([], ["word"], ["word ", "word "]):
        with pytest.raises(ValueError, match="a single word cannot be divided"):
            split(documents, fraction=0.5, seed=1)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        split(["a", "b"], fraction=1.0, seed=1)
