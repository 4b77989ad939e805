"""How far a Python program can go: the leanest one that keeps a row's promise, beside T4DX and the peer.

A target that even this program misses cannot be met from Python; one that it meets tells what T4DX's further
promises cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from experiments.bench import measure
from experiments.storage_bench.groups import Result, Setting, agree, copies, same_answers, timed
from experiments.storage_bench.leanest import Kernel, Leanest
from experiments.storage_bench.targets import TARGETS, Target

ROWS: Final = (
    "insert_sync",
    "insert_nosync",
    "update_sync",
    "update_nosync",
    "bulk_update",
    "get",
    "two_hops",
    "edge_update_nosync",
)
BARE: Final = ("insert_sync", "update_sync")
"""Rows in which most of the time may be the kernel's: it is measured by itself as well."""


def floors(setting: Setting) -> Result:
    """Times of T4DX, of the named peer and of the leanest program in each of `ROWS`, interleaved."""
    rows, missing, seen = list[Result](), list[dict[str, Any]](), dict[str, dict[str, Any]]()
    for target in (target for target in TARGETS if target.bench in ROWS):
        row, absent = _row(target, setting)
        missing += [entry for entry in absent if entry not in missing]
        if row is not None:
            rows.append(row)
            seen |= {label: {} for label in row["systems"]}
    return {"systems": seen, "missing": missing, "floors": rows}


def _row(target: Target, setting: Setting) -> tuple[Result | None, list[dict[str, Any]]]:
    """One row, None where T4DX is not there to be compared with; what else is not there."""
    stores, absent = copies((target.ours, target.against), setting)
    missing = [entry._asdict() for entry in absent]
    if target.ours not in stores:
        return None, missing
    name, mode, folder = target.bench, target.ours.partition(" ")[2], setting.scratch / "leanest"
    leanest, kernel = Leanest(f"leanest {mode}", mode), Kernel(f"kernel {mode}", mode)
    leanest.open(folder, setting.data)
    kernel.open(setting.scratch / "kernel", setting.data)
    stores[leanest.label] = leanest
    bare = {kernel.label: kernel} if name in BARE else {}
    try:
        times = timed(name, {**stores, **bare}, setting)
        same_answers(name, stores, setting)
        _check(leanest, folder, setting)
        if bare:
            agree(kernel.label, "its last bytes", kernel.is_written(), True)
    finally:
        for store in (*stores.values(), kernel):
            store.close()
    durability = {label: store.durability for label, store in {**stores, **bare}.items()}
    systems = {
        label: {**measure.summary(rounds), "durability": durability[label]} for label, rounds in times.items()
    }
    return {"operation": name, "systems": systems}, missing


def _check(store: Leanest, folder: Path, setting: Setting) -> None:
    """Raise where the files do not hold all that was written."""
    again = Leanest(store.label, store.mode)
    again.open(folder, setting.data)
    try:
        agree(store.label, "a reopening as before it", again.state() == store.state(), True)
    finally:
        again.close()
