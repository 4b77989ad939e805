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
        "answer is compared to the last bit. Games of 50 operations on 12 or 40 ids; by night also of 2,000 "
        "on 1,000 ids. *Tried* counts operations."
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
        "transaction, no item without its edges, no changed snapshot, no time running back. And short "
        "histories of three or four threads on two or three ids, a reopen at their end: some order of the "
        "calls, in which none comes before one that had returned, must give on a plain dict every answer "
        "that the store gave (linearizability). *Tried* counts looks and calls."
    ),
    "processes": (
        "Readers in other processes open the store while the writer removes files; a second writer and a "
        "fork are refused; the lock of a killed writer is free. *Tried* counts opens."
    ),
    "cycle_once": (
        "A night of consolidation cut at its calls to the disk, and slept again: each kappa raised once, "
        "one prototype, its provenance whole in both directions."
    ),
    "recall": (
        "Recall@10 of the default search against exact, for random, clustered, near-duplicate and "
        "filter-correlated vectors behind filters that let 100, 50, 10, 5, 1, 0.1 and 0.01 % pass; after ten "
        "merges, damage to the graphs, a reopening and 30 % deletions, with three unmerged segments and new "
        "rows; by the costs of a usual machine, and where codes or graphs are cheap. Every answer is min(k, "
        "matches) living rows within the filter with their scores. *Tried* counts queries, *wrong* those of "
        "the 28 cells that stay below 0.99."
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

"""
TITLES = """| test | tried | lost | wrong | seed | seconds | commit | command |
| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |"""


def write(found: list[Row], *, tier: str, folder: Path) -> None:
    """Write both files. `tiers` keeps what each tier found; `rows` has the larger run of each test."""
    path = folder / "reliability.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    tiers = {name: old.get("tiers", {}).get(name, []) for name in ("pr", "nightly")}
    known = {str(row["test"]): row for row in tiers[tier]} | {row.test: entry(row) for row in found}
    tiers[tier] = [known[test] for test in TESTS if test in known]
    largest = {str(row["test"]): row for row in (*tiers["pr"], *tiers["nightly"])}
    rows = [largest[test] for test in TESTS if test in largest]
    made = {"rows": rows, "tiers": tiers, "machine": machine(), "versions": versions()}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n")
    (folder / "reliability.md").write_text(page(tiers))


def entry(row: Row) -> dict[str, object]:
    """One published row."""
    if row.test == "mutants":
        row.extra["killed"] = row.tried - row.wrong
    return row.entry() | {"commit": versions()["commit"]}


def page(tiers: dict[str, list[dict[str, object]]]) -> str:
    """The page."""
    told = [f"- **{name}**: {text}" for name, text in TESTS.items()]
    about = f"On {machine()}; {', '.join(f'{k} {v}' for k, v in versions().items() if k != 'commit')}."
    parts = [about, "", "## By night", "", "`make reliability TIER=nightly`, or `pytest -m nightly`.", ""]
    missing = [name for name in TESTS if name not in {row["test"] for row in tiers["nightly"]}]
    parts += [table(tiers["nightly"])] if tiers["nightly"] else []
    parts += ["", f"Not yet run at this size: {', '.join(missing)}."] if missing else []
    parts += ["", "## At each change", "", "A part of `make test`, and `make reliability`.", ""]
    parts += [table(tiers["pr"])]
    every = [*tiers["nightly"], *tiers["pr"]]
    failures = [f"- {text}" for row in every for text in row.get("failures", ())]  # type: ignore[attr-defined]
    found = ["", "## What was found", "", *failures] if failures else []
    return HEAD + "\n".join([*parts, "", "## What each does", "", *told, *found]).rstrip() + "\n"


def table(rows: list[dict[str, object]]) -> str:
    """Rows as a table, and how many mutants were noticed."""
    columns = ("test", "tried", "lost", "wrong", "seed", "seconds", "commit", "command")
    lines = ["| " + " | ".join(cell(row, name) for name in columns) + " |" for row in rows]
    killed = [f"{row['killed']} of {row['tried']} mutants were noticed." for row in rows if "killed" in row]
    return "\n".join([TITLES, *lines, *(["", *killed] if killed else [])])


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
