"""Recall and nDCG by hand and by scikit-learn's word; bootstrap intervals by scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import ndcg_score

from t4dm.evaluation.ranking import bootstrap_interval, ndcg_at, recall_at, reciprocal_rank

RANKED = ["e", "b", "a", "d", "c"]


def test_recall_is_the_share_that_was_found() -> None:
    assert recall_at(RANKED, ["a", "b", "z"], 3) == pytest.approx(2 / 3)
    assert recall_at(RANKED, ["a", "b", "z"], 2) == pytest.approx(1 / 3)
    assert recall_at(RANKED, ["a", "a", "b"], 3) == 1.0
    assert recall_at([], ["a"], 10) == 0.0


def test_ndcg_is_the_sum_of_discounts_over_the_best_one() -> None:
    # hits at places 2 and 3 of an ideal 1, 2 and 3: (0.630930 + 0.5) / (1 + 0.630930 + 0.5)
    assert ndcg_at(RANKED, ["a", "b", "z"], 5) == pytest.approx(1.1309298 / 2.1309298, abs=1e-7)
    assert ndcg_at(RANKED, ["e"], 10) == 1.0
    assert ndcg_at(RANKED, ["b"], 1) == 0.0
    # with more right entries than places the best order fills the places
    assert ndcg_at(RANKED, ["e", "b", "a"], 2) == 1.0


def test_reciprocal_rank_is_that_of_the_first_right_entry() -> None:
    assert reciprocal_rank(RANKED, ["a", "c"]) == pytest.approx(1 / 3)
    assert reciprocal_rank(RANKED, ["z"]) == 0.0


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(k)
    for right in (1, 2, 5, 20):
        scores = rng.permutation(30).astype(float)
        gains = np.zeros(30)
        gains[rng.choice(30, size=right, replace=False)] = 1.0
        ranked = [str(i) for i in np.argsort(-scores)]
        relevant = [str(i) for i in np.flatnonzero(gains)]
        assert ndcg_at(ranked, relevant, k) == pytest.approx(ndcg_score([gains], [scores], k=k), abs=1e-12)


@pytest.mark.parametrize("measure", [recall_at, ndcg_at])
def test_a_question_without_an_answer_has_no_measure(measure: object) -> None:
    with pytest.raises(ValueError, match=r"leave such a question out$"):
        measure(RANKED, [], 10)  # type: ignore[operator]


def test_a_bootstrap_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).beta(0.4, 0.3, size=200)
    low, high = bootstrap_interval(values, rng=np.random.default_rng(1), draws=20_000)
    outside = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    assert (low, high) == pytest.approx(tuple(outside.confidence_interval), abs=2e-3)


def test_whole_groups_are_drawn_with_all_of_their_values() -> None:
    """Groups (0, 0) and (1): a draw of two has means 0, 1/3, 1 with chances 1/4, 1/2, 1/4."""
    values, groups = [0.0, 0.0, 1.0], ["a", "a", "b"]
    rng = np.random.default_rng(3)
    assert bootstrap_interval(values, groups=groups, rng=rng, level=0.4) == pytest.approx((1 / 3, 1 / 3))
    assert bootstrap_interval(values, groups=groups, rng=rng, level=0.6) == (0.0, 1.0)


def test_groups_of_like_values_widen_the_interval() -> None:
    values = np.repeat([0.2, 0.4, 0.6, 0.8], 50)
    groups = np.repeat(list("abcd"), 50)
    single = bootstrap_interval(values, rng=np.random.default_rng(4))
    grouped = bootstrap_interval(values, rng=np.random.default_rng(4), groups=list(groups))
    # standard errors: 0.2236 / sqrt(200) = 0.0158 for questions, 0.2236 / sqrt(4) = 0.112 for groups
    assert single[1] - single[0] == pytest.approx(2 * 1.96 * math.sqrt(0.05 / 200), rel=0.05)
    assert grouped[1] - grouped[0] > 0.35


def test_the_mean_of_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match=r"pass one or more$"):
        bootstrap_interval([], rng=np.random.default_rng(0))
