"""Where the figures come from: the run's seed, code, machine and time, and its whole configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from t4dm.viz.panel import Fold, Panel, Table
from t4dm.viz.run_folder import Json, RunFolder, figure, mapping
from t4dm.viz.text import seconds, size

LONG = 160
FIRST = ("status", "command", "seed", "started", "ended", "seconds", "parent", "git", "machine", "versions")


def build_run(run: RunFolder) -> Panel:
    """run.json flattened to rows, then what the run cost."""
    missing = () if run.run else ("run.json is missing: seed, code, versions and machine are unknown.",)
    fields = dict(flattened({**run.run, **_typed(run.run)}))
    ordered = sorted(fields, key=lambda name: (_rank(name), name))
    rows = [
        (name, fields[name]) for name in ordered if len(fields[name]) <= LONG and "\n" not in fields[name]
    ]
    long = [name for name in ordered if len(fields[name]) > LONG or "\n" in fields[name]]
    tables = (Table(("Run", "Value"), tuple(rows)), Table(("Cost", "Value"), _cost(run), "", frozenset({1})))
    return Panel(
        "run",
        "The run",
        tables=tuple(table for table in tables if table.rows),
        folds=tuple(Fold(name, verbatim=fields[name]) for name in long),
        missing=missing,
    )


def build_config(run: RunFolder) -> Panel:
    """config.yaml and overrides.yaml, word for word."""
    folds = [
        Fold(title, verbatim=text)
        for title, text in (("overrides.yaml", run.overrides), ("config.yaml", run.config))
        if text.strip()
    ]
    missing = () if run.config.strip() else ("config.yaml is missing or empty.",)
    lead = "The resolved configuration; the overrides are what was typed." if folds else ""
    return Panel("config", "Configuration", lead, folds=tuple(folds), missing=missing)


def flattened(value: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths and their values as text; lists of plain values stay on one line."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        if any(isinstance(entry, dict | list) for entry in value):
            for index, entry in enumerate(value):
                yield from flattened(entry, f"{prefix}[{index}]")
        else:
            yield prefix, ", ".join(_plain(entry) for entry in value)
    else:
        yield prefix, _plain(value)


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _typed(record: Json) -> Json:
    """The command as it was typed, not as a list of words."""
    words = record.get("command")
    return {"command": shlex.join(str(word) for word in words)} if isinstance(words, list) else {}


def _rank(name: str) -> int:
    head = name.partition(".")[0]
    return FIRST.index(head) if head in FIRST else len(FIRST)


def _cost(run: RunFolder) -> tuple[tuple[str, str], ...]:
    spent: Json = mapping(run.summary.get("seconds"))
    names = {"train": "Training", "sleep": "Sleeping", "evaluate": "Evaluating", "total": "Wall time"}
    rows = [(label, seconds(figure(spent[name]))) for name, label in names.items() if name in spent]
    peak = figure(run.summary.get("peak_memory_mib"))
    rss = run.metrics.series("memory/rss_mib")
    speed = run.metrics.series("time/tokens_per_s")
    if peak is not None:
        rows.append(("Peak memory", size(peak * 2**20)))
    elif rss is not None:
        rows.append(("Largest logged memory", size(float(rss.y.max()) * 2**20)))
    if speed is not None:
        rows.append(("Tokens per second, mean", f"{speed.y.mean():,.0f}".replace(",", "\u202f")))
    return tuple(rows)
