"""From the results of `floors` and `search_floors` to rows of the JSON, and to the page's tables of how far
Python can go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from experiments.bench.measure import ratio
from experiments.bench.report import short, table
from experiments.storage_bench.targets import TARGETS, Target

PREFIX: Final = "floor_"
LEANEST: Final = "leanest"
MET: Final = "met"
WITHIN: Final = "missed by T4DX alone"
BEYOND_PYTHON: Final = "**missed even by the leanest program**"
BEYOND_GRAPH: Final = "**missed even by the leanest program**, met over a short graph"
SHORTENED: Final = "shortened"
Figure = Mapping[str, Any]
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
ABOUT_SEARCHES: Final = (
    "The leanest Python program that finds 99 % as well, in turns with T4DX and the named peer, each with",
    "the least effort that is enough; beside a time stands the recall. It checks the shape of the query and",
    "nothing else, has no store, no versions and no deletes, and answers with ids. *Plain*: a walk of faiss",
    "through its HNSW graph over 8-bit codes (16 links, as in T4DX), then float32 products with the 20 rows",
    "that it proposes, read by faiss where they lie in a mapped file. *Filters*: up to 256 rows that pass",
    "are found in the order of the column, and products of all of them taken; up to 15,000, their 1-bit",
    "codes are gathered and compared by faiss, and the nearest of those once more as float32; of more, a",
    "look at the whole column makes a bitmap for the walk. *Unmerged segments*: the walk among the indexed",
    "rows, the 1-bit codes of all later ones, made when those came, and products with the best of both; the",
    "peer has the indexed rows alone. *Batch*: faiss shares 256 queries out to its own threads, the walks",
    "and the products. *faiss alone* is the largest of these calls with nothing before and behind it, at the",
    "effort of the leanest program: the walk (beside fresh rows as well), the comparison of codes, or the",
    "products. *Shortened* is the same program over a graph of the first 64 principal coordinates (half of",
    "them where there are fewer than 128), of which it compares as many rows as the walk keeps; with its",
    "walk the plain search, the wide filter, the fresh rows and the batch change. The easy vectors lie near",
    "64 dimensions by construction, others need not. A target that the leanest program misses cannot be met",
    "from Python over this graph; one that faiss alone misses, by no program around it; a short graph may.",
)


class Section(NamedTuple):
    """One table of the page: the key of its rows in a result, the label of what runs alone, and words."""

    key: str
    alone: str
    title: str
    beyond: str
    whose: str
    heading: str
    about: tuple[str, ...]


STORAGE: Final = Section(
    key="floors",
    alone="kernel",
    title="kernel alone",
    beyond="**missed even by the kernel alone**",
    whose="the kernel's time alone",
    heading="How far a Python program can go",
    about=ABOUT,
)
SEARCHES: Final = Section(
    key="search_floors",
    alone="faiss alone",
    title="faiss alone",
    beyond="**missed even by faiss alone**",
    whose="the time of faiss alone",
    heading="How far a search from Python can go",
    about=ABOUT_SEARCHES,
)
SECTIONS: Final = (STORAGE, SEARCHES)


class Floor(NamedTuple):
    """One row: the figures {label: {p50, rounds_p50, ...}} of T4DX, its peer, the leanest program and what
    runs alone; who was not measured is not there.
    """

    target: Target
    systems: Mapping[str, Figure]
    section: Section = STORAGE

    def figure(self, name: str = "t4dx") -> Figure | None:
        """What stands in for T4DX."""
        return self.systems.get(self.target.rivals(name)[0])

    def over_peer(self, name: str = "t4dx") -> float | None:
        """Its time over that of its peer, the median over rounds."""
        figure, peer = map(self.systems.get, self.target.rivals(name))
        if figure is None or peer is None:
            return None
        return ratio(figure["rounds_p50"], peer["rounds_p50"])

    def over(self, figure: Figure | None) -> float | None:
        """The time of T4DX over another."""
        ours = self.figure()
        if figure is None or ours is None:
            return None
        return ratio(ours["rounds_p50"], figure["rounds_p50"])

    def misses(self, name: str = "t4dx") -> bool:
        """Whether it was measured and is slower than the target."""
        over = self.over_peer(name)
        return over is not None and over > (self.target.at_most or 0.0)

    def judged(self) -> bool:
        """Whether it can be told who misses the target."""
        known = self.over_peer() is not None
        return known and (not self.misses() or self.over_peer(LEANEST) is not None)

    def verdict(self) -> str:
        """Who misses the target; empty where that cannot be told."""
        if not self.judged():
            return ""
        if not self.misses():
            return MET
        if not self.misses(LEANEST):
            return WITHIN
        if self.over_peer(SHORTENED) is not None and not self.misses(SHORTENED):
            return BEYOND_GRAPH
        return self.section.beyond if self.misses(self.section.alone) else BEYOND_PYTHON


def floors_of(stored: Mapping[str, Any]) -> list[Floor]:
    """What a stored result holds, in the order of the targets."""
    return [
        Floor(next(target for target in TARGETS if target.bench == row["operation"]), row["systems"], section)
        for section in SECTIONS
        for row in stored.get(section.key, ())
    ]


def rows_of(stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the JSON: `ratio` is T4DX over the system (its own row: over the peer), `over_peer` the system
    over its peer, and `met` whether that would meet the target.
    """
    return [
        _row(floor, label, entry) for entry in stored for floor in floors_of(entry) for label in floor.systems
    ]


