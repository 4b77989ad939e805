"""Moves that need more than the store itself: others at work, readers that follow, copies, files, repairs."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from reliability import disk
from reliability.interleaving import Amid
from reliability.moves import MOVES, move
from reliability.operations import DIM, make_write
from reliability.options import options
from reliability.rows import Wrong
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import T4DX, backup_store, export_store, import_store, repair_store, verify_folder

if TYPE_CHECKING:
    from reliability.model_ops import Play

FOLDER = "store"
BESIDE = (
    *("write", "write", "write", "transaction", "undone_beside"),
    *("snapshot", "read_only", "follow", "verify"),
)


@move(5)
def flush_beside_others(play: Play) -> None:
    """Writes, transactions, snapshots and a compaction while a flush writes its files."""
    make_write(play.world, play.world.store, play.allowed)
    full = play.rng.random() < 0.5
    with Amid(play.world.store, play.fs, lambda: beside(play, lambda: compact_now(play, full)), play.rng):
        play.world.store.flush()
    play.compare(what="after a flush beside others")


@move(4)
def compact_beside_others(play: Play) -> None:
    """The same while a compaction rewrites segments or columns."""
    play.world.store.flush()
    with Amid(play.world.store, play.fs, lambda: beside(play, play.world.store.flush), play.rng):
        play.world.store.compact(full=play.rng.random() < 0.4)
    play.compare(what="after a compaction beside others")


def compact_now(play: Play, full: bool) -> None:
    """What the compacting thread does beside the flushing one."""
    play.world.store._upkeep.compact(full=full)


def beside(play: Play, other) -> None:
    """One to three things that others do."""
    for _ in range(play.rng.randrange(1, 4)):
        name = play.rng.choice((*BESIDE, "other"))
        if name == "other":
            other()
        elif name == "write":
            make_write(play.world, play.world.store, play.allowed)
        elif name == "undone_beside":
            undone_beside(play)
        else:
            MOVES[name][0](play)
        play.compare(what=f"after {name} amid background work")


def undone_beside(play: Play) -> None:
    """A transaction is made and taken back, both while the files are written."""
    world, kept, name = play.world, play.world.model.copy(), f"beside-{play.rng.random()}"
    with world.store.transaction(id=name, undo=True) as tx:
        world.in_transaction = True
        for _ in range(play.rng.randrange(1, 5)):
            make_write(world, tx, play.allowed)
        world.in_transaction = False
    world.store.undo(name)
    world.model.become(kept)


@move(3)
def follow(play: Play) -> None:
    """A reader of another process keeps its store open and refreshes it; what it took before stays."""
    if play.follower is None:
        play.follower = T4DX.open(FOLDER, read_only=True, options=play.options, fs=play.fs, key=play.key)
    elif play.follower.refresh() != play.world.store.lsn:
        raise Wrong(f"a refreshed reader is at {play.follower.lsn}, the writer at {play.world.store.lsn}")
    play.compare(play.follower, what="a reader that follows")
    for taken, model in play.seen_by_follower:
        play.compare(taken, model, what="a snapshot of a reader that follows")
    play.seen_by_follower = [
        *play.seen_by_follower[-1:],
        (play.follower.snapshot(), play.world.model.copy()),
    ]


@move(2)
def open_amid_removals(play: Play) -> None:
    """Between any two reads of files by a reader that opens, the writer flushes, merges and cleans up."""
    make_write(play.world, play.world.store, play.allowed)
    reads, inside = [play.rng.randrange(8)], []

    def on_read() -> None:
        reads[0] -= 1
        if reads[0] < 0 and not inside:
            inside.append(True)
            play.world.store.flush()
            play.world.store.compact()

    play.fs.on_read = on_read
    try:
        with T4DX.open(FOLDER, read_only=True, options=play.options, fs=play.fs, key=play.key) as reader:
            play.compare(reader, what="a reader that opened amid removals")
    finally:
        play.fs.on_read = None


@move(1)
def backup_from_outside(play: Play) -> None:
    """Another process copies the folder while the writer goes on."""
    play.copies += 1
    target, model = f"copy-{play.copies}", play.world.model.copy()
    lsn = backup_store(FOLDER, target, key=play.key, fs=play.fs, link=play.rng.random() < 0.5)
    if lsn != play.world.store.lsn:
        raise Wrong(f"a copy from outside holds LSN {lsn}, the store was at {play.world.store.lsn}")
    make_write(play.world, play.world.store, play.allowed)
    play.world.store.flush()
    with T4DX.open(target, options=play.options, clock=play.world.clock, fs=play.fs, key=play.key) as copied:
        play.compare(copied, model, what="a copy from outside")
    play.fs.remove_tree(target)


@move(1)
def export_and_import(play: Play) -> None:
    """All versions to a file of lines and into another store: the same now and at any moment before."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/all.jsonl"
        export_store(play.world.store, path, history=True)
        other = SimulatedFileSystem(seed=play.copies)
        chosen = options(durability="os", memtable_items=9)
        with T4DX.open("other", dim=DIM, options=chosen, clock=play.world.clock, fs=other) as copied:
            import_store(copied, path, batch=play.rng.choice((3, 1000)))
            play.compare(copied, what="an import of an export")
            copied.compact()
            play.compare(copied, what="a compacted import")


@move(1)
def repair_nothing(play: Play) -> None:
    """The repair of a sound store says that it is sound, and changes nothing but its lock."""
    play.world.store.close()
    before = disk.contents(play.fs.root)
    for dry_run in (True, False):
        report = repair_store(FOLDER, dry_run=dry_run, key=play.key, fs=play.fs)
        if not report.ok or report.quarantined or report.lost_items or report.lost_edges:
            raise Wrong(f"a repair of a sound store: {report}")
    if (after := disk.contents(play.fs.root)) != before:
        raise Wrong(f"a repair changed a sound store: {sorted(set(before.items()) ^ set(after.items()))[:2]}")
    if not (report := verify_folder(FOLDER, "deep", key=play.key, fs=play.fs)).ok:
        raise Wrong(f"verify from outside: {report.problems[:2]}")
    play.open()
    play.compare(what="after a repair of nothing")
