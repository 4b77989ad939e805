"""From the results of `floors` to rows of the JSON, and to the page's table of how far Python can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from experiments.bench.measure import ratio
from experiments.bench.report import short, table
from experiments.storage_bench.targets import TARGETS, Target

PREFIX: Final = "floor_"
HEADS: Final = (
    "operation",
    "peer",
    "T4DX",
    "leanest program",
    "kernel alone",
    "T4DX / peer",
    "leanest / peer",
    "kernel / peer",
    "T4DX / leanest",
    "wanted",
    "",
)
MET: Final = "met"
WITHIN: Final = "missed by T4DX alone"
BEYOND_PYTHON: Final = "**missed even by the leanest program**"
BEYOND_ALL: Final = "**missed even by the kernel alone**"
ABOUT: Final = (
    "The leanest Python program that still keeps the promise of a row, in turns with T4DX and the named",
    "peer: it checks what comes in, packs it, logs it with a checksum in a file that is allocated ahead",
    "(with an fdatasync where the row is synced), then changes a dict or a column; a get finds a dict entry,",
    "unpacks the text and copies the vector from a mapped file; 2 hops join dicts. It is opened anew",
    "afterwards and must hold all that was written. It has no versions and no past, no snapshots, no flush",
    "and no merge: T4DX / leanest is what those cost, with what T4DX could still save. *Kernel alone* writes",
    "and syncs as many bytes in the same way and does nothing else. A target that the leanest program misses",
    "cannot be met from Python; one that the kernel misses, by no program that logs in this way.",
)


class Floor(NamedTuple):
    """One row: the figures {system: {p50, rounds_p50, ...}} of the four, None for what was not measured."""

    target: Target
    ours: Mapping[str, Any]
    peer: Mapping[str, Any] | None
    leanest: Mapping[str, Any]
    kernel: Mapping[str, Any] | None

    def over_peer(self, figure: Mapping[str, Any] | None) -> float | None:
        """A system's time over the peer's, the median over rounds."""
        if figure is None or self.peer is None:
            return None
        return ratio(figure["rounds_p50"], self.peer["rounds_p50"])

    def verdict(self) -> str:
        """Who misses the target; empty where there is no peer."""
        wanted = self.target.at_most or 0.0
        reached = [self.over_peer(figure) for figure in (self.ours, self.kernel, self.leanest)]
        if reached[0] is None:
            return ""
        if reached[0] <= wanted:
            return MET
        if reached[1] is not None and reached[1] > wanted:
            return BEYOND_ALL
        return BEYOND_PYTHON if reached[2] is not None and reached[2] > wanted else WITHIN


def floors_of(stored: Mapping[str, Any]) -> list[Floor]:
    """What a stored result holds, in the order of the targets."""
    found = []
    for row in stored.get("floors", ()):
        target = next(target for target in TARGETS if target.bench == row["operation"])
        systems = {label.partition(" ")[0]: figure for label, figure in row["systems"].items()}
        peer = row["systems"].get(target.against)
        found.append(Floor(target, systems["t4dx"], peer, systems["leanest"], systems.get("kernel")))
    return found


def rows_of(stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the JSON: `ratio` is T4DX over the system (its own row: over the peer), `over_peer` the system
    over the peer, and `met` whether that would meet the target.
    """
    return [
        _row(floor, label, figure, entry)
        for entry in stored
        for floor, row in zip(floors_of(entry), entry.get("floors", ()), strict=True)
        for label, figure in row["systems"].items()
    ]


def _row(floor: Floor, label: str, figure: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    target, ours, over = floor.target, figure is floor.ours, floor.over_peer(figure)
    judged = label != target.against and over is not None and target.at_most is not None
    kept = ("p50", "p99", "rounds", "calls", "durability")
    return {
        "bench": PREFIX + target.bench,
        "system": label,
        "metric": "p50 ms",
        "value": figure["p50"],
        "ratio": over if ours else ratio(floor.ours["rounds_p50"], figure["rounds_p50"]),
        "over_peer": over,
        "target": f"<= {target.at_most:.4g}" if judged else None,
        "met": over <= target.at_most if judged else None,
        "against": target.against if over is not None else None,
        **{name: figure[name] for name in kept if name in figure},
        **{name: entry[name] for name in ("machine", "versions", "command", "when")},
        "loaded_by_others": entry["others"],
    }


def lines_of(stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section of the page; nothing where nothing was measured."""
    floors = [floor for entry in stored for floor in floors_of(entry)]
    if not floors:
        return []
    head = ["", "## How far a Python program can go", "", *ABOUT, "", *_summary(floors), ""]
    return [*head, *table(HEADS, [_line(floor) for floor in floors])]


def _summary(floors: Sequence[Floor]) -> list[str]:
    verdicts = [verdict for floor in floors if (verdict := floor.verdict())]
    missed = [verdict for verdict in verdicts if verdict != MET]
    beyond = [verdict for verdict in missed if verdict != WITHIN]
    kernel = sum(verdict == BEYOND_ALL for verdict in beyond)
    return [
        f"Of {len(verdicts)} targets T4DX misses {len(missed)} here; the leanest program misses "
        f"{len(beyond)} of these as well, {kernel} of them by the kernel's time alone."
    ]


def _line(floor: Floor) -> list[str]:
    target, lean = floor.target, ratio(floor.ours["rounds_p50"], floor.leanest["rounds_p50"])
    return [
        target.title,
        target.against if floor.peer is None else f"{target.against}: {_ms(floor.peer)}",
        _ms(floor.ours),
        _ms(floor.leanest),
        _ms(floor.kernel),
        *(short(floor.over_peer(figure)) for figure in (floor.ours, floor.leanest, floor.kernel)),
        short(lean),
        target.wish,
        floor.verdict() or "not measured",
    ]


def _ms(figure: Mapping[str, Any] | None) -> str:
    return "-" if figure is None else f"{short(figure['p50'])} ms"
