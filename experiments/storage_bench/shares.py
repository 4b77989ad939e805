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
from typing import Any, Final

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
KERNEL: Final = ("pwrite", "fdatasync", "fsync", "fallocate", "acquire")
CALLS: Final = 1000
LOADED: Final = 20_000
_BATCH: Final = 1000


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
            rows += [_row(label, name, loops[name], done.get(name, calls)) for name in names]
            store.close()
    if rows:
        count = min(LOADED, setting.data.n)
        rows.append(_row("t4dx interval", "bulk_load", _loading(setting, count), count))
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


def _row(label: str, name: str, loop: Callable[[], None], calls: int) -> dict[str, Any]:
    loop()
    begin = time.perf_counter()
    loop()
    micros = (time.perf_counter() - begin) / calls * 1e6
    profile = cProfile.Profile()
    profile.runcall(loop)
    parts, functions = parted(Stats(profile))
    total = sum(parts.values())
    scaled = {part: round(seconds / total * micros, 2) for part, seconds in parts.items()}
    return {
        "system": label,
        "operation": name,
        "micros": round(micros, 2),
        "python_calls": round(functions / calls, 1),
        "parts": scaled,
    }


def parted(stats: Any) -> tuple[dict[str, float], int]:
    """Seconds in each of PARTS, in calls to the kernel and in the rest, and the number of Python functions
    called. What a built-in function takes counts for its caller.
    """
    found = dict.fromkeys((*PARTS, "kernel", "rest"), 0.0)
    functions = 0
    for (file, _, name), (_, calls, own, _, callers) in stats.stats.items():
        if file != "~":
            functions += calls
            found[_part(file)] += own
        elif any(word in name for word in KERNEL):
            found["kernel"] += own
        else:
            for (caller, _, _), (_, _, seconds, _) in callers.items():
                found[_part(caller)] += seconds
    return found, functions


def _part(file: str) -> str:
    path = Path(file)
    if path.parent.name != "t4dx":
        return "rest"
    return next((part for part, modules in PARTS.items() if path.stem in modules), "rest")
