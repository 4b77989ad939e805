"""Where the time of a call goes, by part of the engine: what bounds the rows that miss their target.

The profiler slows every Python call, so its figures only give the shares; they are scaled to the time of the
same loop without it.
"""

from __future__ import annotations

import cProfile
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from pstats import Stats
from typing import Any, Final, NamedTuple

from experiments.storage_bench.groups import Result, Setting, copies
from experiments.storage_bench.profiles import operations
from experiments.storage_bench.systems.t4dx_system import item_of
from t4dm.t4dx import T4DX, Options

OPERATIONS: Final = {
    "t4dx sync": ("insert", "update"),
    "t4dx os": ("insert", "update", "bump", "get", "two_hops", "bulk_update"),
}
PARTS: Final = {
    "checks": ("door", "checks", "writes", "operators", "registry"),
    "log": ("journal", "logfile", "wal", "ops", "parts", "fs", "seal"),
    "lookup": ("segment", "blobs", "sources", "locating", "adjacency"),
    "state": ("state", "tables", "columns", "memtable", "rules", "undo"),
    "engine": ("engine", "upkeep", "item_reads", "edge_reads", "walks", "types"),
    "flush": ("flush", "building", "deltas", "files", "zone_maps", "manifest", "facets"),
}
SOURCES: Final = "t4dx"
"""The folder of the engine."""
KERNEL: Final = ("pwrite", "fdatasync", "fsync", "fallocate", "acquire")
CALLS: Final = 1000
LOADED: Final = 20_000
_BATCH: Final = 1000


class Split(NamedTuple):
    """Into which parts time is split, and to which one a function belongs by its file ("~" for one that is
    built in) and its name: "" for what counts for its callers.
    """

    names: tuple[str, ...]
    part: Callable[[str, str], str]


def shares(setting: Setting) -> Result:
    """Microseconds per call of each operation in each part; of the bulk operations per item. Only of T4DX."""
    rows: list[dict[str, Any]] = []
    missing = []
    for label, names in OPERATIONS.items():
        stores, absent = copies((label,), setting)
        missing += absent
        for store in stores.values():
            calls = min(CALLS, setting.calls)
            loops = operations(store, setting.data, calls)
            done = {"two_hops": calls // 10, "bulk_update": 3 * min(10_000, setting.data.n)}
            rows += [row(label, name, loops[name], done.get(name, calls)) for name in names]
            store.close()
    if rows:
        count = min(LOADED, setting.data.n)
        rows.append(row("t4dx interval", "bulk_load", _loading(setting, count), count))
    return {"systems": {}, "missing": [entry._asdict() for entry in missing], "shares": rows}


def _loading(setting: Setting, count: int) -> Callable[[], None]:
    """A load into a new store whose flushes run in the thread that writes, where a profile sees them."""
    data, folder = setting.data, setting.scratch / "loading"

    def loop() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with T4DX.open(folder, dim=data.dim, options=Options(background=False)) as store:
            for start in range(0, count, _BATCH):
                rows = data.rows(start, min(start + _BATCH, count))
                store.insert_many([item_of(row) for row in rows])
            store.flush()

    return loop


def part_of(file: str, name: str) -> str:
    """What a write or a read spends its time on."""
    if file == "~":
        return "kernel" if any(word in name for word in KERNEL) else ""
    path = Path(file)
    if path.parent.name != SOURCES:
        return "rest"
    return next((part for part, modules in PARTS.items() if path.stem in modules), "rest")


STORAGE: Final = Split((*PARTS, "kernel", "rest"), part_of)


def row(
    label: str, name: str, loop: Callable[[], None], calls: int, split: Split = STORAGE
) -> dict[str, Any]:
    """Microseconds of one of the calls that a loop makes, by part; the loop runs three times."""
    loop()
    begin = time.perf_counter()
    loop()
    micros = (time.perf_counter() - begin) / calls * 1e6
    profile = cProfile.Profile()
    profile.runcall(loop)
    parts, functions = parted(Stats(profile), split)
    total = sum(parts.values())
    scaled = {part: round(seconds / total * micros, 2) for part, seconds in parts.items()}
    return {
        "system": label,
        "operation": name,
        "micros": round(micros, 2),
        "python_calls": round(functions / calls, 1),
        "parts": scaled,
    }


def parted(stats: Any, split: Split = STORAGE) -> tuple[dict[str, float], int]:
    """Seconds in each part, and the number of Python functions called. What has no part of its own counts for
    its callers, as much for each as it spent there.
    """
    found, functions = dict.fromkeys(split.names, 0.0), 0
    known: dict[Any, dict[str, float]] = {}

    def whose(key: Any) -> dict[str, float]:
        """The share of each part in a function."""
        if key not in known:
            file, _, name = key
            known[key] = {"rest": 1.0}  # what only calls itself
            callers = stats.stats[key][4] if key in stats.stats else {}
            spent = sum(seconds for *_, seconds in callers.values())
            if part := split.part(file, name):
                known[key] = {part: 1.0}
            elif spent > 0.0:
                shares: dict[str, float] = {}
                for caller, (*_, seconds) in callers.items():
                    for part, share in whose(caller).items():
                        shares[part] = shares.get(part, 0.0) + share * seconds / spent
                known[key] = shares
        return known[key]

    for key, (_, calls, own, _, callers) in stats.stats.items():
        functions += calls if key[0] != "~" else 0
        if split.part(key[0], key[2]) or not callers:
            found[split.part(key[0], key[2]) or "rest"] += own
            continue
        for caller, (_, _, seconds, _) in callers.items():
            for part, share in whose(caller).items():
                found[part] += seconds * share
    return found, functions
