"""docs/reliability.json and docs/reliability.md, from the rows of one run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
from reliability.rows import Row

TESTS = {
    "model_ops": (
        "Random operations on a tiny store and on plain dicts and exact numpy: every write, transactions, "
        "snapshots, questions about the past, flushes, merges, reopened, killed and restored stores. Every "
        "answer is compared to the last bit. *Tried* counts operations."
    ),
    "crash_states": (
        "A power cut at any call to a simulated disk, with all, none or some of the unsynced blocks and "
        "names kept, a lost directory entry, or half a write; one in ten loses power again during the "
        "recovery. The store must be at a state that was, with all that was acknowledged."
    ),
    "kill9": (
        "kill -9 of a real process with four writers and a compaction, at named points around every call to "
        "the disk and at random times. What each writer was told is kept outside of the process."
    ),
    "torn_wal_offsets": (
        "The log cut, zeroed, overwritten with garbage or with an older log, flipped, doubled or missing a "
        "record, at its bytes: the whole records before, or a refusal; nothing synced is dropped in "
        "silence."
    ),
    "bit_flips_per_type": (
        "Bits flipped, bytes cut, zeroed, appended, files swapped, for every type of file: the right "
        "answers, or an error that names the file."
    ),
    "io_errors": (
        "The k-th call to the disk fails (EIO, ENOSPC, half a write; once, or forever), or the k-th call of "
        "a function runs out of memory, for every k until a run passes clean."
    ),
    "concurrency": (
        "One writer, eight readers, flushes and merges, switching threads as often as Python can: no half "
        "transaction, no item without its edges, no changed snapshot, no time running back. *Tried* counts "
        "looks."
    ),
    "processes": (
        "Readers in other processes open the store while the writer removes files; a second writer and a "
        "fork are refused; the lock of a killed writer is free. *Tried* counts opens."
    ),
    "cycle_once": (
        "A night of consolidation cut at its calls to the disk, and slept again: each kappa raised once, "
        "one prototype, its provenance whole in both directions."
    ),
    "upgrade": (
        "Stores of every released format open and answer; a newer format or flag is refused by name."
    ),
    "mutants": (
        "Faults put into the engine on purpose (a missing fsync, a lost tombstone, a forgotten guard): the "
        "other runners must notice each. *Wrong* counts those that lived."
    ),
}
HEAD = """# Reliability

What the storage engine is put through, and what was found. Written by `make reliability`; every row repeats
with its command, and every failure prints the command of the one case that shows it.

| test | tried | lost | wrong | seed | seconds | command |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


def write(found: list[Row], *, tier: str, folder: Path) -> None:
    """Write both files."""
    rows = [entry(row) for row in found]
    made = {"tier": tier, "machine": machine(), "versions": versions(), "rows": rows}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reliability.json").write_text(json.dumps(made, indent=1) + "\n")
    (folder / "reliability.md").write_text(page(rows, tier))


def entry(row: Row) -> dict[str, object]:
    """One published row."""
    if row.test == "mutants":
        row.extra["killed"] = row.tried - row.wrong
    return row.entry()


def page(rows: list[dict[str, object]], tier: str) -> str:
    """The page."""
    columns = ("test", "tried", "lost", "wrong", "seed", "seconds", "command")
    lines = ["| " + " | ".join(cell(row, name) for name in columns) + " |" for row in rows]
    told = [f"- **{row['test']}**: {TESTS[str(row['test'])]}" for row in rows]
    killed = [f"{row['killed']} of {row['tried']} mutants were noticed." for row in rows if "killed" in row]
    about = f"Tier `{tier}`, on {machine()}; {', '.join(f'{k} {v}' for k, v in versions().items())}."
    failures = [f"- {text}" for row in rows for text in row.get("failures", ())]  # type: ignore[attr-defined]
    found = ["## What was found", "", *failures, ""] if failures else []
    body = [*lines, "", about, *killed, "", "## What each does", "", *told, "", *found]
    return HEAD + "\n".join(body).rstrip() + "\n"


def cell(row: dict[str, object], name: str) -> str:
    """One cell of the table."""
    value = row[name]
    if name == "command":
        return f"`{value}`"
    return f"{value:,}" if isinstance(value, int) else str(value)


def machine() -> str:
    """What it ran on."""
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {system}"


def versions() -> dict[str, str]:
    """Of what ran."""
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "t4dm": version("t4dm"),
        "commit": told.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
