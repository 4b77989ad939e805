"""Random operations on a tiny store and on plain dicts: the same answers, whatever happens in between."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from reliability import disk, more_moves, more_operations, more_questions, operations, questions
from reliability.model import Model, difference, digest
from reliability.moves import MOVES, move
from reliability.operations import World, make_write, swarm
from reliability.options import options, tiny
from reliability.rows import Lost, Runner, Wrong

from t4dm.t4dx import T4DX, Options, sorted_columns

TABLES = (more_operations, more_questions, more_moves)
STEPS = 50
NIGHT = 4000
"""Games from which on there are long ones as well."""
LONG_GAMES, LONG_STEPS, LONG_POOL = 20, 2000, 1000
LONG_QUIET = 0.985
"""Share of writes among the steps of a long game: one in 500 steps closes or kills the store."""
FOLDER = "store"
KEY = b"a key of the user's own"


class Play:
    """One game: a store on a simulated disk against the model."""

    def __init__(self, seed: int, *, pool: int = 12) -> None:
        self.rng = random.Random(seed)
        self.fs = disk.WatchedDisk(seed=seed)
        self.options = tiny(self.rng) if pool < LONG_POOL else roomy(self.rng)
        self.key = KEY if seed % 4 == 3 else None
        self.world = World(self.rng, [f"item-{n}" for n in range(pool)])
        self.allowed = swarm(self.rng)
        self.moves = [name for name in sorted(MOVES) if self.rng.random() < 0.8] or sorted(MOVES)
        self.snapshots: list[tuple[Any, Model]] = []
        self.follower: T4DX | None = None
        self.seen_by_follower: list[tuple[Any, Model]] = []
        self.copies = 0
        self.open(dim=operations.DIM)

    def open(self, dim: int | None = None) -> None:
        """Open, or open again."""
        self.world.store = T4DX.open(
            FOLDER, dim=dim, options=self.options, clock=self.world.clock, fs=self.fs, key=self.key
        )

    def forget(self) -> None:
        """The machine, and every process with it, is gone."""
        self.snapshots.clear()
        self.seen_by_follower.clear()
        self.follower = None

    def step(self, *, quiet: float = 0.85) -> str:
        """One write, or one move; then some reads."""
        if self.rng.random() < quiet:
            name = make_write(self.world, self.world.store, self.allowed)
        else:
            name = self.rng.choices(self.moves, [MOVES[name][1] for name in self.moves])[0]
            self.world.clock.now += 1.0
            MOVES[name][0](self)
        try:
            questions.ask(self.world, 3)
        except Wrong as fault:
            raise Wrong(f"after {name}: {fault.message}") from None
        return name

    def times(self) -> list[float]:
        """Moments to look back at."""
        return [float(self.rng.randrange(1000, int(self.world.clock.now) + 2)) for _ in range(3)]

    def compare(self, store: Any = None, model: Model | None = None, *, what: str = "the store") -> None:
        """Everything the store holds, now and then."""
        times = self.times()
        found = digest(self.world.store if store is None else store, times)
        expected = (model or self.world.model).digest(times)
        if found != expected:
            raise Wrong(f"{what}: {difference(found, expected)}")

    def finish(self) -> None:
        """A last look: everything equal, the files sound, and the same after a reopen."""
        self.compare()
        for level in ("quick", "full", "deep"):
            report = self.world.store.verify(level)
            if not report.ok:
                raise Wrong(f"verify({level}): {report.problems[:2]}")
        reopen(self)
        self.world.store.close()


@move(3)
def flush(play: Play) -> None:
    play.world.store.flush()
    play.compare(what="after a flush")


@move(2)
def compact(play: Play) -> None:
    play.world.store.compact()
    play.compare(what="after a compaction")


@move(2)
def compact_some(play: Play) -> None:
    play.world.store.compact(full=False)
    play.compare(what="after a small compaction")


@move(3)
def reopen(play: Play) -> None:
    play.world.store.close()
    play.open()
    play.compare(what="after a reopen")


@move(3)
def crash(play: Play) -> None:
    """The process is killed (the kernel keeps what was written); at "sync" also any power cut."""
    modes = disk.MODES[:4] if play.options.durability == "sync" else ("all",)
    lsn, mode = play.world.store.lsn, play.rng.choice(modes)
    play.fs = disk.WatchedDisk(disk.survivor(play.fs.root, mode, play.rng))
    play.forget()
    play.open()
    if play.world.store.lsn < lsn:
        raise Lost(
            f"after a crash ({mode}) the store is at LSN {play.world.store.lsn}, it had acknowledged {lsn}"
        )
    play.compare(what=f"after a crash ({mode})")


@move(6)
def transaction(play: Play) -> None:
    world = play.world
    before = digest(world.store, [])
    with world.store.transaction() as tx:
        world.in_transaction = True
        for _ in range(play.rng.randrange(1, 8)):
            make_write(world, tx, play.allowed)
        world.in_transaction = False
        if digest(world.store, []) != before:
            raise Wrong("a transaction was seen before it committed")
    play.compare(what="after a transaction")


@move(2)
def dropped_transaction(play: Play) -> None:
    world, kept = play.world, play.world.model.copy()
    try:
        with world.store.transaction() as tx:
            world.in_transaction = True
            for _ in range(play.rng.randrange(1, 5)):
                make_write(world, tx, play.allowed)
            raise KeyError("dropped")
    except KeyError:
        pass
    world.in_transaction = False
    world.model.become(kept)
    play.compare(what="after a dropped transaction")


@move(2)
def undone_transaction(play: Play) -> None:
    """A transaction with an id is taken back: nothing of it is left, now or in the past."""
    world, kept, name = play.world, play.world.model.copy(), f"night-{play.rng.random()}"
    with world.store.transaction(id=name, undo=True) as tx:
        world.in_transaction = True
        for _ in range(play.rng.randrange(1, 7)):
            make_write(world, tx, play.allowed)
        world.in_transaction = False
    play.compare(what="after a transaction with an id")
    if play.rng.random() < 0.5:
        MOVES[play.rng.choice(("flush", "compact", "reopen"))][0](play)
    world.store.undo(name)
    world.model.become(kept)
    play.compare(what="after an undo")


@move(3)
def snapshot(play: Play) -> None:
    """Look again at the snapshots that are kept; take another."""
    for taken, model in play.snapshots:
        play.compare(taken, model, what="a snapshot")
    play.snapshots = [*play.snapshots[-2:], (play.world.store.snapshot(), play.world.model.copy())]


@move(1)
def backup(play: Play) -> None:
    """A backup opens like a store and holds the same; it stays as it was while the store goes on."""
    play.copies += 1
    target = f"copy-{play.copies}"
    play.world.store.backup(target)
    with T4DX.open(target, options=play.options, clock=play.world.clock, fs=play.fs, key=play.key) as copied:
        play.compare(copied, what="a backup")
        report = copied.verify("deep")
        if not report.ok:
            raise Wrong(f"verify of a backup: {report.problems[:2]}")
    if play.rng.random() < 0.3:  # go on in the restored copy
        play.world.store.close()
        play.fs.rename(FOLDER, f"old-{play.copies}")
        play.fs.rename(target, FOLDER)
        play.fs.sync_dir("")
        play.follower = None
        play.seen_by_follower.clear()
        play.open()
    else:
        play.fs.remove_tree(target)


@move(1)
def read_only(play: Play) -> None:
    """A reader beside the writer sees the present, changes no byte, and writes nothing."""
    calls = play.fs.calls
    with T4DX.open(FOLDER, read_only=True, options=play.options, fs=play.fs, key=play.key) as reader:
        play.compare(reader, what="a reader beside the writer")
        operations.refuses(lambda: reader.delete(play.world.ids[0]))
        operations.refuses(reader.flush)
    if play.fs.calls != calls:
        raise Wrong(f"a reader changed the disk: {play.fs.log[calls:]}")


@move(1)
def second_writer(play: Play) -> None:
    operations.refuses(lambda: T4DX.open(FOLDER, options=play.options, fs=play.fs, key=play.key))


@move(1)
def verify(play: Play) -> None:
    report = play.world.store.verify("deep")
    if not report.ok:
        raise Wrong(f"verify(deep): {report.problems[:2]}")


def roomy(rng: random.Random) -> Options:
    """Thresholds for long games: segments of a hundred items, several of them to merge."""
    return options(
        durability=rng.choice(("sync", "os")),
        memtable_items=rng.choice((100, 250)),
        memtable_bytes=rng.choice((2**15, 2**20)),
        max_deltas=rng.choice((2, 4)),
        max_segments=rng.choice((3, 6)),
        txn_part_bytes=rng.choice((200, 10_000)),
    )


def cases(seed: int, size: int) -> list[str]:
    """Games of 50 steps, every tenth with many ids; `size` counts them. A night begins with long games."""
    first = seed * 100_000
    long = [f"{first + size + n},{LONG_STEPS},{LONG_POOL}" for n in range(LONG_GAMES if size >= NIGHT else 0)]
    return [*long, *[f"{first + n},{STEPS},{12 if n % 10 else 40}" for n in range(size)]]


@contextlib.contextmanager
def orders_at_once() -> Iterator[None]:
    """Columns of any size are kept in order from their first comparison on, and asked whatever passes."""
    wanted = {"FEWEST": 1, "OFTEN": 1, "NARROW": 1.0}
    before = {name: getattr(sorted_columns, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(sorted_columns, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(sorted_columns, name, value)


def check(case: str) -> int:
    """One game; every second one with columns in order."""
    seed = int(case.split(",")[0])
    with orders_at_once() if seed % 2 else contextlib.nullcontext():
        return play_one(case)


def play_one(case: str) -> int:
    """A game from its first step to its last look."""
    seed, steps, pool = map(int, case.split(","))
    play, quiet = Play(seed, pool=pool), 0.85 if pool < LONG_POOL else LONG_QUIET
    for number in range(steps):
        try:
            play.step(quiet=quiet)
        except (Lost, Wrong) as fault:
            raise type(fault)(f"step {number}: {fault.message}") from None
    play.finish()
    return steps


RUNNER = Runner("model_ops", cases, check, {"pr": 200, "nightly": NIGHT})
