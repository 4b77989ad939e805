"""metrics.csv as columns. Rows log different things at different steps, so most cells are empty."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST = 1e100  # what lies beyond overflows as soon as an axis is laid out
Column = NDArray[np.float64]


class Series(NamedTuple):
    """The finite points of one metric. `x` is the optimiser step, or the row where no step was logged."""

    name: str
    x: Column
    y: Column


class Metrics(NamedTuple):
    """Columns by name, all `[rows]`, NaN where a row logged nothing."""

    columns: Mapping[str, Column]
    rows: int

    def series(self, *names: str) -> Series | None:
        """The first of `names` that has a finite value, or None."""
        steps = self.columns.get("step", np.full(self.rows, np.nan))
        steps = np.where(np.isfinite(steps), steps, np.arange(self.rows))
        for name in names:
            values = self.columns.get(name)
            if values is not None and np.isfinite(values).any():
                kept = np.isfinite(values)
                return Series(name, steps[kept], values[kept])
        return None


EMPTY = Metrics({}, 0)


def read_metrics(path: Path) -> Metrics:
    """Reads the file; cells that are no number are NaN, and a last line cut short is padded."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(line.replace("\0", "") for line in file))
    if not rows:
        return EMPTY
    header, body = rows[0], [row for row in rows[1:] if row]
    columns = {
        name: np.array(
            [_number(row[index]) if index < len(row) else np.nan for row in body], dtype=np.float64
        )
        for index, name in enumerate(header)
    }
    return Metrics(columns, len(body))


def smoothed(values: Column, *, window: int) -> Column:
    """A centred moving mean `[n] -> [n]`; at the ends the window shrinks, so nothing is invented."""
    if window <= 1 or values.size == 0:
        return values
    half = window // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    start = np.clip(np.arange(values.size) - half, 0, None)
    stop = np.clip(np.arange(values.size) + half + 1, None, values.size)
    mean: Column = (total[stop] - total[start]) / (stop - start)
    return mean


def thinned(series: Series, *, most: int) -> Series:
    """At most `most` points, evenly chosen, first and last kept."""
    if series.x.size <= most:
        return series
    kept = np.unique(np.linspace(0, series.x.size - 1, most).astype(int))
    return Series(series.name, series.x[kept], series.y[kept])


def _number(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        return np.nan
    return number if abs(number) < LARGEST else np.nan
