"""Which library of graphs is taken for each value of `Options.index`."""

from __future__ import annotations

import importlib.util

import pytest

from t4dm.errors import GraphLibraryWarning, OptionError
from t4dm.t4dx.graph_backends import backend, chosen


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in names else None)


@pytest.mark.parametrize(
    ("index", "here", "expected"),
    [
        ("auto", ("faiss", "hnswlib"), "faiss"),
        ("faiss", ("faiss",), "faiss"),
        ("hnswlib", ("faiss", "hnswlib"), "hnswlib"),
        ("exact", ("faiss", "hnswlib"), ""),
        ("exact", (), ""),
    ],
)
def test_the_library_that_is_asked_for_is_taken_without_a_word(
    monkeypatch: pytest.MonkeyPatch, index: str, here: tuple[str, ...], expected: str
) -> None:
    installed(monkeypatch, *here)
    assert chosen(index) == expected


@pytest.mark.parametrize(
    ("index", "here", "expected"),
    [
        ("auto", ("hnswlib",), "hnswlib"),
        ("faiss", ("hnswlib",), "hnswlib"),
        ("auto", (), ""),
        ("hnswlib", ("faiss",), ""),  # nobody who asks for one gets the other by chance
    ],
)
def test_a_missing_library_is_told_once_and_the_next_one_taken(
    monkeypatch: pytest.MonkeyPatch, index: str, here: tuple[str, ...], expected: str
) -> None:
    installed(monkeypatch, *here)
    with pytest.warns(GraphLibraryWarning) as told:
        assert chosen(index) == expected
    assert len(told) == 1


def test_another_index_is_refused() -> None:
    with pytest.raises(OptionError, match=r"index is 'annoy'; choose one of auto, faiss, hnswlib, exact$"):
        chosen("annoy")


def test_a_library_has_one_back_end() -> None:
    assert backend("faiss").name == "faiss"
    pytest.importorskip("hnswlib")
    assert backend("hnswlib").name == "hnswlib"
