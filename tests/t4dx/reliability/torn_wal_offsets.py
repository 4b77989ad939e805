"""Damage the log at any byte: what is found is the state of the whole records before it, or a named refusal.

A damaged record with an intact one behind it, in a log that was synced after each, must be refused: those
were acknowledged. In a log that was never synced everything behind the damage is a torn tail.
"""

from __future__ import annotations

import functools
import random
from bisect import bisect_right
from typing import NamedTuple

import numpy as np
from reliability import disk
from reliability.model import difference, digest
from reliability.operations import DIM, World, make_write
from reliability.options import options
from reliability.rows import Lost, Runner, Wrong
from simulated_fs import Folder, SimulatedFileSystem

from t4dm.errors import CorruptionError
from t4dm.t4dx import T4DX, Item

FOLDER = "store"
RECORDS = 200
KINDS = ("truncate", "zeros", "block", "garbage", "stale", "flip", "twice", "dropped")
KEY = b"a key of the user's own"
LIGHT = [
    "insert_edges",
    "merge_kappa",
    "update_edge_weight",
    "delete_edge",
    "update_learning",
    "insert_small",
]


class Log(NamedTuple):
    """A store with a long log: its disk, where each record ends, the state at each LSN, and an older log."""

    root: Folder
    path: str
    ends: list[int]  # ends[0] is the end of the file's header
    lsns: list[int]
    seen: dict[int, tuple[object, ...]]
    old: bytes


@functools.cache
def log(durability: str, records: int = RECORDS) -> Log:
    """Write `records` small batches behind one flush; the process is killed there."""
    world, fs = World(random.Random(5), [f"i{n}" for n in range(6)]), SimulatedFileSystem()
    chosen = options(durability=durability)
    world.store = store = T4DX.open(FOLDER, dim=DIM, options=chosen, clock=world.clock, fs=fs)
    for _ in range(40):
        step(world)
    old = bytes(disk.file_at(fs.root, wal_path(fs.root)).data[: store.stats()["wal_bytes"]])
    store.flush()
    ends, lsns = [store.stats()["wal_bytes"]], [store.lsn]
    seen = {store.lsn: world.model.digest([])}
    while len(ends) <= records:
        step(world)
        if store.lsn > lsns[-1]:
            ends.append(store.stats()["wal_bytes"])
            lsns.append(store.lsn)
            seen[store.lsn] = world.model.digest([])
    return Log(disk.copy(fs.root), wal_path(fs.root), ends, lsns, seen, old)


def step(world: World) -> None:
    """One small write."""
    world.clock.now += 1.0
    name = world.rng.choice(LIGHT)
    if name == "insert_small" or not any(world.model.current(i) for i in world.model.items):
        item = Item(id=world.rng.choice(world.ids), kappa=world.rng.random())
        world.store.insert(item)
        world.model.insert([item], [], world.clock.now)
    else:
        make_write(world, world.store, [name])


def wal_path(root: Folder) -> str:
    """The log in force: the newest."""
    return max(path for path in disk.files(root) if "/wal-" in path)


def damage(found: Log, kind: str, at: int, rng: random.Random) -> tuple[Folder, int, bool]:
    """The disk damaged from byte `at`; how many records lie whole before it, and whether one lies whole
    behind.
    """
    root = disk.copy(found.root)
    file = disk.file_at(root, found.path)
    data, end = bytes(file.data), found.ends[-1]
    record = min(max(bisect_right(found.ends, at) - 1, 0), len(found.ends) - 2)
    start, stop = found.ends[record], found.ends[record + 1]
    span = (at, end)
    if kind == "truncate":
        new = data[:at]
    elif kind == "zeros":
        new = data[:at] + bytes(len(data) - at)
    elif kind == "block":
        span = (at, min(at + 512, end))
        new = data[:at] + bytes(span[1] - at) + data[span[1] :]
    elif kind == "garbage":
        new = data[:at] + rng.randbytes(end - at) + data[end:]
    elif kind == "stale":
        new = data[:at] + found.old[at:end].ljust(end - at, b"\0") + data[end:]
    elif kind == "flip":
        span = (at, at + 1)
        new = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    elif kind == "twice":
        span = (stop, end)
        new = data[:stop] + data[start:]
    else:
        span = (start, stop)
        new = data[:start] + data[stop:]
    file.data[:] = new
    file.synced = bytes(new)
    changed = first_difference(data, new)
    whole = bisect_right(found.ends, changed) - 1
    behind = kind in ("block", "flip", "twice", "dropped") and span[1] <= found.ends[-2] and changed < end
    return root, whole, behind


def first_difference(one: bytes, other: bytes) -> int:
    """Where two strings part, or the shorter one ends."""
    size = min(len(one), len(other))
    differ = np.frombuffer(one[:size], np.uint8) != np.frombuffer(other[:size], np.uint8)
    return int(differ.argmax()) if differ.any() else size


