"""One night as the report shows it, read from a line of nights.jsonl."""

from __future__ import annotations

from typing import NamedTuple

from t4dm.viz.run_folder import Json, figure, figures, mapping


class Sample(NamedTuple):
    """A memory that a night touched: its words and what is known beside them, already as text."""

    content: str
    note: str


class Cluster(NamedTuple):
    """A prototype and the memories it was made from."""

    prototype: str
    members: tuple[str, ...]


class Night(NamedTuple):
    """Counts, before and after, and samples. A figure that was not recorded is None."""

    number: int
    counts: dict[str, float | None]
    items: tuple[float | None, float | None]
    bytes: tuple[float | None, float | None]
    mean_kappa: tuple[float | None, float | None]
    kappa_before: list[float]
    kappa_after: list[float]
    seconds: float | None
    replayed: tuple[Sample, ...]
    clusters: tuple[Cluster, ...]
    pruned: tuple[Sample, ...]


COUNTS = ("replayed", "prototypes", "merged", "pruned", "edges_strengthened")


def read_night(index: int, line: Json) -> Night:
    """Reads one line; counts stand at the top or under `counts`, pairs flat or as before/after objects."""
    counts = mapping(line.get("counts"))
    return Night(
        number=index,
        counts={name: figure(counts.get(name, line.get(name))) for name in COUNTS},
        items=_pair(line, "items"),
        bytes=_pair(line, "bytes"),
        mean_kappa=_pair(line, "mean_kappa"),
        kappa_before=_histogram(line, "before"),
        kappa_after=_histogram(line, "after"),
        seconds=figure(line.get("seconds")),
        replayed=_samples(line, "replayed"),
        clusters=tuple(_cluster(entry) for entry in _listed(line, "clusters", "cluster_samples")),
        pruned=_samples(line, "pruned"),
    )


def _pair(line: Json, name: str) -> tuple[float | None, float | None]:
    inner = mapping(line.get(name))
    before = inner.get("before", line.get(f"{name}_before"))
    after = inner.get("after", line.get(f"{name}_after"))
    return figure(before), figure(after)


def _histogram(line: Json, when: str) -> list[float]:
    nested = mapping(line.get("kappa"))
    return figures(line.get(f"kappa_{when}", nested.get(when, line.get(f"kappa_hist_{when}"))))


def _listed(line: Json, *names: str) -> list[object]:
    return next((line[name] for name in names if isinstance(line.get(name), list)), [])


def _samples(line: Json, name: str) -> tuple[Sample, ...]:
    entries = _listed(line, f"{name}_samples", f"{name}_sample", f"{name}_contents", name)
    return tuple(_sample(entry) for entry in entries)


def _sample(entry: object) -> Sample:
    if not isinstance(entry, dict):
        return Sample(str(entry), "")
    content = str(entry.get("content", entry.get("id", "")))
    rest = [f"{key} {_short(value)}" for key, value in entry.items() if key not in ("content", "id")]
    return Sample(content, ", ".join(rest))


def _cluster(entry: object) -> Cluster:
    if isinstance(entry, list):
        return Cluster("", tuple(_sample(member).content for member in entry))
    inner = mapping(entry)
    prototype = inner.get("prototype", inner.get("content", inner.get("id", "")))
    members = inner.get("members", inner.get("contents", []))
    return Cluster(
        _sample(prototype).content,
        tuple(_sample(member).content for member in members) if isinstance(members, list) else (),
    )


def _short(value: object) -> str:
    number = figure(value)
    return f"{number:.3g}" if number is not None else str(value)
