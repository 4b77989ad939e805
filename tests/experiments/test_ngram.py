"""The n-gram baselines, against hand-computed values."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SOURCE = Path(__file__).parents[2] / "experiments" / "tiny_backbone" / "ngram.py"


@pytest.fixture(scope="module")
def ngram() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ngram", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_unigram_smooths_by_one(ngram) -> None:
    """Counts 3, 1, 0 plus one each: probabilities 4/7, 2/7, 1/7."""
    expected = math.exp(-(math.log(4 / 7) + math.log(1 / 7)) / 2)
    assert math.isclose(ngram.unigram_perplexity([0, 0, 0, 1], [0, 2], 3), expected)


def test_probabilities_of_all_tokens_sum_to_one(ngram) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 6, 400)
    model = ngram.KneserNey(order=3, vocab_size=6).fit(tokens)
    for history in ((1, 2), (5, 5), (0,), ()):
        assert sum(model.probability(history, t) for t in range(6)) == pytest.approx(1.0, abs=1e-9)


def test_a_bigram_mixes_its_counts_with_continuations(ngram) -> None:
    """0 1 0 1 0 2: bigrams 01 x2, 10 x2, 02 x1; one seen once, two twice: d2 = 1 / (1 + 4) = 0.2.

    Continuations: 0 and 2 follow one word each, and so does 1; all three are seen once: d1 = 3 / 3 = 1, so
        the unigram
    falls back to 1/3. P(1 | 0) = (2 - 0.2) / 3 + 0.2 * 2 / 3 * 1/3.
    """
    model = ngram.KneserNey(order=2, vocab_size=3).fit([0, 1, 0, 1, 0, 2])
    assert model.probability((0,), 1) == pytest.approx((2 - 0.2) / 3 + 0.2 * 2 / 3 / 3)


def test_what_repeats_is_less_perplexing_at_a_higher_order(ngram) -> None:
    tokens = [0, 1, 2, 3, 0, 2, 1, 3] * 40
    low, high = (
        ngram.KneserNey(order=n, vocab_size=4).fit(tokens).perplexity(tokens, window=16) for n in (1, 4)
    )
    assert high < 0.6 * low
