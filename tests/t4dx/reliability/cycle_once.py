"""A night of consolidation that a power cut interrupts anywhere is done once: never half, never twice.

The night is one transaction: kappa merges, weight operators, a prototype with its provenance, deletions;
then a compaction. Whoever finds the prototype missing in the morning does the night again, as the sleep
service does.
"""

from __future__ import annotations

import functools
import random
from typing import Any

from reliability import disk
from reliability.model import Model, difference, digest
from reliability.operations import DIM, World, make_write
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.t4dx import IN, OUT, T4DX, AffineClip, Edge, EdgeFilter, Item
from t4dm.t4dx.operators import add

FOLDER = "store"
TIMES = [1005.0, 1025.0, 2000.5]
ETA = 0.25
MODES = disk.MODES[:4]


class Night:
    """A store the evening before, and what the night does to it."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.world = World(self.rng, [f"i{n}" for n in range(12)])
        self.options = options(
            durability="sync", memtable_items=25, max_deltas=2, max_segments=2, txn_part_bytes=200
        )

    def evening(self, fs: SimulatedFileSystem) -> None:
        """A day of writes, partly flushed."""
        world = self.world
        world.store = T4DX.open(FOLDER, dim=DIM, options=self.options, clock=world.clock, fs=fs)
        for step in range(18):
            make_write(world, world.store, ["insert", "insert_many", "merge_kappa", "update_edge_weight"])
            if step == 9:
                world.store.flush()
        world.store.close()

    def plan(self) -> tuple[list[str], list[tuple[str, str, str]], list[str], Item, list[Edge]]:
        """What the night decided: replayed ids, edges, pruned ids, a prototype and its edges."""
        model = self.world.model
        names = [item.id for item in model.present()]
        replayed, pruned = names[: len(names) // 2], names[-2:]
        keys = [key for key in model.present_edges() if not set(pruned) & set(key[:2])][:4]
        prototype = Item(id="prototype", type="semantic", kappa=0.9, event_time=1.0)
        merged = [Edge("prototype", name, "MERGED_FROM", weight=1.0) for name in replayed]
        into = [Edge(name, "prototype", "CONSOLIDATED_INTO", weight=1.0) for name in replayed]
        return replayed, keys, pruned, prototype, merged + into

    def dream(self, store: T4DX) -> None:
        """The night's one transaction."""
        replayed, keys, pruned, prototype, edges = self.plan()
        with store.transaction() as tx:
            tx.merge_kappa(replayed, ETA)
            tx.update_edge_weights([(*key, add(0.125)) for key in keys])
            tx.batch_scale_weights(EdgeFilter(type="RELATES_TO"), (0.5, 0.0, 0.0, 1.0))
            tx.insert(prototype, edges)
            tx.delete_many(pruned)

    def morning(self) -> Model:
        """The model after the night, once."""
        replayed, keys, pruned, prototype, edges = self.plan()
        model = self.world.model.copy()
        for name in replayed:
            model.change(name, kappa=AffineClip(1.0 - ETA, ETA, 0.0, 1.0)(model.current(name).kappa))
        for key in keys:
            model.weigh(key, add(0.125))
        for key in model.present_edges():
            if key[2] == "RELATES_TO":
                model.weigh(key, AffineClip(0.5, 0.0, 0.0, 1.0))
        model.insert([prototype], edges, self.world.clock.now)
        for name in pruned:
            model.delete(name)
        return model


@functools.cache
def evening(seed: int) -> tuple[Any, Night, int]:
    """The disk before the night, the night, and how many calls it makes."""
    night, fs = Night(seed), SimulatedFileSystem(seed=seed)
    night.evening(fs)
    root = disk.copy(fs.root)
    trial = SimulatedFileSystem(disk.copy(root))
    sleep(night, trial)
    return root, night, trial.calls


def sleep(night: Night, fs: SimulatedFileSystem) -> None:
    """Open, dream unless that was done, compact."""
    with T4DX.open(FOLDER, options=night.options, clock=night.world.clock, fs=fs) as store:
        if store.get("prototype") is None:
            night.dream(store)
        store.compact()


def check_one(seed: int, call: int, mode: str) -> None:
    """Cut the power at one call of the night, and sleep again."""
    root, night, _ = evening(seed)
    case, what = f"{seed},@{call},{mode}", f"cut at call {call}, {mode}"
    fs = SimulatedFileSystem(disk.copy(root), crash_at=call, seed=call)
    try:
        sleep(night, fs)
    except Crash:
        fs = SimulatedFileSystem(disk.survivor(fs.root, mode, random.Random(case)))
    before, after = night.world.model.digest(TIMES), night.morning().digest(TIMES)
    with T4DX.open(FOLDER, options=night.options, clock=night.world.clock, fs=fs) as store:
        if (held := digest(store, TIMES)) not in (before, after):
            raise Wrong(f"{what}: half a night: {difference(held, after)}", case=case)
    sleep(night, fs)
    with T4DX.open(FOLDER, options=night.options, clock=night.world.clock, fs=fs) as store:
        if (held := digest(store, TIMES)) != after:
            raise Lost(f"{what}: after sleeping again: {difference(held, after)}", case=case)
        replayed = night.plan()[0]
        back = [
            path.nodes[-1] for path in store.traverse("prototype", edge_type="MERGED_FROM", direction=OUT)
        ]
        into = [
            path.nodes[-1]
            for path in store.traverse("prototype", edge_type="CONSOLIDATED_INTO", direction=IN)
        ]
        if sorted(back) != sorted(replayed) or sorted(into) != sorted(replayed):
            raise Lost(f"{what}: the prototype's provenance is {back} and {into}, not {replayed}", case=case)
        report = store.verify("deep")
        if not report.ok:
            raise Wrong(f"{what}: verify(deep): {report.problems[:2]}", case=case)


def cases(seed: int, size: int) -> list[str]:
    """`size` cuts, some 100 per evening."""
    return [f"{seed * 100 + n},{min(size, 100)}" for n in range(max(1, size // 100))]


def check(case: str) -> int:
    """Case seed,count: cuts spread over the night. Case seed,@call,mode: one."""
    seed, *rest = case.split(",")
    if len(rest) == 2:
        check_one(int(seed), int(rest[0][1:]), rest[1])
        return 1
    calls, count = evening(int(seed))[2], int(rest[0])
    for number in range(count):
        check_one(int(seed), 1 + (number * calls) // count, MODES[number % len(MODES)])
    return count


RUNNER = Runner("cycle_once", cases, check, {"pr": 30, "nightly": 500})
