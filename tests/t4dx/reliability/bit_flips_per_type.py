"""Damage every kind of file: the right answers, or an error that names the file; never a wrong answer."""

from __future__ import annotations

import functools
import random
import re

import numpy as np
from reliability import disk, more_operations, operations
from reliability.model import digest
from reliability.operations import DIM, World, make_write
from reliability.options import options
from reliability.rows import Runner, Wrong
from simulated_fs import Folder, SimulatedFileSystem

from t4dm.errors import CorruptionError, StoreFormatError
from t4dm.t4dx import BOTH, T4DX, Filter, verify_store

TABLES = (more_operations,)
"""Imported for the operations that they enter."""
FOLDER = "store"
HEADER = 128
GRAPH = 4  # vectors from which on a segment has a graph
DAMAGES = ("flip", "flip", "header", "truncate", "zero", "swap", "append")
NAMED = (CorruptionError, StoreFormatError)


@functools.cache
def disk_of(seed: int) -> tuple[Folder, tuple[str, int]]:
    """A store with several segments, overlays in delta files, a log, all of it synced; and its answers."""
    world, fs = World(random.Random(seed), [f"i{n}" for n in range(12)]), SimulatedFileSystem(seed=seed)
    chosen = options(durability="sync", max_deltas=9, max_segments=9, index_rows=GRAPH)
    world.store = T4DX.open(FOLDER, dim=DIM, options=chosen, clock=world.clock, fs=fs)
    every = [name for name in sorted(operations.WRITES) if name != "refused_write"]
    for step in range(60):
        make_write(world, world.store, every)
        if step in (20, 30, 45):
            world.store.flush()
    world.store.build_graphs()
    world.store.close()
    root = disk.copy(fs.root)
    return root, answers(disk.copy(root))


def answers(root: Folder) -> tuple[str, int]:
    """What a store says to every kind of question, and how many graphs it has made ready."""
    fs = SimulatedFileSystem(root)
    with T4DX.open(FOLDER, options=options(durability="os", index_rows=GRAPH), fs=fs) as store:
        held = digest(store, [1010.0, 1040.0])
        query = np.array([1.0, -0.5, 0.25, 0.1], np.float32)
        hits = [(h.id, h.score) for h in store.search(query, 5)]
        filtered = store.search(query, 5, Filter(kappa=(0.1, 1.0), session="a")).ids
        paths = [path.nodes for path in store.traverse("i1", depth=3, direction=BOTH)]
        store.build_graphs()  # a damaged one is built again
        graphs = store.stats()["graphs"]["ready"]
        return repr((held, hits, filtered, paths)), graphs


def kinds(root: Folder) -> dict[str, list[str]]:
    """Files by type, whatever types there are."""
    found: dict[str, list[str]] = {}
    for path in disk.files(root):
        found.setdefault(kind_of(path), []).append(path)
    return {kind: paths for kind, paths in sorted(found.items()) if kind != "LOCK"}


def kind_of(path: str) -> str:
    """wal, MANIFEST, delta, graphs, and for files of segments the name without its number."""
    name = path.rpartition("/")[2]
    stem = re.sub(r"[-.]?\d+", "", name).split(".")[0]
    if "/graphs/" in path:
        return "graphs"
    if "/segments/" in path:
        for group in ("item_", "edge_"):
            if stem.startswith(group) and stem != "item_id":
                return f"{group}columns"
        if stem in ("ids", "id_ends", "id_hash", "item_id"):
            return "ids"
        if stem in ("source", "target"):
            return "adjacency"
        if stem in ("texts", "text_ends", "props", "prop_ends", "sessions"):
            return "texts"
    return stem


def check_one(seed: int, kind: str, number: int) -> None:
    """One damage of one file."""
    root, right = disk_of(seed)
    case = f"{seed},{kind},@{number}"
    rng = random.Random(case)
    paths = kinds(root)[kind]
    path = paths[number % len(paths)]
    damaged = disk.copy(root)
    file = disk.file_at(damaged, path)
    done = damage(file.data, root, path, paths, rng)
    file.synced = bytes(file.data)
    what = f"{path}: {done}"
    try:
        said = answers(disk.copy(damaged))
    except NAMED as error:
        if not str(error):
            raise Wrong(f"{what}: an error without a word", case=case) from None
        return
    except Exception as error:
        raise Wrong(f"{what}: {type(error).__name__}: {error}", case=case) from None
    if said[0] != right[0] and not tail_of_log(kind, done):
        raise Wrong(f"{what}: another answer, and no error", case=case)
    if said[1] != right[1] and not tail_of_log(kind, done) and not told(damaged, path):
        raise Wrong(f"{what}: {said[1]} graphs instead of {right[1]}, and no error", case=case)
    if number % 8 == 0:
        verify_store(SimulatedFileSystem(damaged), FOLDER, "deep")


def told(damaged: Folder, path: str) -> bool:
    """Whether a full check names the damaged file: vectors that no question touches still make no graph."""
    report = verify_store(SimulatedFileSystem(disk.copy(damaged)), FOLDER, "full")
    return any(path.removeprefix(f"{FOLDER}/") in problem for problem in report.problems)


def damage(data: bytearray, root: Folder, path: str, paths: list[str], rng: random.Random) -> str:
    """Change the bytes; says what was done."""
    kind = rng.choice(DAMAGES)
    if kind in ("flip", "header"):
        at = rng.randrange(min(len(data), HEADER) if kind == "header" else len(data))
        data[at] ^= 1 << rng.randrange(8)
        return f"bit flipped in byte {at}"
    if kind == "truncate":
        size = rng.randrange(len(data))
        del data[size:]
        return f"cut to {size} bytes"
    if kind == "zero":
        at = rng.randrange(len(data)) // 512 * 512
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        return f"zeros from byte {at}"
    if kind == "append":
        data += rng.randbytes(rng.randrange(1, 50))
        return "bytes appended"
    other = rng.choice(paths)
    data[:] = disk.file_at(root, other).data
    return f"replaced by {other}"


def tail_of_log(kind: str, done: str) -> bool:
    """A log that only ends early looks like one that the crash cut: no later record speaks."""
    return kind == "wal" and done.startswith(("cut to", "zeros from"))


def cases(seed: int, size: int) -> list[str]:
    """`size` damages for every type of file."""
    return [
        f"{seed},{kind},{start},{min(start + 50, size)}"
        for kind in kinds(disk_of(seed)[0])
        for start in range(0, size, 50)
    ]


def check(case: str) -> int:
    """Case seed,type,first,last: many. Case seed,type,@number: one."""
    seed, kind, *numbers = case.split(",")
    if numbers[0].startswith("@"):
        check_one(int(seed), kind, int(numbers[0][1:]))
        return 1
    for number in range(int(numbers[0]), int(numbers[1])):
        check_one(int(seed), kind, number)
    return int(numbers[1]) - int(numbers[0])


RUNNER = Runner("bit_flips_per_type", cases, check, {"pr": 200, "nightly": 2000})
