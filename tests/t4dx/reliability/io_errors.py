"""Fail the k-th call to the disk, or the k-th allocation, for every k until a run passes clean.

The store says so by name, keeps answering what it answered, never acknowledges what it may lose, and a
reopen finds all that was acknowledged.
"""

from __future__ import annotations

import errno
import functools
import random
import sys
from types import FrameType
from typing import Any

from reliability import disk
from reliability.crash_states import Found, check_state
from reliability.model import Model, digest
from reliability.operations import DIM, WRITES, World, insert, make_write
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong
from simulated_fs import SimulatedFileSystem

from t4dm.errors import T4DMError
from t4dm.t4dx import T4DX

FOLDER = "store"
TIMES = [1003.0, 1011.0, 1025.0]
STEPS = 16
ASKING = ("refused_write", "update_only_edge", "invalidate", "create_collection", "register_edge_type")
PLAIN = [
    name
    for name, (call, _) in sorted(WRITES.items())
    if call.__module__ == insert.__module__ and name not in ASKING
]
"""Writes that need no answer, so that they can be made on the model first."""
FAULTS = ("eio-forever", "eio", "memory", "enospc", "enospc-forever")
NAMED = (T4DMError, OSError, MemoryError)


class Fault(SimulatedFileSystem):
    """Fails one changing call, or all from there on."""

    def __init__(self, *, kind: str, at: int, seed: int) -> None:
        number = errno.ENOSPC if kind.startswith("enospc") else errno.EIO
        super().__init__(seed=seed, fail_at=at, error=number, forever=kind.endswith("forever"))


