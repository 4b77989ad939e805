from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t4dm.viz.metrics import EMPTY, Series, read_metrics, smoothed, thinned


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_series_keeps_only_the_rows_that_logged_it(tmp_path: Path) -> None:
    metrics = read_metrics(written(tmp_path, "step,train/loss,val/loss\n0,3.0,\n5,2.0,\n5,,2.5\n10,nan,\n"))
    train, val = metrics.series("train/loss"), metrics.series("val/loss")
    assert train is not None
    assert val is not None
    assert (train.x.tolist(), train.y.tolist()) == ([0.0, 5.0], [3.0, 2.0])
    assert (val.x.tolist(), val.y.tolist()) == ([5.0], [2.5])


def test_the_first_name_that_was_logged_wins(tmp_path: Path) -> None:
    metrics = read_metrics(written(tmp_path, "step,train/loss,train/loss_step\n0,,3.0\n"))
    series = metrics.series("train/loss", "train/loss_step")
    assert series is not None
    assert series.name == "train/loss_step"
    assert metrics.series("nothing") is None


def test_rows_without_a_step_fall_back_to_their_number(tmp_path: Path) -> None:
    series = read_metrics(written(tmp_path, "train/loss\n3.0\n2.0\n")).series("train/loss")
    assert series is not None
    assert series.x.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("text", ["", "\n", "step,train/loss\n"])
def test_a_file_without_rows_is_empty(tmp_path: Path, text: str) -> None:
    assert read_metrics(written(tmp_path, text)).rows == EMPTY.rows


def test_a_torn_last_line_and_cells_of_text_are_gaps(tmp_path: Path) -> None:
    metrics = read_metrics(written(tmp_path, "step,a,b\n0,1.0,2.0\n1,oops,1e300\n2,3"))
    assert metrics.rows == 3
    a, b = metrics.series("a"), metrics.series("b")
    assert a is not None
    assert b is not None
    assert (a.y.tolist(), b.y.tolist()) == ([1.0, 3.0], [2.0])


def test_the_moving_mean_shrinks_at_the_ends() -> None:
    assert smoothed(np.array([0.0, 3.0, 6.0, 9.0]), window=3).tolist() == [1.5, 3.0, 6.0, 7.5]
    assert smoothed(np.array([1.0, 2.0]), window=1).tolist() == [1.0, 2.0]


def test_thinning_keeps_the_first_and_the_last_point() -> None:
    series = thinned(Series("a", np.arange(1000.0), np.arange(1000.0)), most=10)
    assert series.x.size == 10
    assert (series.x[0], series.x[-1]) == (0.0, 999.0)
