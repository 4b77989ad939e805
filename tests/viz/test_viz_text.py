from __future__ import annotations

import pytest

from t4dm.viz.text import NONE, listed, number, percent, percent_range, seconds, size


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.934, "93 %"), (0.0, "0 %"), (-0.001, "0 %"), (1.0, "100 %"), (None, NONE), (float("nan"), NONE)],
)
def test_percent(value: float | None, text: str) -> None:
    assert plain(percent(value)) == text


def test_a_range_of_percents_collapses_where_it_rounds_to_one() -> None:
    assert plain(percent_range([0.91, 0.97, 0.94])) == "91 to 97 %"
    assert plain(percent_range([0.931, 0.929])) == "93 %"


@pytest.mark.parametrize(
    ("value", "text"),
    [(512, "512 B"), (2048, "2.0 KiB"), (1536 * 1024, "1.5 MiB"), (3 * 2**40, "3072.0 GiB"), (None, NONE)],
)
def test_sizes_use_binary_units(value: float | None, text: str) -> None:
    assert plain(size(value)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42 s"),
        (38.4, "38 s"),
        (59.7, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
        (None, NONE),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert plain(seconds(value)) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1210, "1 210"), (0.3123, "0.312"), (12345.6, "12 346"), (None, NONE)]
)
def test_numbers(value: float | None, text: str) -> None:
    assert plain(number(value)) == text


def test_lists_end_in_and() -> None:
    assert [listed(["1"]), listed(["1", "2"]), listed(["1", "2", "4"])] == ["1", "1 and 2", "1, 2 and 4"]
