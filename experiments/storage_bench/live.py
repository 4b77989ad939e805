"""Groups about a store at work: opening it, reading beside its writer, what its upkeep costs a writer."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from experiments.bench import measure
from experiments.storage_bench.data import START, Data, Row
from experiments.storage_bench.groups import Result, Setting, agree, copies
from experiments.storage_bench.systems import system
from t4dm.t4dx import T4DX, Filter, Item, Options

WRITERS: Final = 8
_OPENED: Final = ("t4dx os", "sqlite normal", "kuzu")


def reopen(setting: Setting) -> Result:
    """Open, a get and 2 hops, close; interleaved, files warm."""
    labels, missing = [], []
    for label in setting.wanted(_OPENED):
        stores, absent = _copies_beside(label, setting)
        labels += stores
        missing += absent
    jobs = {label: opening(label, "graph", setting) for label in labels}
    times = measure.interleave(jobs, rounds=max(setting.rounds, 5))
    systems = {
        label: {"durability": "closed cleanly", "graph": measure.summary(rounds)}
        for label, rounds in times.items()
    }
    return {"systems": systems, "missing": missing}


def _copies_beside(label: str, setting: Setting) -> tuple[list[str], list[dict[str, str]]]:
    source = setting.stores / label.partition(" ")[0]
    if not source.exists():
        return [], [{"label": label, "why": "not loaded: run the group 'load' first"}]
    folder = setting.scratch / label.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return [label], []


def opening(label: str, answer: str, setting: Setting) -> Any:
    """A job that opens a copy of a store in the scratch folder, asks it once, and closes it. The answer is a
    get and 2 hops ("graph"), or a search.
    """
    folder, data = setting.scratch / label.replace(" ", "-"), setting.data

    def run(turn: int) -> list[float]:
        num = (turn * 7919) % data.n
        store: Any = system(label)
        begin = time.perf_counter()
        store.open(folder, data)
        if answer == "graph":
            found, hops = store.get(num), store.two_hops(num)
            seconds = time.perf_counter() - begin
            agree(label, "a get", (found.text, len(hops) > 0), (data.row(num).text, True))
        else:
            hits = store.search(data.vectors[num], 10)
            seconds = time.perf_counter() - begin
            agree(label, "a search", hits[:1], [data.ids[num]])
        store.close()
        return [seconds * 1e3]

    return run


def readers(setting: Setting) -> Result:
    """Two threads recall (a search in a 1 % time window, a get, 2 hops) alone, then beside a writer that
    inserts synced while flushes and merges run.
    """
    stores, missing = copies(("t4dx sync",), setting)
    found: Result = {"systems": {}, "missing": [entry._asdict() for entry in missing]}
    if not stores:
        return found
    stores["t4dx sync"].close()
    folder, data = setting.scratch / "t4dx-sync", setting.data
    options = Options(durability="sync", memtable_items=max(200, data.n // 100), max_segments=3)
    idle: list[list[float]] = []
    busy: list[list[float]] = []
    spans: list[float] = []
    with T4DX.open(folder, dim=data.dim, options=options) as store:
        writer = _Writer(store, data)
        _recalls(store, data, seconds=min(1.0, setting.budget))
        for _ in range(setting.rounds):
            idle.append(_recalls(store, data, seconds=setting.budget))
            before = store.stats()["manifest"]
            with writer:
                busy.append(_recalls(store, data, seconds=setting.budget))
            spans.append(float(store.stats()["manifest"] - before))
    for label, rounds in (("idle", idle), ("beside a writer", busy)):
        rates = [len(times) / setting.budget for times in rounds]
        durability = "fdatasync before each write returns"
        found["systems"][label] = {
            **measure.summary(rounds),
            "durability": durability,
            "rate": float(np.median(rates)),
            "rounds_rate": rates,
            "rounds_p99": [float(np.percentile(times, 99)) for times in rounds],
        }
    found["systems"]["beside a writer"] |= {"inserted": writer.done, "manifests": spans}
    return found


def writers(setting: Setting) -> Result:
    """Eight threads insert synced. T4DX fsyncs once for all that wait; SQLite has one writer at a time, so
    its threads take turns at one connection.
    """
    stores, missing = copies(("t4dx sync", "sqlite full"), setting)
    lock = threading.Lock()

    def in_turn(insert: Callable[[Row], None]) -> Callable[[Row], None]:
        def call(row: Row) -> None:
            with lock:
                insert(row)

        return call

    calls = {
        label: in_turn(store.insert) if label.startswith("sqlite") else store.insert
        for label, store in stores.items()
    }
    rates: dict[str, list[float]] = {label: [] for label in stores}
    times: dict[str, list[list[float]]] = {label: [] for label in stores}
    try:
        for turn in range(setting.rounds):
            for label, call in calls.items():
                begin = time.perf_counter()
                times[label].append(_together(call, setting, turn))
                rates[label].append(len(times[label][-1]) / (time.perf_counter() - begin))
    finally:
        for store in stores.values():
            store.close()
    systems = {
        label: {
            **measure.summary(times[label]),
            "durability": stores[label].durability,
            "rate": float(np.median(rates[label])),
            "rounds_rate": rates[label],
        }
        for label in stores
    }
    return {"systems": systems, "missing": [entry._asdict() for entry in missing]}


def _together(insert: Callable[[Row], None], setting: Setting, turn: int) -> list[float]:
    """Milliseconds of each insert of WRITERS threads, every thread with rows of its own."""
    data, found = setting.data, [list[float]() for _ in range(WRITERS)]
    first = data.n + turn * setting.calls
    rows = list(data.rows(first, first + setting.calls))

    def write(place: int) -> None:
        found[place] = measure.block(insert, rows[place::WRITERS], budget=setting.budget)

    threads = [threading.Thread(target=write, args=(place,)) for place in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [milliseconds for part in found for milliseconds in part]


class _Writer:
    """Inserts one item after the other in a thread, for as long as the `with` block lasts."""

    def __init__(self, store: T4DX, data: Data) -> None:
        self._store, self._data, self._stop = store, data, threading.Event()
        self.done = 0

    def __enter__(self) -> _Writer:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        data = self._data
        while not self._stop.is_set():
            row = data.row(data.n + self.done % (len(data.ids) - data.n))
            self._store.insert(
                Item(id=f"new-{self.done}", content=row.text, vector=row.vector, event_time=0.0)
            )
            self.done += 1


def _recalls(store: T4DX, data: Data, *, seconds: float) -> list[float]:
    """Milliseconds of every recall that two reader threads made in `seconds`."""
    times: list[list[float]] = [[], []]
    end = time.perf_counter() + seconds

    def read(place: int) -> None:
        rng = np.random.default_rng(place)
        while (begin := time.perf_counter()) < end:
            num = int(rng.integers(0, data.n))
            since = START + 60.0 * min(num, data.n - data.n // 100)
            window = Filter(event_time=(since, since + 0.6 * data.n))
            store.search(data.vectors[num], 10, window)
            store.get(data.ids[num])
            store.traverse(data.ids[num], depth=2)
            times[place].append((time.perf_counter() - begin) * 1e3)

    threads = [threading.Thread(target=read, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times[0] + times[1]


def stall(setting: Setting) -> Result:
    """Unsynced inserts into a new store through several flushes and merges: the longest one. Beside it a bare
    loop that writes the same bytes to a file: what the machine itself holds up.
    """
    data, folder = setting.data, setting.scratch / "stall"
    size = min(setting.calls * 10, len(data.ids))
    threshold = max(50, min(10_000, size // 4))
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    stats: dict[str, Any] = {}
    for _ in range(setting.rounds):
        shutil.rmtree(folder, ignore_errors=True)
        options = Options(durability="os", memtable_items=threshold, max_segments=2)
        with T4DX.open(folder, dim=data.dim, options=options) as store:
            items = [Item(id=row.id, content=row.text, vector=row.vector) for row in data.rows(0, size)]
            ours.append(measure.block(store.insert, items, budget=60.0))
            stats = store.stats()
        bare.append(_bare(folder / "bare.bin", data, len(ours[-1])))
    entry = {
        **measure.summary(ours),
        "durability": "in the log when it returns, no sync",
        "segments": stats["segments"],
        "manifest": stats["manifest"],
        "memtable_items": threshold,
    }
    noise = {**measure.summary(bare), "durability": "no sync"}
    return {"systems": {"t4dx os": entry, "bare loop": noise}, "missing": []}


def _bare(path: Path, data: Data, count: int) -> list[float]:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        return measure.block(lambda num: os.write(fd, data.vectors[num].tobytes()), range(count), budget=60.0)
    finally:
        os.close(fd)
        path.unlink()