def check_one(durability: str, kind: str, at: int, seed: int, *, further: bool = True) -> None:
    """Damage, open, compare; `further`: write behind the cut and open again."""
    found, what = log(durability), f"{durability} log, {kind} at byte {at}"
    case = f"{durability},{kind},@{at},{seed}"
    root, whole, behind = damage(found, kind, at, random.Random(seed))
    fs = SimulatedFileSystem(root)
    try:
        store = T4DX.open(FOLDER, options=options(durability="os"), fs=fs)
    except CorruptionError as error:
        if whole >= 0 and durability == "os":
            raise Wrong(f"{what}: refused ({error}), but it was never synced", case=case) from None
        return
    if store.lsn < found.lsns[whole] or whole < 0:
        raise Lost(f"{what}: LSN {store.lsn}, but {whole} records lie whole before it", case=case)
    if store.lsn not in found.seen or store.lsn > found.lsns[whole]:
        raise Wrong(f"{what}: LSN {store.lsn} from {whole} whole records", case=case)
    if whole < len(found.ends) - 1 and behind and durability == "sync":
        raise Lost(f"{what}: record {whole + 1} was acknowledged as synced and dropped in silence", case=case)
    if (held := digest(store, [])) != found.seen[store.lsn]:
        raise Wrong(f"{what}: {difference(held, found.seen[store.lsn])}", case=case)
    if not further:
        return
    store.insert(Item(id="behind the cut"))
    lsn = store.lsn
    with T4DX.open(FOLDER, read_only=True, fs=SimulatedFileSystem(disk.copy(fs.root))) as again:
        if again.lsn != lsn or again.get("behind the cut") is None:
            raise Lost(f"{what}: what was written behind the cut is gone", case=case)


def cases(seed: int, size: int) -> list[str]:
    """`size` random offsets, and twice as many within three bytes of a record's edge; 0: every offset. And
    records of a signed log in the place of others.
    """
    plain = [f"{durability},{kind},{seed},{size}" for durability in ("sync", "os") for kind in KINDS]
    return [*plain, f"keyed,splice,{seed},{size or 5000}"]


@functools.cache
def signed(turn: int) -> tuple[Folder, str, list[int], tuple[object, ...]]:
    """A signed log of 60 records of one size each, with its salt; another turn writes other values."""
    fs = SimulatedFileSystem()
    clock = World(random.Random(0), []).clock
    with T4DX.open(FOLDER, dim=DIM, options=options(durability="sync"), clock=clock, fs=fs, key=KEY) as store:
        ends = [store.stats()["wal_bytes"]]
        for number in range(60):
            store.insert(Item(id=f"n{number:02}", content=f"turn {turn}", kappa=0.25 * turn))
            ends.append(store.stats()["wal_bytes"])
        held = digest(store, [])
    return disk.copy(fs.root), wal_path(fs.root), ends, held


def check_splice(seed: int, number: int) -> None:
    """Whole records, signed with the right key at the same place of another history, are not this log's."""
    rng, case = random.Random(f"{seed},{number}"), f"keyed,splice,@{number},{seed}"
    (root, path, ends, held), (other, _, twins, _) = signed(1), signed(2)
    if ends != twins:
        raise Wrong("the two histories do not fit each other", case=case)
    first = rng.randrange(len(ends) - 1)
    last = rng.choice((first + 1, rng.randrange(first + 1, len(ends))))
    damaged = disk.copy(root)
    file = disk.file_at(damaged, path)
    file.data[ends[first] : ends[last]] = disk.file_at(other, path).data[ends[first] : ends[last]]
    file.synced = bytes(file.data)
    try:
        with T4DX.open(FOLDER, read_only=True, fs=SimulatedFileSystem(damaged), key=KEY) as store:
            if digest(store, []) != held:
                raise Wrong(f"records {first} to {last} of another history were read", case=case)
    except CorruptionError:
        return


def offsets(durability: str, kind: str, seed: int, size: int) -> list[int]:
    """Where to damage."""
    ends = log(durability).ends
    if size == 0:  # a record that is doubled or missing is the same from each of its bytes
        return ends[:-1] if kind in ("twice", "dropped") else list(range(ends[-1]))
    rng = random.Random(f"{seed},{durability},{kind}")
    near = [end + step for end in ends for step in range(-3, 4) if 0 <= end + step < ends[-1]]
    many = size if (kind, durability) == ("truncate", "sync") else size // 16
    share = rng.sample(near, min(len(near), many))
    if kind in ("twice", "dropped"):
        return [rng.choice(ends[:-1]) for _ in range(size // 16)]
    return share + [rng.randrange(ends[-1]) for _ in range(size // 16)]


def check(case: str) -> int:
    """Case durability,kind,seed,size: many offsets. Case durability,kind,at,seed with at >= 0 after "@":
    one.
    """
    durability, kind, *numbers = case.split(",")
    if kind == "splice":
        one = numbers[0].startswith("@")
        seed, many = int(numbers[1] if one else numbers[0]), 1 if one else int(numbers[1]) // 16
        for number in [int(numbers[0][1:])] if one else range(many):
            check_splice(seed, number)
        return many
    if numbers[0].startswith("@"):
        check_one(durability, kind, int(numbers[0][1:]), int(numbers[1]))
        return 1
    where = offsets(durability, kind, int(numbers[0]), int(numbers[1]))
    for place, at in enumerate(where):
        check_one(durability, kind, at, at, further=numbers[1] != "0" or place % 8 == 0)
    return len(where)


RUNNER = Runner("torn_wal_offsets", cases, check, {"pr": 500, "nightly": 0})
