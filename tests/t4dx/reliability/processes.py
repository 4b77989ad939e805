"""Other processes: readers open the store while a writer flushes, merges and removes files; a second writer
and a fork are refused; the lock of a killed writer is free.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from reliability.forker import Forker
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong

from t4dm.errors import StoreClosedError, StoreLockedError
from t4dm.t4dx import T4DX, Edge, Item

OPENS = 25  # per reader process
FOUND, REFUSED = 3, 4


def vector(number: int) -> np.ndarray:
    """Some direction."""
    return np.array([number, 1.0, -number, 2.0], np.float32)


def churn(folder: str, background: bool) -> int:
    """A writer that inserts pairs with an edge, flushes, merges and deletes until it is killed or told to
    stop.
    """
    chosen = options(
        durability="os", memtable_items=30, max_segments=2, max_deltas=2, max_frozen=2, background=background
    )
    store = T4DX.open(f"{folder}/store", dim=4, options=chosen)
    number = store.count()
    while not Path(folder, "stop").exists():
        pair = [Item(id=f"i{n}", vector=vector(n), kappa=0.5) for n in (number, number + 1)]
        store.insert_many(pair, [Edge(pair[0].id, pair[1].id, "CAUSES")])
        number += 2
        store.merge_kappa([f"i{number // 2}"], 0.5)
        Path(folder, "acked").write_text(str(number))
        if number % 20 == 0:
            store.flush()
        if number % 50 == 0:
            store.compact()
    store.close()
    return 0


def look(folder: str, opens: int) -> int:
    """Open for reading again and again, and refresh a store that stays open; every view is whole, and never
    older than the one before.
    """
    last, followed = 0, 0
    with T4DX.open(f"{folder}/store", read_only=True) as follower:
        for turn in range(opens):
            acked = int(Path(folder, "acked").read_text() or last) if turn % 3 == 0 else last
            with T4DX.open(f"{folder}/store", read_only=True) as store:
                last = whole(folder, store, max(last, acked))
            follower.refresh()
            followed = whole(folder, follower, max(followed, last))
            if last < 0 or followed < 0:
                return FOUND
    return 0


def whole(folder: str, store: T4DX, least: int) -> int:
    """The number of items of a store that holds whole pairs and no fewer than some; -1 for anything else."""
    view = store.snapshot()
    count, edges, ids = view.count(), sum(1 for _ in view.edges()), [item.id for item in view.scan()]
    hits = view.search(vector(3), 5)
    fits = count % 2 == 0 and edges == count // 2 and len(ids) == count and count >= least
    if fits and len(hits) == min(5, count):
        return count
    told = f"{count} items, {edges} edges, {len(ids)} ids and {len(hits)} hits, at least {least} were there"
    Path(folder, f"fault-{os.getpid()}").write_text(told)
    return -1


def second(folder: str) -> int:
    """A second writer must be refused."""
    try:
        T4DX.open(f"{folder}/store", options=options(durability="os")).close()
    except StoreLockedError as error:
        return REFUSED if "pid" in str(error) else FOUND
    return FOUND


def fork(folder: str) -> int:
    """A forked child of a writer may neither write nor read, and its end changes nothing."""
    store = T4DX.open(f"{folder}/forked", dim=4, options=options(durability="interval"))
    store.insert(Item(id="before"))
    pid = os.fork()
    if pid == 0:
        refused = 0
        for use in (lambda: store.get("before"), lambda: store.insert(Item(id="child")), store.flush):
            try:
                use()
            except StoreClosedError:
                refused += 1
        store.close()
        os._exit(0 if refused == 3 else FOUND)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    store.insert(Item(id="after"))
    store.close()
    with T4DX.open(f"{folder}/forked") as again:
        return code if [item.id for item in again.scan()] == ["after", "before"] else FOUND


def cases(seed: int, size: int) -> list[str]:
    """`size` counts opens by readers, 50 beside each writer."""
    return [f"{seed},{n}" for n in range(max(2, size // (2 * OPENS)))]


def check(case: str) -> int:
    """A writer with or without threads, two readers, a second writer; then the writer is killed."""
    background = int(case.partition(",")[2]) % 2 == 0
    with tempfile.TemporaryDirectory() as folder, Forker() as forker:
        writer = forker.start("reliability.processes:churn", folder, background)
        for _ in range(3000):
            if Path(folder, "acked").exists() and Path(folder, "acked").read_text():
                break
            time.sleep(0.01)
        readers = [forker.start("reliability.processes:look", folder, OPENS) for _ in range(2)]
        if (code := forker.run("reliability.processes:second", folder)) != REFUSED:
            raise Wrong(f"a second writer was not refused by name ({code})")
        for reader in readers:
            if (code := forker.wait(reader)) != 0:
                told = [path.read_text() for path in Path(folder).glob("fault-*")]
                raise Wrong(f"a reader beside the writer ended with {code}: {told}")
        forker.wait(writer, kill_after=0.01)
        acked = int(Path(folder, "acked").read_text() or 0)
        with T4DX.open(f"{folder}/store") as store:  # the lock of the dead is free
            if store.count() < acked:
                raise Lost(f"{store.count()} items after the kill, {acked} were acknowledged")
            report = store.verify("deep")
            if not report.ok:
                raise Wrong(f"verify(deep): {report.problems[:2]}")
        if (code := forker.run("reliability.processes:fork", folder)) != 0:
            raise Wrong(f"a forked child was not refused ({code})")
    return 2 * OPENS


RUNNER = Runner("processes", cases, check, {"pr": 50, "nightly": 1000})
