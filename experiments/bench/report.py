"""What both pages are made of: Markdown tables, figures in three digits, and the one file of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

QUIET: Final = 0.25  # cores that others may use before figures are called loaded

Row = Mapping[str, Any]


def store(rows: Sequence[Row], file: Path, *, mine: Callable[[Row], bool], first: bool) -> None:
    """Put one wing's rows into the file, where its old ones stood, and leave the others' as they are.

    Args:
        rows: all rows of the wing, which replace those for which `mine` is true.
        file: `{"rows": [...]}`, made when missing.
        mine: whether a stored row belongs to the wing.
        first: whether they stand before all others where there were none.
    """
    stored = json.loads(file.read_text())["rows"] if file.exists() else []
    others = [row for row in stored if not mine(row)]
    old = next((place for place, row in enumerate(stored) if mine(row)), 0 if first else len(stored))
    both = [*others[:old], *rows, *others[old:]]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"rows": both}, indent=1) + "\n")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def short(number: float | None) -> str:
    """Three digits; "-" where there is no figure."""
    return (
        "-" if number is None else np.format_float_positional(number, precision=3, fractional=False, trim="-")
    )


def versions(stored: Sequence[Row]) -> str:
    """All packages of all groups in one line."""
    found: dict[str, str] = {}
    for entry in stored:
        found |= entry["versions"]
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def under_load(stored: Sequence[Row]) -> list[str]:
    """A warning where other processes were at work while figures were taken."""
    busy = max((entry["others"] for entry in stored), default=0.0)
    if busy <= QUIET:
        return []
    return [
        f"**Taken under load**: other processes kept up to {busy:.1f} cores busy meanwhile. Ratios are",
        "provisional, milliseconds are not to be quoted.",
        "",
    ]


def calibration(stored: Sequence[Row]) -> list[str]:
    """How fast the machine itself was around each group."""
    heads = ["group", "10K x 1024 product", "Python loop", "append + fdatasync", "cores used by others"]
    names = ("matvec10K_ms", "python_loop_ms", "append_fdatasync_ms")
    rows = [
        [
            group["name"],
            *(" / ".join(short(side[name]) for side in group["calibration"]) for name in names),
            f"{group['others']:.1f}",
        ]
        for group in stored
    ]
    head = ["## Calibration", "", "p50 in milliseconds, just before and after each group.", ""]
    return head + table(heads, rows)