class Memory:
    """Raises MemoryError at the k-th call of a function of the engine while it is active."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __enter__(self) -> Memory:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and "/t4dm/t4dx/" in frame.f_code.co_filename:
            self.calls += 1
            if self.calls == self.at:
                sys.setprofile(None)
                raise MemoryError  # without a text, as Python raises it


class Workload:
    """Some writes, a flush, a merge, a transaction; goes on after a failure as a program would, by
    reopening.
    """

    def __init__(self, seed: int, fs: SimulatedFileSystem, memory: Memory | None) -> None:
        self.rng, self.fs, self.memory = random.Random(seed), fs, memory
        self.world = World(self.rng, [f"i{n}" for n in range(8)])
        self.allowed = sorted({"insert", *(name for name in PLAIN if self.rng.random() < 0.7)})
        self.options = options(
            durability="sync", memtable_items=12, max_deltas=2, max_segments=2, txn_part_bytes=300
        )
        self.possible: list[Model] = [self.world.model]
        self.acked, self.failed, self.what = 0, False, ""

    def play(self) -> None:
        """Until the first failure, or to the end."""
        store = self._try(
            lambda: T4DX.open(FOLDER, dim=DIM, options=self.options, clock=self.world.clock, fs=self.fs)
        )
        if store is None:
            return
        self.world.store = store
        for step in range(STEPS):
            before = self.world.model.copy()
            done = self._try(lambda step=step: self._step(step))
            if done is None:
                self.possible = [before, self.world.model]
                self._answers_still(before)
                self._try_close()
                return
            self.possible, self.acked = [self.world.model], store.lsn
        self._try(store.close)

    def _step(self, step: int) -> bool:
        world = self.world
        if step % 5 == 4:
            world.store.flush() if step % 2 else world.store.compact()
        elif step == 7:
            with Both(world) as tx:
                for _ in range(4):
                    make_write(world, tx, self.allowed)
        else:
            make_write_first(world, self.allowed)
        return True

    def _try(self, call: Any) -> Any:
        try:
            if self.memory is None:
                return call() or True
            with self.memory:
                return call() or True
        except NAMED as error:
            self.failed, self.what = True, f"{type(error).__name__}: {error}"
            return None

    def _answers_still(self, before: Model) -> None:
        """After a failed write the reads go on with the old state or with the new one, never with half."""
        try:
            held = digest(self.world.store, TIMES)
        except T4DMError:
            return
        if held not in [model.digest(TIMES) for model in self.possible]:
            raise Wrong(f"after {self.what}: reads answer neither the state before nor the one after")

    def _try_close(self) -> None:
        try:
            self.world.store.close()
        except NAMED as error:
            self.what += f", then close: {error}"


class Both:
    """A transaction whose model changes are made also when the commit fails: it may have happened."""

    def __init__(self, world: World) -> None:
        self.world, self.tx = world, world.store.transaction()

    def __enter__(self) -> Any:
        self.world.in_transaction = True
        return self.tx.__enter__()

    def __exit__(self, *what: Any) -> Any:
        self.world.in_transaction = False
        return self.tx.__exit__(*what)


class _Recorder:
    """Takes the place of the store: keeps the calls, so that the model can go first."""

    def __init__(self, store: Any) -> None:
        self.store, self.calls = store, []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


def make_write_first(world: World, allowed: list[str]) -> None:
    """A random write, on the model first: when the store fails, both the old state and this one are
    possible.
    """
    recorder = _Recorder(world.store)
    make_write(world, recorder, allowed)
    for name, args, kwargs in recorder.calls:
        getattr(world.store, name)(*args, **kwargs)


@functools.cache
def clean(seed: int, kind: str) -> int:
    """How many calls a run without a fault makes."""
    memory = Memory(0) if kind == "memory" else None
    fs = SimulatedFileSystem(seed=seed)
    work = Workload(seed, fs, memory)
    work.play()
    if work.failed:
        raise Wrong(f"the workload {seed} fails without a fault: {work.what}")
    return memory.calls if memory is not None else fs.calls


def check_one(seed: int, kind: str, at: int) -> None:
    """One fault; then all kinds of disks that a power cut could leave."""
    case = f"{seed},{kind},@{at}"
    memory = Memory(at) if kind == "memory" else None
    fs = SimulatedFileSystem(seed=seed) if memory else Fault(kind=kind, at=at, seed=seed)
    work = Workload(seed, fs, memory)
    try:
        work.play()
    except Wrong as fault:
        raise Wrong(f"{kind} at call {at}: {fault.message}", case=case) from None
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise Wrong(
            f"{kind} at call {at}: no named error but {type(error).__name__}: {error}", case=case
        ) from None
    seen = _Possible([model.digest(TIMES) for model in work.possible])
    for mode in ("all", "synced"):
        found = Found(
            disk.survivor(fs.root, mode, random.Random(at)), work.acked, case, f"{kind}, {work.what}"
        )
        check_state(found, seen, again=False)  # type: ignore[arg-type]
    if work.acked and not fs.exists(FOLDER):
        raise Lost(f"{kind} at call {at}: the store is gone", case=case)


class _Possible(dict[int, list[Any]]):
    """The states that may be found, at whatever LSN."""

    def __init__(self, states: list[Any]) -> None:
        super().__init__()
        self.states = states

    def __contains__(self, lsn: object) -> bool:
        return True

    def __missing__(self, lsn: int) -> list[Any]:
        return self.states


def cases(seed: int, size: int) -> list[str]:
    """`size` workloads. One: every k for one kind of fault, every third for the others; more: every k for
    all.
    """
    strides = {kind: 1 if size > 1 or kind == "eio" else 3 for kind in FAULTS}
    return [f"{seed * 1000 + n},{kind},{stride}" for n in range(size) for kind, stride in strides.items()]


def check(case: str) -> int:
    """Case seed,fault,stride: every so many k, for memory some 150 or 450. Case seed,fault,@k: one."""
    seed, kind, number = case.split(",")
    if number.startswith("@"):
        check_one(int(seed), kind, int(number[1:]))
        return 1
    total = clean(int(seed), kind)
    stride = max(1, total * int(number) // 450) if kind == "memory" else int(number)
    where = range(1 + int(seed) % stride, total + 1, stride)
    for at in where:
        check_one(int(seed), kind, at)
    return len(where)


RUNNER = Runner("io_errors", cases, check, {"pr": 1, "nightly": 10})
