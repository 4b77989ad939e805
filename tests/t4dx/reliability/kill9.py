"""kill -9 of a real process with four writers, compactions and builds of graphs: every acknowledged write is
back.

Each writer owns its ids and makes a fixed sequence of batches, so its share of the store tells how many of
them are in. An mmapped file that outlives the process holds, per writer, the batch that was begun and the
last one that was acknowledged: the store must hold a number of whole batches between the two.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import random
import signal
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from reliability.forker import Forker
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong

from t4dm.t4dx import T4DX, Edge, Filter, Item
from t4dm.t4dx.costs import Costs
from t4dm.t4dx.fs import OsFileSystem

WRITERS = 4
GRAPH = 30  # vectors from which on a segment has a graph
BATCHES = 24  # per writer and round
ROUNDS = 2
SLOT = struct.Struct("<QQ")  # begun, acknowledged
WALKS = Costs(small=0, scan=1.0, gather=1.0, signs=1.0, probe=1.0, walk=0.0, enter=0.0)
TYPES = (
    ("MANIFEST", "manifest"),
    ("wal-", "log"),
    ("deltas", "delta"),
    ("segments", "segment"),
    ("graphs", "graph"),
    ("LOCK", "lock"),
)


class Expected:
    """The mmapped file: for each writer the number of batches begun, and acknowledged."""

    def __init__(self, path: Path) -> None:
        size = SLOT.size * WRITERS
        if not path.exists() or path.stat().st_size < size:  # a kill may come before the first byte
            path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def __getitem__(self, writer: int) -> tuple[int, int]:
        begun, acked = SLOT.unpack_from(self._map, writer * SLOT.size)
        return begun, acked

    def begin(self, writer: int, batch: int) -> None:
        """A batch is on its way."""
        SLOT.pack_into(self._map, writer * SLOT.size, batch, self[writer][1])

    def acknowledge(self, writer: int, batch: int) -> None:
        """The store has said yes."""
        SLOT.pack_into(self._map, writer * SLOT.size, batch, batch)

    def settle(self, writer: int, batch: int) -> None:
        """What was found after the kill is the new start."""
        self.acknowledge(writer, batch)

    def close(self) -> None:
        """Unmap."""
        self._map.close()


class DeadlyFileSystem(OsFileSystem):
    """The real disk, with a named point before and after every change (and amid every write), where it may
    end.

    A point is called "<call> <type of file> <before|amid|after>". With `point` None all points passed are
    counted in `passed`; else the process kills itself at the given occurrence of that point.
    """

    def __init__(self, point: str | None, occurrence: int) -> None:
        super().__init__()
        self.point, self.occurrence, self.passed = point, occurrence, dict[str, int]()
        self._guard = threading.Lock()

    def reached(self, name: str) -> None:
        """Count a point; die where it is the one."""
        with self._guard:
            self.passed[name] = self.passed.get(name, 0) + 1
            if name == self.point and self.passed[name] == self.occurrence:
                os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, call: str, path: str):
        """Before and after a call."""
        kind = type_of(path)
        self.reached(f"{call} {kind} before")
        yield
        self.reached(f"{call} {kind} after")

    def write_new(self, path: str, data: bytes) -> None:
        half = len(data) // 2
        with self.around("write_new", path):
            if self.point == f"write_new {type_of(path)} amid":
                super().write_new(path, data[:half])
                self.reached(self.point)
                os.unlink(path)
            elif self.point is None:
                self.reached(f"write_new {type_of(path)} amid")
            super().write_new(path, data)

    def append_to(self, path: str) -> Any:
        return DeadlyLog(self, super().append_to(path), path)


def _deadly(call: str) -> Any:
    def method(self: DeadlyFileSystem, path: str, *rest: Any) -> Any:
        with self.around(call, rest[0] if call in ("rename", "link") else path):
            return getattr(OsFileSystem, call)(self, path, *rest)

    return method


for _call in ("sync_file", "sync_dir", "rename", "link", "unlink", "remove_tree", "mkdir"):
    setattr(DeadlyFileSystem, _call, _deadly(_call))


class DeadlyLog:
    """An open log, or the file of a graph, whose calls are points; other attributes pass through."""

    def __init__(self, fs: DeadlyFileSystem, log: Any, path: str) -> None:
        self._fs, self._log, self._path = fs, log, path

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._log, name)
        if not callable(found) or name == "close":
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._fs.around(f"log.{name}", self._path):
                if name == "write" and len(args[0]) > 1:
                    amid = f"log.write {type_of(self._path)} amid"
                    if self._fs.point == amid:
                        found(args[0][: len(args[0]) // 2], *args[1:])
                    self._fs.reached(amid)
                return found(*args, **kwargs)

        return call


def type_of(path: str) -> str:
    """What a path is, for the name of a point."""
    return next((kind for mark, kind in TYPES if mark in path), "folder")


def batch_of(writer: int, number: int) -> tuple[list[Item], list[Edge]]:
    """The items and edges that a batch inserts."""
    vector = np.array([writer, number, 1.0, -1.0], np.float32)
    items = [
        Item(id=f"w{writer}-{number}-{side}", session=f"w{writer}", vector=vector, kappa=0.5, event_time=1.0)
        for side in "ab"
    ]
    return items, [Edge(items[0].id, items[1].id, "CAUSES", weight=0.5)]


def make_batch(store: T4DX, writer: int, number: int) -> None:
    """One atomic batch; every third changes older items as well, every seventh deletes one."""
    items, edges = batch_of(writer, number)
    with store.transaction() as tx:
        tx.insert_many(items, edges)
        if number % 3 == 2:
            tx.merge_kappa([f"w{writer}-{number - 2}-a"], 0.5)
            tx.update_edge_weight(
                f"w{writer}-{number - 1}-a", f"w{writer}-{number - 1}-b", 0.25, edge_type="CAUSES"
            )
        if number % 7 == 6:
            tx.delete(f"w{writer}-{number - 6}-b")


def expected_of(writer: int, batches: int) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """kappa by id and weight by ends after so many batches."""
    items: dict[str, float] = {}
    edges: dict[tuple[str, str], float] = {}
    for number in range(batches):
        name = f"w{writer}-{number}"
        items |= {f"{name}-a": 0.5, f"{name}-b": 0.5}
        edges[f"{name}-a", f"{name}-b"] = 0.5
        if number % 3 == 2:
            items[f"w{writer}-{number - 2}-a"] = 0.75
            edge = (f"w{writer}-{number - 1}-a", f"w{writer}-{number - 1}-b")
            if edge in edges:
                edges[edge] = 0.75
        if number % 7 == 6:
            gone = f"w{writer}-{number - 6}"
            del items[f"{gone}-b"]
            del edges[f"{gone}-a", f"{gone}-b"]
    return items, edges


def child(folder: str, seed: int, point: str | None, occurrence: int) -> int:
    """Four writers, compactions and builds of graphs until they are done or the process dies."""
    fs, rng = DeadlyFileSystem(point, occurrence), random.Random(seed)
    expected = Expected(Path(folder) / "expected")
    durability = rng.choice(("sync", "interval", "os"))
    chosen = options(
        durability=durability,
        memtable_items=rng.choice((40, 100)),
        max_deltas=2,
        max_segments=2,
        txn_part_bytes=500,
        background=rng.random() < 0.5,
        max_frozen=2,
        index_rows=GRAPH,
    )
    store = T4DX.open(f"{folder}/store", dim=4, options=chosen, clock=lambda: 1.0, fs=fs)
    faults: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            first = expected[writer][1]
            for number in range(first, first + BATCHES):
                expected.begin(writer, number + 1)
                make_batch(store, writer, number)
                expected.acknowledge(writer, number + 1)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for turn in range(3):
        time.sleep(0.02)
        store.compact(full=turn != 1)
        store.build_graphs()
    for thread in threads:
        thread.join()
    store.compact(graphs=True)
    store.close()
    if faults:
        raise faults[0]
    if point is None and occurrence:
        (Path(folder) / "points").write_text("\n".join(f"{n}\t{count}" for n, count in fs.passed.items()))
    return 0


def inspect(folder: str, case: str, what: str) -> None:
    """Every writer's share is a number of whole batches, not fewer than acknowledged; the files are sound."""
    expected = Expected(Path(folder) / "expected")
    if not any(path.name.startswith("MANIFEST") for path in Path(f"{folder}/store").glob("*")):
        if any(expected[writer][1] for writer in range(WRITERS)):
            raise Lost(f"{what}: no manifest, but writes were acknowledged", case=case)
        return
    chosen = options(durability="os", index_rows=GRAPH)
    with T4DX.open(f"{folder}/store", dim=4, options=chosen) as store:
        for writer in range(WRITERS):
            begun, acked = expected[writer]
            expected.settle(writer, share(store, writer, begun, acked, case, what))
        report = store.verify("deep")
        if not report.ok:
            raise Wrong(f"{what}: verify(deep): {report.problems[:2]}", case=case)
        inspect_graphs(store, case, what)
    expected.close()


