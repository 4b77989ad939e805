"""Faults that an engine could have, each switched on for the length of a `with` block.

The first kind forgets or swaps what must reach the disk; it is made on the simulated disk, where a call that
is ignored is the same as one that was never made. The second kind breaks the logic of the engine.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import simulated_fs
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import (
    T4DX,
    blobs,
    deltas,
    files,
    item_reads,
    journal,
    logread,
    manifest,
    ops,
    planner,
    replay,
    segment,
    state,
    tables,
    wal,
    zone_maps,
)
from t4dm.t4dx.state import State

Patch = Callable[["Bench"], None]


class Bench:
    """Replaces attributes and puts them back."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace `owner.name` by `make(original)`; a name that is gone is an error, not a mutant."""
        old = vars(owner)[name]
        plain = old.__func__ if isinstance(old, staticmethod | classmethod) else old
        self._old.append((owner, name, old))
        setattr(owner, name, make(plain))

    def undo(self) -> None:
        """As it was."""
        for owner, name, old in reversed(self._old):
            setattr(owner, name, old)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault and the runs that must notice it: (runner, size or case), tried in order until one does."""

    name: str
    patch: Patch
    killers: tuple[tuple[str, int | str], ...]

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """The fault is in the engine."""
        bench = Bench()
        try:
            self.patch(bench)
            yield
        finally:
            bench.undo()


MUTANTS: dict[str, Mutant] = {}
CRASH = (("crash_states", 400), ("crash_states", 1500))
GAMES = (("model_ops", 12), ("model_ops", 60), ("model_ops", 200))


def mutant(*killers: tuple[str, int | str]) -> Callable[[Patch], Patch]:
    """Register a fault."""

    def enter(patch: Patch) -> Patch:
        MUTANTS[patch.__name__] = Mutant(patch.__name__, patch, killers)
        return patch

    return enter


def _skip(call: str, path_holds: str) -> Patch:
    """A disk on which one kind of call for one kind of path is never made."""

    def patch(bench: Bench) -> None:
        def make(original: Any) -> Any:
            def method(self: Any, path: str, *rest: Any) -> Any:
                return None if fits(path) else original(self, path, *rest)

            return method

        def fits(path: str) -> bool:
            return path == path_holds[1:] if path_holds.startswith("=") else path_holds in path

        bench.wrap(SimulatedFileSystem, call, make)

    return patch


for _name, _call, _path in (
    ("manifest_is_not_synced", "sync_file", "MANIFEST"),
    ("segment_files_are_not_synced", "sync_file", "/segments/"),
    ("delta_files_are_not_synced", "sync_file", "/deltas/"),
    ("store_folder_is_not_synced", "sync_dir", "=store"),
    ("segments_folder_is_not_synced", "sync_dir", "=store/segments"),
    ("new_segment_folder_is_not_synced", "sync_dir", "/.tmp-"),
    ("deltas_folder_is_not_synced", "sync_dir", "=store/deltas"),
):
    MUTANTS[_name] = Mutant(_name, _skip(_call, _path), CRASH)


@mutant(*CRASH)
def log_is_not_synced(bench: Bench) -> None:
    bench.wrap(simulated_fs._Log, "sync", lambda original: lambda self: None)


@mutant(*CRASH)
def manifest_gets_its_name_before_it_is_synced(bench: Bench) -> None:
    def sync_file(original: Any) -> Any:
        return lambda self, path: None if path.endswith(".tmp") else original(self, path)

    def rename(original: Any) -> Any:
        def method(self: Any, source: str, target: str) -> None:
            original(self, source, target)
            if "MANIFEST" in target:
                self.sync_dir(target.rpartition("/")[0])
                self.sync_file(target)

        return method

    bench.wrap(SimulatedFileSystem, "sync_file", sync_file)
    bench.wrap(SimulatedFileSystem, "rename", rename)


@mutant(("io_errors", "77000,eio-forever,2"), ("io_errors", "77001,eio,1"))
def a_failed_write_to_the_log_is_ignored(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def write(self: Any, data: bytes, at: int) -> None:
            with contextlib.suppress(OSError):
                original(self, data, at)

        return write

    bench.wrap(simulated_fs._Log, "write", make)


@mutant(("io_errors", "77000,eio-forever,1"), ("io_errors", "77001,eio,1"))
def a_failed_fsync_of_the_log_is_ignored(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def sync(self: Any) -> None:
            with contextlib.suppress(OSError):
                original(self)

        return sync

    bench.wrap(simulated_fs._Log, "sync", make)


@mutant(*CRASH)
def logs_go_before_the_manifest_is_there(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def publish(fs: Any, folder: str, new: Any, *rest: Any, **more: Any) -> Any:
            for name in fs.listdir(folder):
                number = wal.wal_id(name)
                if number is not None and number < new.wal_id:
                    fs.unlink(f"{folder}/{name}")
            fs.sync_dir(folder)
            return original(fs, folder, new, *rest, **more)

        return publish

    bench.wrap(manifest, "publish", make)


@mutant(*CRASH)
def writes_are_acknowledged_before_the_fsync(bench: Bench) -> None:
    bench.wrap(journal.Journal, "acknowledge", lambda original: lambda self, lsn: None)


@mutant(*CRASH)
def a_transaction_is_logged_as_single_records(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def write(self: Any, log: Any, batch: list[Any], lsn: int) -> None:
            for number, op in enumerate(batch):
                original(self, log, [op], lsn + number)

        return write

    bench.wrap(journal.Journal, "_write", make)


@mutant(("torn_wal_offsets", "os,flip,77,320"))
def a_damaged_record_is_read(bench: Bench) -> None:
    bench.wrap(wal, "is_whole", lambda original: lambda framed, salt: True)


@mutant(("torn_wal_offsets", "sync,block,77,160"))
def a_hole_in_acknowledged_records_is_a_torn_tail(bench: Bench) -> None:
    def make(original: Any) -> Any:
        return lambda self: (original(self)[0], -1)

    bench.wrap(logread.LogReader, "beyond", make)


@mutant(*CRASH)
def an_unfinished_transaction_is_replayed(bench: Bench) -> None:
    bench.wrap(logread.LogReader, "transaction_ends", lambda original: lambda self: True)


@mutant(*CRASH)
def replay_forgets_the_lsn_guard(bench: Bench) -> None:
    """Records that the segments hold already are applied again."""

    def make(original: Any) -> Any:
        def apply(state: Any, record: Any, path: str) -> None:
            if record.lsn + record.ops - 1 <= state.lsn:
                for op in ops.unpack(bytes(record.payload), path=path):
                    lsn = state.lsn
                    state.apply(op)
                    state.lsn = lsn
            else:
                original(state, record, path)

        return apply

    bench.wrap(replay, "_apply", make)


def _lose(part: str) -> Patch:
    """A flush that forgets one part of the delta file."""

    def patch(bench: Bench) -> None:
        def make(original: Any) -> Any:
            def collect(*args: Any, **more: Any) -> Any:
                content = original(*args, **more)
                return {**content, part: type(content[part])()}

            return collect

        bench.wrap(deltas, "collect", make)

    return patch


for _part, _told in (
    ("items", "field_overlays_are_lost_at_a_flush"),
    ("edges", "edge_overlays_are_lost_at_a_flush"),
    ("rules", "rules_are_lost_at_a_flush"),
    ("tombstones", "tombstones_are_lost_at_a_flush"),
):
    MUTANTS[_told] = Mutant(_told, _lose(_part), GAMES)


@mutant(*GAMES)
def what_is_folded_is_applied_again(bench: Bench) -> None:
    """A segment as opened does not know that its columns hold the rules of the delta files already."""

    def make(original: Any) -> Any:
        return lambda fs, folder, entry: original(fs, folder, replace(entry, folded=0))

    bench.wrap(segment, "load", make)


@mutant(*GAMES)
def a_new_column_generation_forgets_that_it_is_folded(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def write_columns(fs: Any, folder: str, entry: Any, *args: Any, folded: int, **more: Any) -> Any:
            made = original(fs, folder, entry, *args, folded=folded, **more)
            return replace(made, folded=entry.folded)

        return write_columns

    bench.wrap(files, "write_columns", make)


@mutant(*GAMES)
def an_older_version_is_not_closed(bench: Bench) -> None:
    """record_until is forgotten when an item is superseded."""
    bench.wrap(State, "_close_item", lambda original: lambda self, item_id, time: time)


@mutant(*GAMES)
def a_delete_forgets_the_edges(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def bury(draft: Any, ids: list[str], *, seq: int) -> None:
            alive, born = draft.part.items["alive"], draft.part.items["seq"]
            rows = [row for name in ids for row in draft.source.rows_of(name)]
            if chosen := [row for row in rows if alive.now(row) and born.now(row) < seq]:
                draft.patch_many("items", "alive", chosen, False, seqs=seq)

        return bury

    bench.wrap(state, "bury", make)


@mutant(*GAMES)
def pruning_ignores_overlays(bench: Bench) -> None:
    """The hull of a column is kept from when the segment was opened."""
    first: dict[tuple[int, str], Any] = {}

    def make(original: Any) -> Any:
        def hull(view: Any, name: str) -> Any:
            return first.setdefault((id(view.source), name), original(view, name))

        return hull

    bench.wrap(zone_maps, "hull", make)


@mutant(*GAMES)
def intervals_are_closed_on_the_right(bench: Bench) -> None:
    def sees(original: Any) -> Any:
        def seen(cols: Any, row: int, lsn: int, as_of: Any) -> bool:
            if as_of is None or as_of.record is None:
                return original(cols, row, lsn, as_of)
            since, until = cols["record_time"].at(row, lsn), cols["record_until"].at(row, lsn)
            known = bool(since <= as_of.record <= until)
            return known and bool(original(cols, row, lsn, as_of) or cols["alive"].at(row, lsn))

        return seen

    bench.wrap(tables, "sees", sees)


@mutant(*GAMES)
def a_search_returns_one_too_few(bench: Bench) -> None:
    def make(original: Any) -> Any:
        return lambda version, ranked, k, plan: original(version, ranked, max(0, k - 1), plan)

    bench.wrap(planner, "_top", make)


@mutant(*GAMES)
def ties_come_in_any_order(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def top(version: Any, ranked: list[Any], k: int, plan: Any) -> Any:
            found = original(version, ranked, k, plan)
            hits = sorted(found, key=lambda hit: hit.id, reverse=True)
            return type(found)(sorted(hits, key=lambda hit: -hit.score), plan=plan)

        return top

    bench.wrap(planner, "_top", make)


@mutant(*GAMES)
def a_snapshot_reads_the_present(bench: Bench) -> None:
    bench.wrap(T4DX, "snapshot", lambda original: lambda self: self)


@mutant(
    ("bit_flips_per_type", 40),
)
def checksums_of_columns_are_not_compared(bench: Bench) -> None:
    bench.wrap(blobs, "checked", lambda original: lambda data, path, crc: blobs.parse(data.data)[0])
    bench.wrap(blobs.Blob, "_check", lambda original: lambda self, lo, hi: None)


@mutant(("cycle_once", 60), *CRASH)
def a_night_is_two_transactions(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def submit(self: Any, requests: list[Any]) -> int:
            half = len(requests) // 2
            if half:
                original(self, requests[:half])
            return original(self, requests[half:])

        return submit

    bench.wrap(T4DX, "_submit", make)


@mutant(*GAMES)
def reads_miss_the_newest_segment(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def find(version: Any, item_id: str, as_of: Any) -> Any:
            fewer = copy.copy(version)
            fewer.views = version.views if len(version.views) < 3 else (version.views[0], *version.views[2:])
            return original(fewer, item_id, as_of)

        return find

    bench.wrap(item_reads, "find_item", make)
