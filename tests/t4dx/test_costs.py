"""How a path is chosen: by counted rows and a table of costs, the same every time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from t4dm.t4dx.ann import Exact
from t4dm.t4dx.costs import (
    Costs,
    Task,
    choose,
    is_worth_shortening,
    measured,
    sureness,
    walk_seconds,
    walk_size,
)
from t4dm.t4dx.ladders import LADDER, ladder_of

TABLE = Costs()
HUNDRED = Task(matches=100_000, places=100_000, dim=1024, queries=1, bits=1024, uncoded=0, width=1024)


def path(table: Costs = TABLE, *, recall: float = 0.99, **changes: int) -> str:
    return choose(table, HUNDRED._replace(**changes), recall=recall).path


def test_the_path_follows_the_count() -> None:
    graphed = {"graphed": 100_000, "ef": 64}
    assert path(**graphed) == "graph"
    assert path(graphed=50_000, matches=50_000, ef=90) == "graph"
    assert path() == "codes"
    assert path(matches=10_000) == path(matches=1000) == "codes"
    assert path(matches=100) == "exact"
    assert path(bits=0) == "exact"
    assert path(**graphed, recall=1.0) == "exact"


def test_costs_are_those_of_the_table() -> None:
    table = Costs(scan=1.0, gather=2.0, sort=3.0, signs=5.0, bounds=7.0, probe=11.0, near=0.0, small=0)
    exact = choose(table, Task(10, 100, 4, 1, 0, 0), recall=0.5)
    assert exact.seconds == 10 * 4 * 2 + 10 * 3
    whole = choose(table, Task(100, 100, 4, 1, 0, 0), recall=0.5)
    assert whole.seconds == 100 * 4 * 1 + 100 * 3
    coded = choose(table._replace(gather=1000.0, scan=1000.0), Task(10, 100, 4, 1, 128, 0), recall=0.5)
    assert (coded.path, coded.seconds) == ("codes", 11 + (5 * 2 + 7) * 10)


def test_codes_are_made_once_they_would_have_paid() -> None:
    """Searches without codes go on until they have lost what making them costs, never longer."""
    table, saved, paths = Costs(), 0.0, list[str]()
    task = HUNDRED._replace(uncoded=100_000)
    for _ in range(60):
        choice = choose(table, task._replace(saved=saved), recall=0.99)
        paths.append(choice.path)
        saved += choice.saving
    first = paths.index("codes")
    making = table.encode * 1024 * 100_000
    each = choose(table, task, recall=0.99).saving
    assert 1 < first == math.ceil(making / each) - 1
    assert set(paths[:first]) == {"exact"}
    assert choose(table, HUNDRED._replace(uncoded=5), recall=0.99).path == "codes"  # a few new rows


def test_a_walk_is_as_long_as_recall_and_filter_ask() -> None:
    ladder = (0.9, 0.95, 0.98, 0.996, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert walk_size(ladder, 0.9, 1.0, 10) == 48
    assert walk_size(ladder, 0.99, 1.0, 10) == 96
    assert walk_size(ladder, 0.99, 0.25, 10) == 192
    assert walk_size(ladder, 0.999, 1.0, 10) == 128
    assert walk_size(ladder, 0.99, 1.0, 200) == 400
    assert [walk_size((1.0,) * 9, recall, 1.0, 10) for recall in (0.9, 0.99, 0.999)] == [32, 64, 128]
    assert walk_size((0.5, *[0.91] * 8), 0.9, 1.0, 10) == 512
    assert walk_size((0.5, *[0.91] * 8), 0.95, 1.0, 10) == 0  # no walk finds as much
    assert [walk_size(None, recall, 1.0, 10) for recall in (0.9, 0.99, 0.9999)] == [32, 192, 512]


def test_shortened_points_must_do_within_twice_the_shortest_walk_through_whole_ones() -> None:
    """Seconds by Costs(): a walk of ef e costs e * 4e-9 * D whole, e * (4e-9 * d + 0.27e-9 * D) shortened."""
    ladders = {
        size: tuple(1.0 if step >= size else 0.9 for step in LADDER) for size in (96, 192, 256, 384, 512)
    }
    assert walk_seconds(Costs(), 100, 64, 1024) == pytest.approx(100 * (4e-9 * 64 + 0.27e-9 * 1024))
    assert walk_seconds(Costs(), 100, 1024, 1024) == pytest.approx(100 * 4e-9 * 1024)
    assert [is_worth_shortening(ladders[size], 64, 1024) for size in (96, 384, 512)] == [True, True, True]
    assert [is_worth_shortening(ladders[size], 64, 192) for size in (96, 256, 384)] == [True, True, False]
    assert not is_worth_shortening((0.99,) * len(LADDER), 64, 1024)  # a sample errs: that may be less


def test_a_graph_that_finds_all_needs_the_shortest_walk() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((300, 16)).astype(np.float32)
    assert ladder_of(Exact(vectors, "cosine"), vectors, "cosine") == (1.0,) * len(LADDER)


def test_sureness_is_that_of_the_normal_distribution() -> None:
    assert sureness(0.99) == pytest.approx(2.3263, abs=1e-4)
    assert sureness(0.3) == 0.0


def test_this_machine_is_measured_once() -> None:
    found = measured()
    assert found is measured()
    assert all(0 < value < 1 for value in found[:-1])
    assert found.small == Costs().small
