from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t4dm.viz.labels import spread


def test_labels_far_apart_stay_where_they_are() -> None:
    assert spread([10.0, 50.0], gap=12, low=0, high=100) == [10.0, 50.0]


def test_labels_that_touch_open_up_around_their_mean() -> None:
    assert spread([50.0, 50.0, 50.0], gap=10, low=0, high=100) == [40.0, 50.0, 60.0]


def test_a_group_at_the_edge_is_pushed_inside() -> None:
    assert spread([99.0, 100.0], gap=10, low=0, high=100) == [90.0, 100.0]


def test_no_labels_need_no_places() -> None:
    assert spread([], gap=10, low=0, high=100) == []


@given(st.lists(st.floats(min_value=0, max_value=300), min_size=1, max_size=12))
def test_order_gap_and_bounds_hold(wanted: list[float]) -> None:
    gap = min(14.0, 300 / max(len(wanted) - 1, 1))
    placed = spread(wanted, gap=14.0, low=0, high=300)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [placed[index] for index in order]
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(places))
    assert min(places) >= -1e-6
    assert max(places) <= 300 + 1e-6


def test_a_lone_label_beyond_the_edge_comes_back() -> None:
    assert spread([-20.0], gap=10, low=0, high=100) == pytest.approx([0.0])
