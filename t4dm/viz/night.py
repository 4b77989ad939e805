"""One night as the report shows it, read from a line of nights.jsonl."""

from __future__ import annotations

from typing import NamedTuple

from t4dm.viz.run_folder import Json, figure, figures, mapping

COUNTS = {
    "replayed": "Replayed",
    "prototypes": "Prototypes",
    "merged": "Merged",
    "pruned": "Pruned",
    "superseded": "Superseded",
    "edges_strengthened": "Edges strengthened",
}


class Sample(NamedTuple):
    """A memory that a night touched: its words, and what is known beside them as text."""

    content: str
    note: str


class Cluster(NamedTuple):
    """A prototype, the first of the memories it was made from, and how many they were."""

    prototype: str
    members: tuple[str, ...]
    size: int


class Night(NamedTuple):
    """Counts, figures before and after, and samples. A figure that was not recorded is None.

    `kappa_before` and `kappa_after` count items in equal bins over [0, 1]; empty where not recorded.
    """

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
    superseded: tuple[Sample, ...]


def read_night(number: int, line: Json) -> Night:
    """Reads one line; `number` counts nights from 1."""
    return Night(
        number=number,
        counts={name: figure(line.get(name)) for name in COUNTS},
        items=_pair(line, "items"),
        bytes=_pair(line, "bytes"),
        mean_kappa=_pair(line, "mean_kappa"),
        kappa_before=figures(line.get("kappa_before")),
        kappa_after=figures(line.get("kappa_after")),
        seconds=figure(line.get("seconds")),
        replayed=_samples(line, "replayed"),
        clusters=tuple(_cluster(mapping(entry)) for entry in _entries(line.get("cluster_samples"))),
        pruned=_samples(line, "pruned"),
        superseded=_samples(line, "superseded"),
    )


def read_nights(lines: tuple[Json, ...]) -> list[Night]:
    """All nights of a run, numbered from 1."""
    return [read_night(number, line) for number, line in enumerate(lines, start=1)]


def _pair(line: Json, name: str) -> tuple[float | None, float | None]:
    return figure(line.get(f"{name}_before")), figure(line.get(f"{name}_after"))


def _entries(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _samples(line: Json, name: str) -> tuple[Sample, ...]:
    return tuple(_sample(entry) for entry in _entries(line.get(f"{name}_samples")))


def _sample(entry: object) -> Sample:
    if not isinstance(entry, dict):
        return Sample(str(entry), "")
    notes = [f"{key} {_short(value)}" for key, value in entry.items() if key not in ("content", "id")]
    return Sample(str(entry.get("content") or entry.get("id") or ""), ", ".join(notes))


def _cluster(entry: Json) -> Cluster:
    members = tuple(_sample(member).content for member in _entries(entry.get("members")))
    size = figure(entry.get("size"))
    return Cluster(_sample(entry).content, members, int(size) if size is not None else len(members))


def _short(value: object) -> str:
    number = figure(value)
    return f"{number:.3g}" if number is not None else str(value)
