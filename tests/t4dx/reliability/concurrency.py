"""Readers beside a writer, flushes and merges, with the interpreter switching threads as often as it can.

The writer moves kappa between the two items of a pair, so every view sums to one; it inserts items together
with their edges, and raises a counter. Readers look for a pair that does not add up, an item without its
edge, a counter that runs back, a snapshot that changes.

Beside these rounds, short histories of a few threads are recorded and must be linearizable (`histories`).
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from reliability import histories
from reliability.model import digest
from reliability.options import options
from reliability.rows import Runner, Wrong

from t4dm.t4dx import T4DX, Edge, Filter, Item

READERS = 8
PAIRS = 6
WAIT = 300.0
HISTORIES = 2000


class Hall:
    """A store, its threads, and what they found."""

    def __init__(self, store: T4DX, seed: int, writes: int) -> None:
        self.store, self.seed, self.writes = store, seed, writes
        self.done, self.due = threading.Event(), threading.Event()
        self.faults: list[str] = []
        self.looks = 0
        self._guard = threading.Lock()

    def write(self) -> None:
        """The one writer."""
        rng = random.Random(self.seed)
        for number in range(self.writes):
            pair, kappa = rng.randrange(PAIRS), rng.randrange(9) / 8
            with self.store.transaction() as tx:
                tx.update_fields(f"p{pair}-a", kappa=kappa)
                tx.update_fields(f"p{pair}-b", kappa=1.0 - kappa)
                tx.update_fields("counter", access_count=number + 1)
            fresh = Item(id=f"n{number}", session="news", vector=vector(number))
            self.store.insert(fresh, [Edge(fresh.id, "counter", "CAUSES")])
            if number % 8 == 7:
                self.due.set()
            if number % 5 == 4:
                self.store.delete(f"n{number - rng.randrange(5)}")

    def churn(self) -> None:
        """Flushes and merges."""
        turn = 0
        while not self.done.is_set():
            if self.due.wait(0.05):
                self.due.clear()
                turn += 1
                self.store.flush() if turn % 3 else self.store.compact(full=turn % 2 == 0)

    def read(self, reader: int) -> None:
        """One reader; each look takes one view by a snapshot, or one call."""
        rng, highest, looks = random.Random(f"{self.seed},{reader}"), 0, 0
        kept, hashed = None, None
        while not self.done.is_set() or looks < 3:
            looks += 1
            view = self.store.snapshot()
            highest = self._look(view, highest)
            self._one_call(rng)
            self.done.wait(0.05)
            if kept is None or rng.random() < 0.2:
                kept = self.store.snapshot()
                hashed = hash(repr(digest(kept, [1.0])))
            elif looks % 4 == 0 and hash(repr(digest(kept, [1.0]))) != hashed:
                self.found("a snapshot changed")
        with self._guard:
            self.looks += looks

    def _look(self, view: Any, highest: int) -> int:
        for pair in range(PAIRS):
            kappas = [item.kappa for item in view.get_many([f"p{pair}-a", f"p{pair}-b"])]
            if sum(kappas) != 1.0:
                self.found(f"pair {pair} holds {kappas}: half of a transaction")
        count = view.get("counter").access_count
        if count < highest:
            self.found(f"the counter ran back from {highest} to {count}")
        news = {item.id for item in view.scan(Filter(session="news"))}
        joined = {edge.source for edge in view.edges(target="counter")}
        if news != joined:
            self.found(f"items without their edges, or edges without items: {sorted(news ^ joined)[:3]}")
        return count

    def _one_call(self, rng: random.Random) -> None:
        kappas: dict[str, list[float]] = {}
        for item in self.store.get_many([f"p{n}-{side}" for n in range(PAIRS) for side in "ab"]):
            kappas.setdefault(item.id[:2], []).append(item.kappa)
        if any(sum(pair) != 1.0 for pair in kappas.values()):
            self.found(f"one get_many saw half of a transaction: {kappas}")
        hits = self.store.search(vector(rng.randrange(99)), 4, Filter(session="pairs"))
        if len(hits) != 4:
            self.found(f"a search for 4 of {2 * PAIRS} found {len(hits)}")
        if [hit.score for hit in hits] != sorted((hit.score for hit in hits), reverse=True):
            self.found("hits out of order")

    def found(self, fault: str) -> None:
        """Remember a fault."""
        with self._guard:
            self.faults.append(fault)

    def guarded(self, call: Callable[[], None]) -> Callable[[], None]:
        """A thread's target whose exceptions are faults."""

        def go() -> None:
            try:
                call()
            except BaseException as error:
                self.found(f"{type(error).__name__}: {error}")

        return go


def vector(number: int) -> np.ndarray:
    """Some direction."""
    return np.array([np.sin(number), np.cos(number), 1.0, number % 3], np.float32)


def cases(seed: int, size: int) -> list[str]:
    """Rounds of 150 writes; `size` counts writes. For each round ten histories, up to `HISTORIES`."""
    first = seed * 100_000
    rounds = [f"{first + n},150" for n in range(max(1, size // 150))]
    return [*rounds, *[f"history {first + n}" for n in range(min(10 * len(rounds), HISTORIES))]]


def check(case: str) -> int:
    """One round; returns the number of looks that readers took. Or one history; returns that of its calls."""
    if case.startswith(("history ", "[")):
        return histories.check(case.removeprefix("history "))
    seed, writes = map(int, case.split(","))
    chosen = options(
        durability=("interval", "sync", "os")[seed % 3],
        memtable_items=40,
        max_segments=3,
        max_deltas=2,
        background=seed % 2 == 0,
        max_frozen=2,
    )
    before = sys.getswitchinterval()
    with tempfile.TemporaryDirectory() as folder, T4DX.open(f"{folder}/s", dim=4, options=chosen) as store:
        pairs = [
            Item(id=f"p{n}-{s}", session="pairs", vector=vector(n), kappa=0.5)
            for n in range(PAIRS)
            for s in "ab"
        ]
        store.insert_many([*pairs, Item(id="counter")])
        hall = Hall(store, seed, writes)
        sys.setswitchinterval(1e-6)
        try:
            hold(hall)
        finally:
            sys.setswitchinterval(before)
        report = store.verify("deep")
    if hall.faults or not report.ok:
        raise Wrong("; ".join([*dict.fromkeys(hall.faults), *report.problems][:3]))
    return hall.looks


def hold(hall: Hall) -> None:
    """Let all threads run until the writer is through."""
    readers = [threading.Thread(target=hall.guarded(lambda n=n: hall.read(n))) for n in range(READERS)]
    others = [threading.Thread(target=hall.guarded(hall.churn)), *readers]
    writer = threading.Thread(target=hall.guarded(hall.write))
    for thread in (*others, writer):
        thread.start()
    writer.join(WAIT)
    hall.done.set()
    for thread in others:
        thread.join(WAIT)
    if any(thread.is_alive() for thread in (*others, writer)):
        hall.found("threads wait for each other: a deadlock")


RUNNER = Runner("concurrency", cases, check, {"pr": 300, "nightly": 120_000})