def _row(floor: Floor, label: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    target, figure = floor.target, floor.systems[label]
    rivals = [target.rivals(name) for name in ("t4dx", LEANEST, floor.section.alone, SHORTENED)]
    peer = next((peer for own, peer in rivals if own == label), label)
    peers = floor.systems.get(peer)
    over = None if peers is None else ratio(figure["rounds_p50"], peers["rounds_p50"])
    wanted = None if label == peer or over is None else target.at_most
    kept = ("p50", "p99", "rounds", "calls", "durability", "recall", "effort")
    return {
        "bench": PREFIX + target.bench,
        "system": label,
        "metric": "p50 ms",
        "value": figure["p50"],
        "ratio": over if label == target.ours else floor.over(figure),
        "over_peer": over,
        "target": None if wanted is None else f"<= {wanted:.4g}",
        "met": None if wanted is None or over is None else over <= wanted,
        "against": peer if over is not None else None,
        **{name: figure[name] for name in kept if name in figure},
        **{name: entry[name] for name in ("machine", "versions", "command", "when")},
        "loaded_by_others": entry["others"],
    }


def lines_of(stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sections of the page; nothing where nothing was measured."""
    floors = [floor for entry in stored for floor in floors_of(entry)]
    lines: list[str] = []
    for section in SECTIONS:
        if own := [floor for floor in floors if floor.section is section]:
            head = ["", f"## {section.heading}", "", *section.about, "", _summary(own, section), ""]
            lines += [*head, *table(_heads(section), [_line(floor) for floor in own])]
    return lines


def _columns(section: Section) -> dict[str, str]:
    """Who has a column, with its title; the ratios are under the first words."""
    lean = {"t4dx": "T4DX", LEANEST: "leanest program"}
    short = {SHORTENED: "shortened"} if section is SEARCHES else {}
    return {**lean, **short, section.alone: section.title}


def _heads(section: Section) -> list[str]:
    titles = _columns(section).values()
    over = [f"{title.partition(' ')[0]} / peer" for title in titles]
    return ["operation", "peer", *titles, *over, "T4DX / leanest", "wanted", ""]


def _summary(floors: Sequence[Floor], section: Section) -> str:
    known = [floor for floor in floors if floor.judged()]
    missed = [floor for floor in known if floor.misses()]
    beyond = [floor for floor in missed if floor.misses(LEANEST)]
    alone = sum(floor.misses(section.alone) for floor in beyond)
    met = sum(floor.verdict() == BEYOND_GRAPH for floor in beyond)
    return (
        f"Of {len(known)} targets T4DX misses {len(missed)} here; the leanest program misses "
        f"{len(beyond)} of these as well, {alone} of them by {section.whose}"
        + (f"; shortened it meets {met} of them." if section is SEARCHES else ".")
    )


def _line(floor: Floor) -> list[str]:
    target, shown = floor.target, _columns(floor.section)
    peer = floor.systems.get(target.against)
    return [
        target.title,
        target.against if peer is None else f"{target.against}: {_ms(peer)}",
        *(_ms(floor.figure(name)) for name in shown),
        *(short(floor.over_peer(name)) for name in shown),
        short(floor.over(floor.figure(LEANEST))),
        target.wish,
        floor.verdict() or "not measured",
    ]


def _ms(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{short(figure['p50'])} ms" + (f" at {figure['recall']:.3f}" if "recall" in figure else "")
