"""What the nights did: counts for each, and samples of what was replayed, clustered and pruned."""

from __future__ import annotations

from t4dm.viz.night import COUNTS, Cluster, Night, Sample, read_nights
from t4dm.viz.panel import Fold, Panel, Table
from t4dm.viz.run_folder import RunFolder
from t4dm.viz.text import NONE, number, seconds, size

OPEN_UP_TO = 1
LONGEST = 220
HEADS = ("Night", *COUNTS.values(), "Items", "Store size", "Time")


def build(run: RunFolder) -> Panel:
    """One row per night; one fold per night with its samples, the last one open."""
    nights = read_nights(run.nights)
    if not nights:
        return Panel("nights", "Nights", missing=("No night of sleep was recorded.",))
    rows = tuple(_row(night) for night in nights)
    table = Table(HEADS, rows, "What each night of sleep did to the store.", frozenset(range(1, len(HEADS))))
    folds = tuple(_fold(night, open=night.number > len(nights) - OPEN_UP_TO) for night in nights)
    return Panel("nights", "Nights", tables=(table,), folds=folds)


def _row(night: Night) -> tuple[str, ...]:
    return (
        str(night.number),
        *(number(count) for count in night.counts.values()),
        _change(*(number(value) for value in night.items)),
        _change(*(size(value) for value in night.bytes)),
        seconds(night.seconds),
    )


def _change(before: str, after: str) -> str:
    return NONE if before == after == NONE else f"{before} → {after}"


def _fold(night: Night, *, open: bool) -> Fold:
    tables = (
        _sample_table("Replayed (sample)", night.replayed),
        _cluster_table(night.clusters),
        _sample_table("Pruned (sample)", night.pruned),
        *([_sample_table("Superseded (sample)", night.superseded)] if night.superseded else []),
    )
    return Fold(f"Night {night.number}: what was replayed, clustered and pruned", tables, open=open)


def _sample_table(caption: str, samples: tuple[Sample, ...]) -> Table:
    if not samples:
        return Table((), (), f"{caption}: nothing recorded.")
    if not any(sample.note for sample in samples):
        return Table(("Content",), tuple((_cut(sample.content),) for sample in samples), caption)
    rows = tuple((_cut(sample.content), sample.note) for sample in samples)
    return Table(("Content", "Figures"), rows, caption)


def _cluster_table(clusters: tuple[Cluster, ...]) -> Table:
    caption = "Clustered (sample)"
    if not clusters:
        return Table((), (), f"{caption}: nothing recorded.")
    rows = tuple((_cut(c.prototype) or NONE, _cut(" · ".join(c.members)), number(c.size)) for c in clusters)
    return Table(("Prototype", "Made from", "Members"), rows, caption, frozenset({2}))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\u2026"
