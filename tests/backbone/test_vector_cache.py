"""A vector is computed once for each text and model, whatever happens to the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from t4dm.backbone.vector_cache import VectorCache


class Counting:
    """Encodes a text as its length and its first letter; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)


def test_only_new_texts_are_encoded_and_order_is_kept(tmp_path: Path) -> None:
    encode, file = Counting(), tmp_path / "deep" / "vectors.npz"
    first = VectorCache(file, encode=encode, model="m")(["bb", "a", "bb"])
    assert first.tolist() == [[2, 98], [1, 97], [2, 98]]
    second = VectorCache(file, encode=encode, model="m")(["ccc", "a"])
    assert second.tolist() == [[3, 99], [1, 97]]
    assert second.dtype == np.float32
    assert encode.asked == [["bb", "a"], ["ccc"]]
    assert VectorCache(file, encode=encode, model="m")(["bb", "ccc"]).tolist() == [[2, 98], [3, 99]]
    assert len(encode.asked) == 2
    assert [path.name for path in file.parent.iterdir()] == ["vectors.npz"]


def test_the_file_holds_no_text(tmp_path: Path) -> None:
    file = tmp_path / "vectors.npz"
    VectorCache(file, encode=Counting(), model="m")(["something private"])
    assert b"private" not in file.read_bytes()


def test_another_model_has_vectors_of_its_own(tmp_path: Path) -> None:
    encode, file = Counting(), tmp_path / "vectors.npz"
    VectorCache(file, encode=encode, model="m")(["a"])
    VectorCache(file, encode=encode, model="n")(["a"])
    assert encode.asked == [["a"], ["a"]]


@pytest.mark.parametrize("damage", [b"", b"PK", b"nonsense"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    encode, file = Counting(), tmp_path / "vectors.npz"
    file.write_bytes(damage)
    assert VectorCache(file, encode=encode, model="m")(["a"]).tolist() == [[1, 97]]
    assert VectorCache(file, encode=encode, model="m")(["a"]).tolist() == [[1, 97]]
    assert encode.asked == [["a"]]


def test_a_file_cut_short_is_written_anew(tmp_path: Path) -> None:
    encode, file = Counting(), tmp_path / "vectors.npz"
    VectorCache(file, encode=encode, model="m")(["a"])
    file.write_bytes(file.read_bytes()[:-40])
    assert VectorCache(file, encode=encode, model="m")(["a"]).tolist() == [[1, 97]]
    assert len(encode.asked) == 2


def test_no_text_has_no_vector(tmp_path: Path) -> None:
    assert VectorCache(tmp_path / "vectors.npz", encode=Counting(), model="m")([]).shape[0] == 0
