"""Postings: where words stand, packed and growing alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from t4dm.t4dx.postings import Growing, Packed, Posting, Postings, pack
from t4dm.t4dx.tokens import Analyzer

TEXTS = ("the cat sat", "", "The CAT, the cat", "ärger zebra")


class Source:
    """Rows of texts, as a memtable has them; counts how often it is read."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.texts, self.read = texts, list[int]()

    def text_at(self, row: int) -> tuple[str, str]:
        self.read.append(row)
        return self.texts[row], "{}"


def growing(texts: tuple[str, ...] = TEXTS) -> Growing:
    source: Any = Source(texts)
    return Growing(source, Analyzer())


def told(posting: Posting) -> list[tuple[int, int]]:
    return list(zip(posting.rows.tolist(), posting.counts.tolist(), strict=True))


@pytest.mark.parametrize("postings", [Packed(pack(TEXTS, Analyzer())), growing()], ids=["packed", "growing"])
def test_a_word_is_found_in_its_rows_as_often_as_it_stands_there(postings: Postings) -> None:
    assert told(postings.find("cat", 4)) == [(0, 1), (2, 2)]
    assert told(postings.find("the", 4)) == [(0, 1), (2, 2)]
    assert told(postings.find("ärger", 4)) == [(3, 1)]
    assert told(postings.find("dog", 4)) == told(postings.find("", 4)) == told(postings.find("ca", 4)) == []
    assert postings.lengths(4).tolist() == [3, 0, 4, 2]
    every = {word: told(posting) for word, posting in postings.all(4)}
    assert every.keys() == {"the", "cat", "sat", "ärger", "zebra"}
    assert every["cat"] == [(0, 1), (2, 2)]


def test_words_are_packed_in_the_order_of_their_bytes() -> None:
    arrays = pack(("zebra ärger", "cat zebra"), Analyzer())
    assert bytes(arrays.blob) == b"catzebra" + "ärger".encode()
    assert arrays.ends.tolist() == [0, 3, 8, 14]
    assert arrays.starts.tolist() == [0, 1, 3, 4]
    assert arrays.rows.tolist() == [1, 0, 1, 0]
    assert arrays.counts.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("times", "kind"), [(255, np.uint8), (256, np.int32)])
def test_counts_take_as_few_bytes_as_they_fit_in(times: int, kind: type) -> None:
    arrays = pack(("a " * times,), Analyzer())
    assert (arrays.counts.tolist(), arrays.counts.dtype) == ([times], kind)


@pytest.mark.parametrize(("rows", "kind"), [(65536, np.uint16), (65537, np.int32)])
def test_rows_take_as_few_bytes_as_they_fit_in(rows: int, kind: type) -> None:
    arrays = pack(("" if row else "a" for row in range(rows - 1, -1, -1)), Analyzer())
    assert (arrays.rows.tolist(), arrays.rows.dtype) == ([rows - 1], kind)


def test_nothing_has_no_words() -> None:
    for texts in ((), ("", "?!")):
        found = Packed(pack(texts, Analyzer()))
        assert list(found.all(len(texts))) == []
        assert told(found.find("a", len(texts))) == []
        assert found.lengths(len(texts)).tolist() == [0] * len(texts)


def test_a_memtable_is_read_once_and_an_old_reader_sees_what_it_had() -> None:
    postings = growing()
    source: Any = postings._source
    assert told(postings.find("cat", 1)) == [(0, 1)]
    assert source.read == [0]
    assert told(postings.find("cat", 3)) == [(0, 1), (2, 2)]
    assert told(postings.find("cat", 1)) == [(0, 1)]
    assert {word for word, _ in postings.all(1)} == {"the", "cat", "sat"}
    assert postings.lengths(2).tolist() == [3, 0]
    assert source.read == [0, 1, 2]
