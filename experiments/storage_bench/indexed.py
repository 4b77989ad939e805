"""Row groups about an indexed store: making it, opening it, what it holds, fresh rows beside it, its past."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import Any, Final

import numpy as np

from experiments.bench import measure
from experiments.storage_bench import sets
from experiments.storage_bench.groups import Missing, Result, Setting, agree, copies
from experiments.storage_bench.live import opening
from experiments.storage_bench.searches import (
    STORES,
    Exam,
    Race,
    allocated,
    closed,
    compared,
    exam,
    plain,
    result,
)
from experiments.storage_bench.systems import system
from experiments.storage_bench.systems.t4dx_system import item_of
from t4dm.t4dx import T4DX, Options

_REOPENED: Final = ("t4dx os", "kuzu", "qdrant-edge", "lancedb")
_REPLACED: Final = 0.01  # of the rows, between then and now
_BATCH: Final = 500


def index(label: str, setting: Setting) -> Result:
    """From nothing until the index over the vectors stands and a search has answered; the store stays."""
    folder = setting.stores / label
    shutil.rmtree(folder, ignore_errors=True)
    try:
        store = system(label)
    except ImportError as error:
        return result({}, [Missing(label, str(error))])
    store.open(folder, setting.data)
    begin = time.perf_counter()
    store.index(setting.data)
    store.effort = store.efforts[-1]  # a quick look may miss it
    hits = store.search(setting.data.vectors[0], 1)
    seconds = time.perf_counter() - begin
    agree(label, "its own vector is the nearest", hits, setting.data.ids[:1])
    store.index_fields(setting.data)
    store.close()
    entry = {"rate": setting.data.n / seconds, "seconds": seconds, "rounds": 1, "bytes": allocated(folder)}
    return result({label: {**entry, "durability": store.durability}}, [])


def reopened(setting: Setting) -> Result:
    """Open, first search, close; interleaved, files warm."""
    labels, missing = [], []
    for label in setting.wanted(_REOPENED):
        source, folder = setting.stores / label.partition(" ")[0], setting.scratch / label.replace(" ", "-")
        if not source.exists():
            missing.append(Missing(label, "not indexed: run the group 'index' first"))
            continue
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        labels.append(label)
    jobs = {label: opening(label, "search", setting) for label in labels}
    times = measure.interleave(jobs, rounds=max(setting.rounds, 5))
    systems = {
        label: {**measure.summary(rounds), "durability": "closed cleanly"} for label, rounds in times.items()
    }
    return result(systems, missing)


def footprint(setting: Setting) -> Result:
    """Bytes on the disk, and anonymous memory of a fresh process that opened the store and searched once."""
    raw = setting.data.n * setting.data.dim * 4
    systems: dict[str, Any] = {"raw vectors": {"durability": "-", "disk": _figure(1.0)}}
    missing: list[Missing] = []
    query = setting.scratch / "query.npy"
    np.save(query, setting.data.vectors[-1:])
    for label in setting.wanted(STORES):
        folder = setting.stores / label
        if not folder.exists():
            missing.append(Missing(label, "not indexed: run the group 'index' first"))
            continue
        systems[label] = {"durability": "closed cleanly", "disk": _figure(allocated(folder) / raw)}
        command = [
            sys.executable,
            "-m",
            "experiments.storage_bench.anonymous",
            label,
            str(folder),
            str(query),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            missing.append(Missing(f"{label}, memory", done.stderr.strip().splitlines()[-1]))
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        systems[label]["memory"] = _figure(told["anonymous_MB"]) | {"after_queries_MB": told["later_MB"]}
    return result(systems, missing)


def _figure(value: float) -> dict[str, Any]:
    return {"value": value, "rounds": 1}


def fresh(setting: Setting) -> Result:
    """The nearest with three segments that no merge has touched and a full memtable beside the indexed rows.

    Of qdrant-edge there are two: with the indexed rows alone, and with the fresh ones too, not optimised.
    """
    data, part = setting.data, setting.data.n // 10
    stores, missing = copies(("t4dx",), setting)
    both, absent = copies(("qdrant-edge",), setting._replace(scratch=setting.scratch / "peer"))
    missing += absent
    everything = np.arange(data.n + sets.fresh(data.n))
    exams = {}
    if "t4dx" in stores:
        stores["t4dx"].close()
        stores["t4dx"].store = with_fresh(setting, part)
        stores["t4dx default"] = stores["t4dx"]
        exams = dict.fromkeys(stores, exam(setting, everything))
    if "qdrant-edge" in both:
        peer = system("qdrant-edge")
        peer.open(setting.stores / "qdrant-edge", data)
        stores |= {"qdrant-edge": peer, "qdrant-edge fresh": both["qdrant-edge"]}
        for start in range(data.n, len(everything), _BATCH):
            both["qdrant-edge"].insert_rows(data.rows(start, min(start + _BATCH, len(everything))))
        whole = exams.get("t4dx") or exam(setting, everything)
        exams |= {"qdrant-edge": exam(setting), "qdrant-edge fresh": whole}
    try:
        asks = {label: plain(store) for label, store in stores.items()}
        systems, short = compared(Race("fresh rows", asks, stores, exams), setting)
    finally:
        closed(stores)
    return result(systems, [*missing, *short])


def with_fresh(setting: Setting, part: int) -> T4DX:
    """The store in the scratch folder, with three more segments and a memtable of `part` rows each."""
    data = setting.data
    options = Options(durability="os", memtable_items=2 * part + 1, memtable_bytes=1 << 31, index_threads=2)
    store = T4DX.open(setting.scratch / "t4dx", dim=data.dim, options=options)
    for place in range(sets.FRESH_PARTS):
        first = data.n + place * part
        store.insert_many([item_of(row) for row in data.rows(first, first + part)])
        if place < sets.FRESH_PARTS - 1:
            store.flush()
    held = store.stats()
    agree("t4dx", "segments and rows in memory", (held["segments"], held["memtable_items"]), (4, part))
    return store


def as_of(setting: Setting) -> Result:
    """The nearest of a moment before 1 % of the rows were replaced, and of now."""
    data = setting.data
    stores, missing = copies(("t4dx",), setting)
    if "t4dx" not in stores:
        return result({}, missing)
    store, moment, after = stores["t4dx"], *_replaced(stores["t4dx"], setting)
    twin = _Past(store, moment)
    exams = {"now": _now(setting, after), "as of": exam(setting)}
    asks = {"now": plain(store), "as of": plain(twin)}
    try:
        systems, short = compared(Race("as of", asks, {"now": store, "as of": twin}, exams), setting)
    finally:
        closed(stores)
    assert data.n > len(after)
    return result(systems, [*missing, *short])


class _Past:
    """A store as it was at a moment."""

    def __init__(self, store: Any, moment: float) -> None:
        self._store, self._moment, self.efforts = store, moment, store.efforts

    effort = property(
        lambda self: self._store.effort, lambda self, effort: setattr(self._store, "effort", effort)
    )

    def search(self, vector: Any, k: int) -> list[str]:
        found: list[str] = self._store.search_as_of(vector, k, self._moment)
        return found


def _replaced(store: Any, setting: Setting) -> tuple[float, dict[int, int]]:
    """Give every hundredth row the vector of a fresh one; returns the moment before, and {row: fresh row}."""
    data, step = setting.data, round(1 / _REPLACED)
    time.sleep(0.01)
    moment = time.time()
    time.sleep(0.01)
    rows = range(0, data.n, step)
    after = dict(zip(rows, range(data.n, data.n + len(rows)), strict=True))
    items = [item_of(data.row(row)._replace(vector=data.vectors[new])) for row, new in after.items()]
    store.store.insert_many(items)
    return moment, after


def _now(setting: Setting, after: dict[int, int]) -> Exam:
    """The exam over the rows as they are now: those that were replaced answer with their old id."""
    data = setting.data
    kept = np.setdiff1d(np.arange(data.n), list(after))
    asked = exam(setting, np.concatenate([kept, list(after.values())]))
    names = {data.ids[new]: data.ids[old] for old, new in after.items()}
    tuning, judged = ([{names.get(i, i) for i in wanted} for wanted in half] for half in asked[1:])
    return Exam(asked.sides, tuning, judged)