def inspect_graphs(store: T4DX, case: str, what: str) -> None:
    """What is left of a build is a graph or nothing; what is missing is built, and walks find the nearest."""
    store.costs = WALKS
    query = np.array([1.5, 2.5, 1.0, -1.0], np.float32)
    for when in ("before", "after"):
        exact, hits = store.search(query, 5, recall=1.0), store.search(query, 5)
        if len(hits) != len(exact) or [hit.score for hit in hits] != [hit.score for hit in exact]:
            raise Wrong(f"{what}: a search {when} the build finds {hits.ids}, not {exact.ids}", case=case)
        store.build_graphs()
    found, folder = store.stats()["graphs"], Path(store.path) / "graphs"
    if found["missing"]:
        raise Wrong(f"{what}: graphs cannot be built: {found['segments']}", case=case)
    if folder.exists() and any(path.name.startswith(".tmp") for path in folder.iterdir()):
        raise Wrong(
            f"{what}: half a graph is left: {sorted(path.name for path in folder.iterdir())}", case=case
        )


def share(store: T4DX, writer: int, begun: int, acked: int, case: str, what: str) -> int:
    """How many batches of a writer are there."""
    held = {item.id: item.kappa for item in store.scan(Filter(session=f"w{writer}"))}
    ids = set(held)
    edges = {(e.source, e.target): e.weight for e in store.edges() if e.source.startswith(f"w{writer}-")}
    newest = max((int(name.split("-")[1]) + 1 for name in ids), default=0)
    if newest < acked:
        raise Lost(f"{what}: writer {writer} has {newest} batches, {acked} were acknowledged", case=case)
    if newest > begun:
        raise Wrong(f"{what}: writer {writer} has {newest} batches, {begun} were begun", case=case)
    items, links = expected_of(writer, newest)
    if (held, edges) != (items, links):
        odd = {k for k in ids | set(items) if held.get(k) != items.get(k)}
        odd_edges = {k for k in set(edges) | set(links) if edges.get(k) != links.get(k)}
        raise Lost(
            f"{what}: writer {writer} at {newest} batches: {sorted(odd)[:3]} {sorted(odd_edges)[:3]}",
            case=case,
        )
    return newest


