"""Which rows make up a step depends on seed, epoch and step alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4dm.data.sampler import StepSampler, permutation


@given(st.integers(1, 700), st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_every_row_comes_once_an_epoch(size, seed, epoch):
    order = permutation(size, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(size))


def test_the_order_is_frozen():
    assert permutation(8, seed=1234, epoch=0).tolist() == [2, 7, 6, 1, 3, 0, 5, 4]


def test_each_place_gets_each_row_equally_often():
    epochs, size = 3000, 6
    orders = np.stack([permutation(size, seed=7, epoch=e) for e in range(epochs)])
    counts = np.stack([np.bincount(orders[:, place], minlength=size) for place in range(size)])
    chi2 = float(((counts - epochs / size) ** 2 / (epochs / size)).sum())
    assert chi2 < 44.3  # 99th percentile of chi2 with (6 - 1)**2 degrees of freedom


def test_successive_rows_are_not_correlated():
    order = permutation(4096, seed=3, epoch=1)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 4 / 64  # four standard errors
    assert abs(np.corrcoef(order, permutation(4096, seed=3, epoch=2))[0, 1]) < 4 / 64


def test_same_seed_epoch_and_step_give_the_same_rows():
    one, two = (StepSampler(size=101, batch_size=8, seed=5) for _ in range(2))
    list(map(lambda s: one.rows(0, s), range(13)))
    assert np.array_equal(one.rows(3, 7), two.rows(3, 7))
    assert not np.array_equal(one.rows(3, 7), one.rows(4, 7))
    assert not np.array_equal(one.rows(3, 7), StepSampler(size=101, batch_size=8, seed=6).rows(3, 7))


def test_steps_of_an_epoch_cover_all_rows_and_the_last_is_short():
    sampler = StepSampler(size=10, batch_size=4, seed=0)
    assert sampler.steps == 3
    rows = [sampler.rows(0, s) for s in range(3)]
    assert [len(r) for r in rows] == [4, 4, 2]
    assert sorted(np.concatenate(rows).tolist()) == list(range(10))
    assert StepSampler(size=10, batch_size=4, seed=0, drop_last=True).steps == 2


def test_without_a_seed_rows_keep_their_order():
    assert StepSampler(size=5, batch_size=3, seed=None).rows(9, 1).tolist() == [3, 4]


def test_wrong_steps_and_places_are_refused():
    with pytest.raises(IndexError, match="step 3 of an epoch of 3 steps"):
        StepSampler(size=10, batch_size=4, seed=0).rows(0, 3)
    with pytest.raises(ValueError, match="at least one row"):
        StepSampler(size=10, batch_size=0, seed=0)
