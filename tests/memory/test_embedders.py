"""Lexical keys: random indexing with idf weights."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from t4dm.errors import TokenOutOfVocabularyError
from t4dm.memory.embedders import LexicalEmbedder, document_frequencies


def test_keys_have_length_one_and_ignore_word_order() -> None:
    embedder = LexicalEmbedder(vocab_size=100, dim=64)
    keys = embedder.encode([[1, 2, 3], [3, 1, 2], [7]])
    assert keys.dtype == np.float32
    assert keys.shape == (3, 64)
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(keys[0], keys[1], rtol=1e-5)


def test_rows_are_the_documented_philox_bits() -> None:
    """Row t is the little-endian bits of raw words [t * ceil(D / 64), ...): checked against the generator
    itself.
    """
    embedder = LexicalEmbedder(vocab_size=4, dim=70, seed=9)
    raw = np.random.Philox(key=9).random_raw(8).astype("<u8")
    bits = np.unpackbits(raw[2:4].view(np.uint8))[:70].astype(np.float32) * 2 - 1
    np.testing.assert_array_equal(embedder.rows(np.array([1]))[0], bits)


def test_rows_never_change() -> None:
    """A changed row would make every stored key unfindable, so their digest is frozen."""
    rows = LexicalEmbedder(vocab_size=16, dim=128, seed=0).rows(np.arange(16)).astype(np.int8)
    assert hashlib.sha256(rows.tobytes()).hexdigest()[:16] == "d825b637a6616ddb"


def test_rows_of_different_tokens_are_nearly_orthogonal() -> None:
    rows = LexicalEmbedder(vocab_size=200, dim=1024).rows(np.arange(200)) / 32.0
    cosines = (rows @ rows.T)[~np.eye(200, dtype=bool)]
    # The deviation of a cosine of two random sign rows is 1 / sqrt(1024) = 0.03125.
    assert cosines.std() == pytest.approx(0.03125, rel=0.03)
    assert np.abs(cosines).max() < 0.16


def test_weights_are_damped_tf_times_idf() -> None:
    """df = 0, 1, 3 of N = 3 gives ln 4, ln 2, 0; token 0 twice has tf 1 + ln 2."""
    embedder = LexicalEmbedder(vocab_size=3, dim=256, document_frequency=np.array([0, 1, 3]), documents=3)
    np.testing.assert_allclose(embedder.idf, [np.log(4), np.log(2), 0.0], rtol=1e-6)
    rows = embedder.rows(np.arange(3))
    expected = (1 + np.log(2)) * np.log(4) * rows[0] + np.log(2) * rows[1]
    key = embedder.encode([[0, 1, 0, 2]])[0]
    np.testing.assert_allclose(key, expected / np.linalg.norm(expected), atol=1e-6)


def test_frequencies_count_spans_not_repetitions() -> None:
    counts = document_frequencies([[1, 1, 1], [1, 2], []], vocab_size=4)
    assert counts.tolist() == [0, 2, 1, 0]


def test_a_question_finds_its_fact_among_fillers() -> None:
    """Chunks share 6 filler words; only the two rare words tell them apart."""
    rng = np.random.default_rng(0)
    filler = list(range(10))
    facts = [[*rng.permutation(filler)[:6].tolist(), 100 + i, 300 + i] for i in range(200)]
    questions = [[*rng.permutation(filler)[:6].tolist(), 100 + i] for i in range(200)]
    embedder = LexicalEmbedder.fit(facts, vocab_size=600, dim=256)
    found = (embedder.encode(questions) @ embedder.encode(facts).T).argmax(axis=1)
    assert (found == np.arange(200)).mean() > 0.99
    unweighted = LexicalEmbedder(vocab_size=600, dim=256)
    plain = (unweighted.encode(questions) @ unweighted.encode(facts).T).argmax(axis=1)
    assert (plain == np.arange(200)).mean() < 0.9


def test_stop_words_are_left_out() -> None:
    frequency = np.array([9, 1, 1])
    embedder = LexicalEmbedder(vocab_size=3, dim=64, document_frequency=frequency, documents=10, stop_idf=0.5)
    np.testing.assert_array_equal(embedder.encode([[0, 1]]), embedder.encode([[1]]))


def test_a_span_of_stop_words_keeps_a_key_and_an_empty_one_is_zero() -> None:
    embedder = LexicalEmbedder(vocab_size=2, dim=64, document_frequency=np.array([5, 0]), documents=5)
    keys = embedder.encode([[0], [], [1]])
    np.testing.assert_allclose(np.linalg.norm(keys, axis=1), [1.0, 0.0, 1.0], rtol=1e-6)
    assert embedder.encode([]).shape == (0, 64)
    assert not embedder.encode([[], []]).any()


def test_blocks_do_not_change_the_keys() -> None:
    embedder = LexicalEmbedder(vocab_size=50, dim=32)
    spans = [[i % 50, (3 * i) % 50] for i in range(1030)]
    np.testing.assert_allclose(embedder.encode(spans)[-3:], embedder.encode(spans[-3:]), atol=1e-6)


def test_state_makes_the_same_embedder() -> None:
    embedder = LexicalEmbedder.fit([[1, 2], [2, 3]], vocab_size=5, dim=32, stop_idf=0.1, seed=4)
    again = LexicalEmbedder.from_state(embedder.state_dict())
    np.testing.assert_array_equal(again.encode([[1, 2, 3]]), embedder.encode([[1, 2, 3]]))


@pytest.mark.parametrize("token", [-1, 5])
def test_a_token_outside_the_vocabulary_is_named(token: int) -> None:
    with pytest.raises(
        TokenOutOfVocabularyError, match=rf"token id {token} lies outside .* of 5 .*vocab_size=len"
    ):
        LexicalEmbedder(vocab_size=5, dim=8).encode([[1, token]])


def test_frequencies_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="one count per token"):
        LexicalEmbedder(vocab_size=5, dim=8, document_frequency=np.ones(4))
