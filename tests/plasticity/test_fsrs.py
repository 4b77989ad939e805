"""FSRS-6 against py-fsrs: its answers are stored in golden/fsrs.json, made by make_fsrs_golden.py."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4dm.errors import LearningRuleError
from t4dm.plasticity.fsrs import (
    DEFAULT_WEIGHTS,
    Rating,
    Recallable,
    first_review,
    interval,
    retrievability,
    review,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "fsrs.json").read_text(encoding="utf-8"))
STABILITY = st.floats(0.001, 1e4)
DIFFICULTY = st.floats(1.0, 10.0)
STATES = st.builds(Recallable, STABILITY, DIFFICULTY)
RATINGS = st.sampled_from(Rating)
DAYS = st.floats(0.0, 1e4)


def test_at_whole_days_it_is_py_fsrs() -> None:
    """40 histories of 8 reviews, gaps of 0 to 1000 days; wanted within 1e-9."""
    seen = 0
    for history in GOLDEN["histories"]:
        state = None
        for days, rating, recall, stability, difficulty in history:
            if state is None:
                state = first_review(Rating(rating))
            else:
                assert retrievability(days, state.stability) == pytest.approx(recall, abs=1e-12)
                state = review(state, Rating(rating), days)
            assert state.stability == pytest.approx(stability, abs=1e-9, rel=1e-12)
            assert state.difficulty == pytest.approx(difficulty, abs=1e-9)
            seen += 1
    assert seen == 320


def test_the_stored_histories_hold_every_rating_after_a_day_and_on_the_same() -> None:
    met = {(days >= 1, rating) for history in GOLDEN["histories"] for days, rating, *_ in history[1:]}
    assert met == {(later, int(rating)) for later in (False, True) for rating in Rating}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), RATINGS), min_size=1, max_size=6))
def test_where_py_fsrs_is_installed_it_agrees_on_any_history(reviews: list[tuple[int, Rating]]) -> None:
    fsrs = pytest.importorskip("fsrs")
    scheduler, card = fsrs.Scheduler(enable_fuzzing=False), fsrs.Card()
    now, state = datetime(2026, 1, 1, tzinfo=UTC), None
    for days, rating in reviews:
        now += timedelta(days=days)
        card, _ = scheduler.review_card(card, fsrs.Rating(int(rating)), now)
        state = first_review(rating) if state is None else review(state, rating, days)
        assert state == pytest.approx((card.stability, card.difficulty), abs=1e-9, rel=1e-12)


def test_the_forgetting_curve_by_hand() -> None:
    """F = 0.9^(-1 / 0.1542) - 1 = 0.98035."""
    assert retrievability(10.0, 10.0) == pytest.approx(0.9, abs=1e-12)
    assert retrievability(20.0, 10.0) == pytest.approx((1 + 0.98035 * 2) ** -0.1542, rel=1e-5)
    assert retrievability(0.0, 3.0) == 1.0


def test_a_first_good_review_is_due_again_after_its_stability() -> None:
    state = first_review(Rating.GOOD)
    assert state.stability == 2.3065
    assert interval(state.stability) == pytest.approx(2.3065)


@given(STABILITY, st.floats(0.05, 0.99))
def test_after_the_interval_recall_is_as_probable_as_was_asked(stability: float, retention: float) -> None:
    assert retrievability(interval(stability, retention=retention), stability) == pytest.approx(retention)


@given(STABILITY, DAYS, DAYS)
def test_recall_only_ever_falls_and_a_stabler_item_falls_slower(stability: float, a: float, b: float) -> None:
    early, late = sorted((a, b))
    assert 0.0 < retrievability(late, stability) <= retrievability(early, stability) <= 1.0
    assert retrievability(late, 2.0 * stability) >= retrievability(late, stability)


@given(STATES, DAYS)
def test_what_is_recalled_grows_stabler_and_a_better_rating_by_more(state: Recallable, days: float) -> None:
    hard, good, easy = (review(state, r, days) for r in (Rating.HARD, Rating.GOOD, Rating.EASY))
    slack = 1.0 - 1e-12
    assert hard.stability >= state.stability * slack
    assert easy.stability >= good.stability * slack >= hard.stability * slack**2
    assert easy.difficulty <= good.difficulty <= hard.difficulty


@given(STATES, RATINGS, DAYS)
def test_a_state_stays_within_its_bounds(state: Recallable, rating: Rating, days: float) -> None:
    after = review(state, rating, days)
    assert after.stability >= 0.001
    assert 1.0 <= after.difficulty <= 10.0


@given(st.builds(Recallable, st.floats(0.05, 1e3), DIFFICULTY), RATINGS, st.floats(0.0, 3.0))
def test_time_is_continuous_also_within_a_day(state: Recallable, rating: Rating, days: float) -> None:
    """py-fsrs cuts time into days: 23 hours count as none, 25 as a whole one."""
    step = 1e-7
    here, there = review(state, rating, days), review(state, rating, days + step)
    assert there.stability == pytest.approx(here.stability, rel=1e-4)


def test_twelve_hours_count_half_as_a_review_at_once_and_half_as_one_of_another_day() -> None:
    """At once a good review leaves 3 days at 3: exp(0.5425 * 0.0912) * 3^-0.0658 is below 1."""
    state = Recallable(3.0, 5.0)
    assert review(state, Rating.GOOD, 0.0).stability == 3.0
    forgotten = 1.0 - retrievability(0.5, 3.0)
    rise = math.exp(1.8722) * (11 - 5) * 3**-0.1666 * (math.exp(0.796 * forgotten) - 1)
    assert review(state, Rating.GOOD, 0.5).stability == pytest.approx(0.5 * 3 + 0.5 * 3 * (1 + rise))


def test_a_clock_that_went_backwards_counts_as_no_time() -> None:
    state = Recallable(3.0, 5.0)
    assert review(state, Rating.GOOD, -4.0) == review(state, Rating.GOOD, 0.0)
    assert retrievability(-4.0, 3.0) == 1.0


def test_other_weights_change_what_they_belong_to() -> None:
    steeper = (*DEFAULT_WEIGHTS[:20], 0.5)
    assert retrievability(3.0, 3.0, weights=steeper) == pytest.approx(0.9)
    assert retrievability(30.0, 3.0, weights=steeper) < retrievability(30.0, 3.0)
    assert first_review(Rating.EASY, weights=(*DEFAULT_WEIGHTS[:3], 20.0, *DEFAULT_WEIGHTS[4:]))[0] == 20.0


def test_wrong_settings_say_what_to_set() -> None:
    with pytest.raises(LearningRuleError, match="21 weights, not 3; pass w0 to w20"):
        retrievability(1.0, 1.0, weights=(0.1, 0.2, 0.3))
    with pytest.raises(LearningRuleError, match="set it between 0 and 1"):
        interval(1.0, retention=1.0)
