"""A power cut at every call to the disk: what is found is a state that was, with all that was acknowledged.

One run of a workload yields every disk that a power cut could leave at any of its calls: nothing is run
twice.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any

from reliability import disk, more_operations
from reliability.interleaving import Amid
from reliability.model import difference, digest
from reliability.operations import DIM, World, make_write, swarm
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong
from simulated_fs import Crash, Folder, SimulatedFileSystem

from t4dm.t4dx import T4DX

FOLDER = "store"
STEPS = 40
TABLES = (more_operations,)
TIMES = [1003.0, 1011.0, 1025.0]
Seen = dict[int, list[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Found:
    """A disk after a power cut, and the LSN it must reach."""

    root: Folder
    floor: int
    case: str
    call: str


class Workload:
    """Writes with flushes, merges, a transaction in parts, a night and a reopen; stops at every call.

    Args:
        seed: of the workload.
        take: (number of the call, mode) -> whether to keep that disk.
        durability: of the store.
    """

    def __init__(self, seed: int, take: Any, *, steps: int = STEPS) -> None:
        self.seed, self.take, self.steps = seed, take, steps
        self.rng = random.Random(seed)
        self.durability = ("sync", "sync", "os")[seed % 3]
        self.world = World(self.rng, [f"i{n}" for n in range(10)])
        self.allowed = swarm(self.rng)
        self.options = options(
            durability=self.durability, memtable_items=14, max_deltas=2, max_segments=2, txn_part_bytes=300
        )
        self.seen: Seen = {0: [self.world.model.digest(TIMES)]}
        self.acked = self.durable = self.calls = 0
        self.waiting: list[Found] = []

    def play(self):
        """Yield the disks found, each once the operation it interrupted is known."""
        fs = disk.WatchedDisk(seed=self.seed, before=self._before)
        self.fs = fs
        self.world.store = self._open(dim=DIM)
        yield from self._settle()
        for step in range(self.steps):
            self._step(step)
            self.note()
            yield from self._settle()
        self.world.store.close()
        yield from self.waiting

    def note(self) -> None:
        """What is acknowledged from now on."""
        store = self.world.store
        self.seen.setdefault(store.lsn, []).append(self.world.model.digest(TIMES))
        self.acked = store.lsn
        self.durable = self.acked if self.durability == "sync" else store.stats()["durable_lsn"]

    def _open(self, **how: Any) -> T4DX:
        return T4DX.open(FOLDER, options=self.options, clock=self.world.clock, fs=self.fs, **how)

    def _step(self, step: int) -> None:
        world = self.world
        world.clock.now += 1.0
        kind = self.rng.random()
        if step % 13 == 12:
            with world.store.transaction() as tx:
                night(world, tx, self.allowed)
        elif kind < 0.08:
            with Amid(world.store, self.fs, self._beside, self.rng):
                world.store.flush()
        elif kind < 0.14:
            world.store.flush()
            with Amid(world.store, self.fs, self._beside_a_compaction, self.rng):
                world.store.compact(full=self.rng.random() < 0.7)
        elif kind < 0.17:
            world.store.close()
            world.store = self._open()
        else:
            make_write(world, world.store, self.allowed)

    def _beside(self) -> None:
        """A write while others make files; from here on it is acknowledged."""
        make_write(self.world, self.world.store, self.allowed)
        self.note()

    def _beside_a_compaction(self) -> None:
        self._beside()
        if self.rng.random() < 0.5:
            self.world.store.flush()
            self.note()

    def _before(self, what: str, torn: Any) -> None:
        self.calls += 1
        for mode in disk.MODES:
            if (mode == "torn") <= (torn is not None) and self.take(self.calls, mode):
                kept = mode in ("all", "torn") or self.durability == "sync"
                dice = random.Random(f"{self.seed},{self.calls},{mode}")
                with disk.half_done(torn if mode == "torn" else None, dice):
                    found = disk.survivor(self.fs.root, mode, dice)
                case = f"{self.seed},{self.steps},{self.calls},{mode}"
                self.waiting.append(Found(found, self.acked if kept else self.durable, case, what))

    def _settle(self):
        store = self.world.store
        self.seen.setdefault(store.lsn, []).append(self.world.model.digest(TIMES))
        found, self.waiting = self.waiting, []
        yield from found


def night(world: World, tx: Any, allowed: list[str]) -> None:
    """A large transaction as a night of consolidation makes it, mixed with others."""
    world.in_transaction = True
    for _ in range(8):
        make_write(world, tx, allowed)
    world.in_transaction = False


def check_state(found: Found, seen: Seen, *, again: bool) -> None:
    """Raise Lost or Wrong where a disk is not one of the states there were, or cannot be opened."""
    fs = SimulatedFileSystem(found.root)
    what = f"{found.case} ({found.call})"
    if not fs.exists(FOLDER) or not any(n.startswith("MANIFEST") for n in fs.listdir(FOLDER)):
        if found.floor:
            raise Lost(f"{what}: no manifest, but LSN {found.floor} was acknowledged", case=found.case)
        return
    if again:
        fs = crash_again(fs, found)
    try:
        with T4DX.open(FOLDER, dim=DIM, options=options(durability="os"), fs=fs) as store:
            compare(store, found, seen, what)
            report = store.verify("deep")
    except Exception as error:
        raise Lost(f"{what}: {type(error).__name__}: {error}", case=found.case) from None
    if not report.ok:
        raise Wrong(f"{what}: verify(deep): {report.problems[:2]}", case=found.case)
    held = disk.contents(fs.root)
    with T4DX.open(FOLDER, options=options(durability="os"), fs=fs) as store:
        compare(store, found, seen, f"{what}, second open")
    if (changed := disk.contents(fs.root)) != held:
        names = sorted(path for path in held | changed if held.get(path) != changed.get(path))
        raise Wrong(f"{what}: a second open changed {names}", case=found.case)


def compare(store: T4DX, found: Found, seen: Seen, what: str) -> None:
    """The store is at a state that was."""
    if store.lsn < found.floor:
        raise Lost(f"{what}: LSN {store.lsn}, but {found.floor} was acknowledged", case=found.case)
    if store.lsn not in seen:
        raise Wrong(f"{what}: LSN {store.lsn} is half of a batch", case=found.case)
    held = digest(store, TIMES)
    if held not in seen[store.lsn]:
        raise Wrong(f"{what}: {difference(held, seen[store.lsn][-1])}", case=found.case)


def crash_again(fs: SimulatedFileSystem, found: Found) -> SimulatedFileSystem:
    """A second power cut during the recovery from the first; whatever it did must not matter."""
    dice = random.Random(found.case)
    half = SimulatedFileSystem(disk.copy(fs.root), crash_at=dice.randrange(1, 6), seed=dice.randrange(99))
    try:
        T4DX.open(FOLDER, dim=DIM, options=options(durability="os"), fs=half).close()
    except Crash:
        return SimulatedFileSystem(disk.survivor(half.root, dice.choice(disk.MODES[:4]), dice))
    return SimulatedFileSystem(disk.survivor(half.root, "all", dice))


@functools.cache
def calls_of(seed: int, steps: int) -> int:
    """How many calls a workload makes."""
    work = Workload(seed, lambda call, mode: False, steps=steps)
    for _ in work.play():
        pass
    return work.calls


def cases(seed: int, size: int) -> list[str]:
    """`size` counts states, some 100 from each workload."""
    return [f"{seed * 10_000 + n},{STEPS},{min(100, size)}" for n in range(max(1, size // 100))]


def check(case: str) -> int:
    """Case seed,steps,count: a share of a workload's states. Case seed,steps,call,mode: that one."""
    parts = case.split(",")
    seed, steps = int(parts[0]), int(parts[1])
    if len(parts) == 4:
        call, wanted = int(parts[2]), parts[3]
        take = lambda number, mode: number == call and mode == wanted  # noqa: E731
    else:
        share = int(parts[2]) / (4.2 * calls_of(seed, steps))
        take = lambda number, mode: random.Random(f"{case}:{number}:{mode}").random() < share  # noqa: E731
    work, tried = Workload(seed, take, steps=steps), 0
    for found in work.play():
        check_state(found, work.seen, again=random.Random(f"again {found.case}").random() < 0.1)
        tried += 1
    return tried


RUNNER = Runner("crash_states", cases, check, {"pr": 1500, "nightly": 20_000})
