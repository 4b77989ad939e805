"""Pieces of text add up to the whole, cut at the stop string that is complete first; no half character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4dm.backbone.load import load_backbone
from t4dm.errors import SettingError
from t4dm.model.text_stream import TextStream

TOKENIZER = load_backbone("tiny").tokenizer


def streamed(ids: list[int], *, prompt: list[int] | None = None, stop: list[str] | None = None) -> list[str]:
    stream, pieces = TextStream(TOKENIZER, prompt=prompt or [], stop=stop or []), []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.end()]


def cut(text: str, stops: list[str]) -> str:
    """Character by character: the first moment at which the text ends with a stop string."""
    for end in range(len(text) + 1):
        fitting = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if fitting:
            return text[: min(fitting)]
    return text


texts = st.text(alphabet="ab \n\u00e9\u65e5\U0001f600", max_size=24)


@settings(max_examples=150, deadline=None)
@given(text=texts, stops=st.lists(st.text(alphabet="ab\u00e9\u65e5", min_size=1, max_size=3), max_size=3))
def test_the_pieces_are_the_text_cut_at_the_first_stop_string(text: str, stops: list[str]) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    pieces = streamed(ids, stop=stops)
    assert "".join(pieces) == cut(text, stops)
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(2, len(TOKENIZER) - 1), max_size=20))
def test_any_tokens_give_the_text_of_them_all_without_a_part_at_the_end(ids: list[int]) -> None:
    whole = TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(streamed(ids)).rstrip("\ufffd") == whole.rstrip("\ufffd")


def test_a_character_of_four_tokens_comes_at_once() -> None:
    ids = TOKENIZER.encode("\U0001f600", add_special_tokens=False)
    assert len(ids) == 4
    assert streamed(ids) == ["", "", "", "\U0001f600", ""]
    assert streamed(ids[:3]) == ["", "", "", ""]


def test_a_stop_string_over_several_tokens_is_never_begun() -> None:
    ids = TOKENIZER.encode("a b a b c", add_special_tokens=False)
    pieces = streamed(ids, stop=["a b c"])
    assert "".join(pieces) == "a b "
    assert streamed(TOKENIZER.encode("a b", add_special_tokens=False), stop=["b!"])[-1] == "b"


def test_the_prompt_is_context_and_no_part_of_the_text() -> None:
    prompt = TOKENIZER.encode("The color of \u65e5", add_special_tokens=False)
    ids = TOKENIZER.encode(" is red", add_special_tokens=False)
    for length in range(len(prompt)):
        assert "".join(streamed(ids, prompt=prompt[length:])) == " is red"


def test_special_tokens_are_not_text() -> None:
    ids = TOKENIZER.encode(" red", add_special_tokens=False)
    assert "".join(streamed([*ids, TOKENIZER.pad_token_id, *ids])) == " red red"


def test_an_empty_stop_string_is_a_mistake() -> None:
    with pytest.raises(SettingError, match=r"leave it out: stop=\[\]$"):
        TextStream(TOKENIZER, stop=["."[:0]])
