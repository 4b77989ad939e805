"""The store: how many memories it holds and how much room they take."""

from __future__ import annotations

import numpy as np

from t4dm.viz.metrics import Series
from t4dm.viz.night import read_nights
from t4dm.viz.over_training import Curve, chart_over_training, night_steps
from t4dm.viz.panel import Figure, Panel, Table
from t4dm.viz.run_folder import RunFolder, figure, mapping
from t4dm.viz.text import number, percent, size

ITEMS = {
    "offered": "Spans offered",
    "written": "Written",
    "stored": "Stored at the end",
    "pruned": "Pruned",
    "prototypes": "Prototypes made",
}


def build(run: RunFolder) -> Panel:
    """Items and bytes over training, the counts of the summary, and the bytes on disk as they are now."""
    figures, missing, nights = [], [], night_steps(run)
    items = run.metrics.series("store/items")
    if items is not None:
        curve = Curve(items, "items", "s-memory")
        svg = chart_over_training(
            [curve],
            y_title="Items in the store",
            name="Items in the store over training",
            nights=nights,
            y_range=(0.0, float(items.y.max()) * 1.08 + 1),
            integers=True,
        )
        figures.append(Figure(svg, "Items in the store; each night clusters and forgets."))
    else:
        missing.append("metrics.csv has no store/items.")
    room = run.metrics.series("store/bytes") or _bytes_at_nights(run, nights)
    if room is not None:
        mib = Curve(Series(room.name, room.x, room.y / 2**20), "bytes", "s-memory")
        svg = chart_over_training(
            [mib],
            y_title="Store on disk (MiB)",
            name="Size of the store over training",
            nights=nights,
            y_range=(0.0, float(mib.series.y.max()) * 1.08 + 1e-3),
        )
        figures.append(Figure(svg, "Size of the store on disk."))
    else:
        missing.append("Neither metrics.csv nor nights.jsonl has the size of the store over time.")
    rows = _rows(run)
    tables = (Table(("The store", "Value"), rows, "", frozenset({1})),) if rows else ()
    return Panel("store", "The store", figures=tuple(figures), tables=tables, missing=tuple(missing))


def _bytes_at_nights(run: RunFolder, nights: list[float]) -> Series | None:
    """Two points a night, before and after, where the nights' steps are known."""
    if len(nights) != len(run.nights):
        return None
    points = [
        (step, value)
        for step, night in zip(nights, read_nights(run.nights), strict=True)
        for value in night.bytes
        if value is not None
    ]
    if not points:
        return None
    return Series("bytes", np.array([p[0] for p in points]), np.array([p[1] for p in points]))


def _rows(run: RunFolder) -> tuple[tuple[str, str], ...]:
    items, kappa = mapping(run.summary.get("items")), mapping(run.summary.get("kappa"))
    rows = [(label, number(figure(items[name]))) for name, label in ITEMS.items() if name in items]
    if figure(kappa.get("mean")) is not None:
        rows.append(("Mean kappa at the end", number(figure(kappa["mean"]))))
    if figure(run.summary.get("write_rate")) is not None:
        rows.append(("Write rate", percent(figure(run.summary["write_rate"]), 1)))
    if run.store_bytes is not None:
        rows.append(("On disk now", size(run.store_bytes)))
    return tuple(rows)
