"""Words of texts in several scripts."""

from __future__ import annotations

import pytest

from t4dm.errors import TextQueryError
from t4dm.t4dx import Analyzer
from t4dm.t4dx.tokens import ENGLISH, split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ann's 2 dogs, user_name!", ["ann", "s", "2", "dogs", "user", "name"]),
        ("", []),
        (" ... \n", []),
        ("Straße STRASSE", ["strasse", "strasse"]),
        (
            "\ufb01ne \u2460 \uff26\uff35\uff2c\uff2c",
            ["fine", "1", "full"],
        ),  # a ligature, a circle, full width
        ("cafe\u0301 CAF\u00c9", ["café", "café"]),  # a mark of its own, and composed
        ("привет, МИР", ["привет", "мир"]),
        ("हिन्दी में", ["हिन्दी", "में"]),  # vowel signs are marks, no breaks
        ("東京都", ["東", "京", "都", "東京", "京都"]),
        ("犬", ["犬"]),
        ("iPhoneを買う", ["iphone", "を", "買", "う", "を買", "買う"]),
        ("한국어 문장", ["한국어", "문장"]),  # written with spaces
        ("\ud7ff a-b", ["a", "b"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_thai_finds_by_pairs() -> None:
    assert set(split("แมว")) <= set(split("แมวดำ"))
    assert "แม" in split("แมว")


def test_stop_words_are_left_out_however_they_are_written() -> None:
    assert Analyzer(stop=("The", "OF")).words("the king Of spain") == ["king", "spain"]
    assert Analyzer(stop=ENGLISH).words("the to be") == []


def test_analyzers_with_the_same_words_have_the_same_name() -> None:
    names = [Analyzer(stop=stop).name for stop in [("a", "the"), ("THE", "a", "a"), ("a",), ()]]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_stop_words_are_several() -> None:
    with pytest.raises(TextQueryError, match=r"stop=\('the',\)"):
        Analyzer(stop="the")  # type: ignore[arg-type]


def test_english_stems() -> None:
    pytest.importorskip("snowballstemmer")
    assert Analyzer(stem="english").words("Running dogs ran") == ["run", "dog", "ran"]
    with pytest.raises(TextQueryError, match="choose one of"):
        Analyzer(stem="klingon")
