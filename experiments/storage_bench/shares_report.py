"""From the results of `shares` and `search_shares` to rows of the JSON, and to the page's tables of where the
time of a call goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from experiments.bench.report import short, table

PREFIX: Final = "share_"
ABOUT: Final = (
    "Microseconds of T4DX in each part of the engine, from a profile scaled to the time without it:",
    "*checks* of what came in, the *log* record (packing, checksums, buffers), the *lookup* of ids, the",
    "*state* that changes or is read, the *engine* around them, the *flush* that builds a segment, the",
    "*kernel* (write, fdatasync, locks), and the *rest* (the benchmark's own call). A Python function costs",
    "some 0.1 us to call: where they are many and the kernel takes little, a row is bound by the",
    "interpreter, while the peer runs compiled code. The bulk rows are per item; the load flushes in the",
    "thread that writes here, so that the profile sees it.",
)
ABOUT_SEARCHES: Final = (
    "Microseconds of T4DX in each part of a search, per query, at the effort that its row is judged at, from",
    "a profile scaled to the time without it: *checks* of what came in, the *planner* that chooses a way and",
    "tells it, the *filter* (columns, what is visible, bitmaps), the 1-bit *codes*, the *bindings* (Python",
    "and SWIG around faiss), the *walk* (compiled code of faiss in the graph), *vectors* that are fetched,",
    "*scores* (products and exact scores; vectors that are gathered within them too), the *answer* (the best",
    "so far, their order, ids), and the *rest* (the benchmark's own call). What numpy takes counts for its",
    "caller. The batch is asked by one thread, of which a profile alone sees all; of two threads only the",
    "walk and long products run at the same time, the Python functions take turns.",
)


class Section(NamedTuple):
    """One table of the page: the key of its rows in a result, and words."""

    key: str
    heading: str
    first: str
    about: tuple[str, ...]


STORAGE: Final = Section("shares", "Where the time of a call goes", "call, durability", ABOUT)
SEARCHES: Final = Section("search_shares", "Where the time of a search goes", "search", ABOUT_SEARCHES)
SECTIONS: Final = (STORAGE, SEARCHES)


def lines_of(stored: Sequence[Mapping[str, Any]]) -> list[str]:
    """What bounds a call: the profiles behind the rows that miss their target; nothing without one."""
    lines: list[str] = []
    for section in SECTIONS:
        if rows := [row for entry in stored for row in entry.get(section.key, ())]:
            parts = list(rows[0]["parts"])
            heads = [section.first, *parts, "together", "Python functions"]
            table_lines = table(heads, [_line(row, parts) for row in rows])
            lines += ["", f"## {section.heading}", "", *section.about, "", *table_lines]
    return lines


def _line(row: Mapping[str, Any], parts: Sequence[str]) -> list[str]:
    times = [short(row["parts"][part]) for part in parts]
    return [_name(row), *times, short(row["micros"]), f"{row['python_calls']:.0f}"]


def _name(row: Mapping[str, Any]) -> str:
    """With its durability, where it has one."""
    return ", ".join(filter(None, (row["operation"], row["system"].partition(" ")[2])))


def rows_of(stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the JSON: microseconds per call, by part; they have no peer and no target."""
    kept = ("parts", "python_calls", "recall", "effort")
    return [
        {
            "bench": PREFIX + row["operation"],
            "system": row["system"],
            "metric": "us",
            "value": row["micros"],
            "ratio": None,
            "target": None,
            "met": None,
            "against": None,
            **{name: row[name] for name in kept if name in row},
            **{name: entry[name] for name in ("machine", "versions", "command", "when")},
            "loaded_by_others": entry["others"],
        }
        for entry in stored
        for section in SECTIONS
        for row in entry.get(section.key, ())
    ]