@functools.cache
def points(seed: int) -> dict[str, int]:
    """The kill points that a run passes, and how often."""
    with tempfile.TemporaryDirectory() as folder, Forker() as forker:
        code = forker.run("reliability.kill9:child", folder, seed, None, 1)
        if code:
            raise Wrong(f"the workload of kill9 ends with {code} without a kill")
        lines = (Path(folder) / "points").read_text().splitlines()
        return {name: int(count) for name, count in (line.split("\t") for line in lines)}


def cases(seed: int, size: int) -> list[str]:
    """`size` kills: two of three at named points, each point as often as any other, the rest at random
    times.
    """
    return [f"{seed},{first},{min(first + 10, size)}" for first in range(0, size, 10)]


def check(case: str) -> int:
    """Case seed,first,last: some kills, two in a row on each store."""
    seed, first, last = map(int, case.split(","))
    passed = points(seed)
    names, tried = sorted(passed), 0
    with Forker() as forker:
        for number in range(first, last, ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                for again in range(ROUNDS):
                    rng = random.Random(f"{seed},{number + again}")
                    one = f"{seed},{number},{number + ROUNDS}"
                    name = names[(number + again) * 7 % len(names)]
                    if (number + again) % 3:
                        times = rng.randint(1, min(passed[name], 20))
                        code = forker.run("reliability.kill9:child", folder, seed + number, name, times)
                        what = f"kill {number + again} at {name} ({times})"
                    else:
                        after = rng.uniform(0.005, 0.4)
                        code = forker.run(
                            "reliability.kill9:child", folder, seed + number, None, 0, kill_after=after
                        )
                        what = f"kill {number + again} after {after:.3f} s"
                    if code not in (0, -9):
                        raise Wrong(f"{what}: the process ended with {code}", case=one)
                    inspect(folder, one, what)
                    tried += 1
    return tried


RUNNER = Runner("kill9", cases, check, {"pr": 60, "nightly": 1000})
