"""Packing loses nothing, reorders nothing and looks at nothing that comes later."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4dm.data.packing import IGNORED, pack, unpack

DOCUMENTS = st.lists(st.lists(st.integers(1, 500), max_size=12), max_size=9)


def test_packing_by_hand():
    packed = pack([[5, 6, 7], [8]], length=4, end_id=2, pad_id=9)
    assert packed.tokens.tolist() == [[5, 6, 7, 2], [8, 2, 9, 9]]
    assert packed.starts.tolist() == [[True, False, False, False], [True, False, False, False]]
    assert packed.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert packed.labels.tolist() == [[IGNORED, 6, 7, 2], [IGNORED, 2, IGNORED, IGNORED]]


def test_a_document_goes_on_in_the_next_window_without_a_reset():
    packed = pack([[1, 2, 3, 4, 5]], length=3)
    assert packed.starts.tolist() == [[True, False, False], [False, False, False]]
    assert packed.labels[1].tolist() == [4, 5, IGNORED]


@given(DOCUMENTS, st.integers(1, 7), st.sampled_from([None, 0]))
def test_packing_loses_nothing(documents, length, end_id):
    packed = pack(documents, length=length, end_id=end_id)
    assert unpack(packed, end_id=end_id) == [document for document in documents if document]
    assert packed.tokens.shape[1] == length
    assert packed.mask.ravel().sum() == sum(len(d) + (end_id is not None) for d in documents if d)
    assert np.flatnonzero(~packed.mask.ravel()).size < length


@given(DOCUMENTS, DOCUMENTS, st.integers(1, 7))
def test_later_documents_change_no_full_window(first, more, length):
    alone, together = pack(first, length=length), pack(first + more, length=length)
    full = int(alone.mask.all(axis=1).sum())
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a[:full], b[:full])


def test_no_label_crosses_a_document():
    packed = pack([[1, 2], [3, 4], [5, 6]], length=6)
    assert packed.labels.tolist() == [[IGNORED, 2, IGNORED, 4, IGNORED, 6]]


def test_a_window_needs_a_token():
    with pytest.raises(ValueError, match="length=0"):
        pack([[1]], length=0)
