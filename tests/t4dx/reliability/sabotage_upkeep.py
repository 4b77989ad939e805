"""More faults: in flushes and compactions beside writers, in the chain of logs, in the key, in undo."""

from __future__ import annotations

import contextlib
from typing import Any

from reliability.sabotage import CRASH, GAMES, Bench, mutant
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import columns, compaction, flush, inverse, journal, logfile, logread, recovery, upkeep
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.state import State


@mutant(*GAMES)
def what_was_written_during_a_flush_is_not_carried_over(bench: Bench) -> None:
    bench.wrap(upkeep.Upkeep, "_carry", lambda original: lambda self, *args, **more: None)


@mutant(*GAMES)
def what_was_written_before_the_swap_is_not_carried_over(bench: Bench) -> None:
    """Only the first catch-up is made."""

    def make(original: Any) -> Any:
        def carry(self: Any, new: Any, olds: Any, pin: Any, *, since: int, upto: int | None = None) -> None:
            if upto is not None:
                original(self, new, olds, pin, since=since, upto=upto)

        return carry

    bench.wrap(upkeep.Upkeep, "_carry", make)


@mutant(*GAMES)
def a_fold_drops_the_patches_that_came_since(bench: Bench) -> None:
    bench.wrap(columns.Log, "rest", lambda original: lambda self, lsn: columns.Log())


@mutant(*GAMES)
def frozen_memtables_are_not_shown_to_readers(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def cut(self: State) -> Any:
            found = original(self)
            hidden = {id(frozen.draft.part) for frozen in self.frozen}
            parts = tuple(part for part in found.layout.parts if id(part) not in hidden)
            return found._replace(layout=found.layout._replace(parts=parts))

        return cut

    bench.wrap(State, "cut", make)


@mutant(*GAMES)
def a_compaction_names_the_deltas_it_began_with(bench: Bench) -> None:
    """What a flush added meanwhile is forgotten."""

    def make(original: Any) -> Any:
        def after(now: Any, pin: Any, task: Any, done: Any, **more: Any) -> Any:
            kept = () if done.delta is None else (done.delta,)
            return original(now, pin, task, done, **more).next(deltas=kept)

        return after

    bench.wrap(compaction, "manifest_after", make)


@mutant(*GAMES)
def a_flush_names_the_segments_it_began_with(bench: Bench) -> None:
    """What a compaction replaced meanwhile is there again."""

    def make(original: Any) -> Any:
        def after(now: Any, pin: Any, done: Any, **more: Any) -> Any:
            made = original(now, pin, done, **more)
            old = pin.manifest.segments
            return made.next(segments=old if done.entry is None else (done.entry, *old))

        return after

    bench.wrap(flush, "manifest_after", make)


@mutant(*CRASH)
def a_flush_is_published_before_its_segment_is_synced(bench: Bench) -> None:
    waiting: list[tuple[Any, str]] = []

    def sync_file(original: Any) -> Any:
        def method(self: Any, path: str) -> None:
            if "/segments/" in path:
                waiting.append((self, path))
            else:
                original(self, path)

        return method

    def rename(original: Any) -> Any:
        def method(self: Any, source: str, target: str) -> None:
            original(self, source, target)
            if "MANIFEST" in target:
                for fs, path in waiting:
                    with contextlib.suppress(FileNotFoundError):
                        fs._file(path).synced = bytes(fs._file(path).data)
                waiting.clear()

        return method

    bench.wrap(SimulatedFileSystem, "sync_file", sync_file)
    bench.wrap(SimulatedFileSystem, "rename", rename)


@mutant(*GAMES)
def files_are_removed_while_a_reader_opens_them(bench: Bench) -> None:
    bench.wrap(SimulatedFileSystem, "guard", lambda original: lambda self, path, *, exclusive: _open_guard())


def _open_guard() -> Any:
    """A guard that keeps nobody out."""

    class Open:
        def release(self) -> None:
            """Nothing was held."""

    return Open()


@mutant(*GAMES)
def files_that_are_being_made_are_swept_up(bench: Bench) -> None:
    def make(original: Any) -> Any:
        return lambda fs, folder, manifest, *, busy=(): original(fs, folder, manifest)

    bench.wrap(recovery, "sweep", make)


@mutant(*CRASH)
def a_log_takes_over_before_the_old_one_is_synced(bench: Bench) -> None:
    rotating: list[bool] = []

    def rotate(original: Any) -> Any:
        def method(self: Any) -> Any:
            rotating.append(True)
            try:
                return original(self)
            finally:
                rotating.pop()

        return method

    def sync(original: Any) -> Any:
        def method(self: Any) -> None:
            if not rotating:
                original(self)

        return method

    bench.wrap(journal.Journal, "rotate", rotate)
    bench.wrap(logfile.LogWriter, "sync", sync)


@mutant(*GAMES, *CRASH)
def recovery_skips_the_second_log(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def follow(self: Any, record: Any, before: bytes) -> None:
            original(self, record, before)
            while self.reader.next() is not None:
                continue

        return follow

    bench.wrap(logread.LogChain, "_follow", make)


@mutant(("torn_wal_offsets", "keyed,splice,77,48"))
def the_signatures_of_records_are_not_chained(bench: Bench) -> None:
    bench.wrap(Seal, "mac", lambda original: lambda self, *parts: original(self, parts[-1]))


@mutant(*GAMES)
def an_undo_forgets_what_fields_held(bench: Bench) -> None:
    bench.wrap(inverse._Inverse, "_values", lambda original: lambda self: [])


@mutant(*GAMES)
def an_undo_forgets_what_edges_weighed(bench: Bench) -> None:
    bench.wrap(inverse._Inverse, "_old_weights", lambda original: lambda self, gone: [])


@mutant(*GAMES)
def an_old_reader_sees_what_was_patched_since(bench: Bench) -> None:
    def make(original: Any) -> Any:
        return lambda self, row, lsn: self.last.get(row, -1)

    bench.wrap(columns.Log, "newest", make)


@mutant(*GAMES)
def a_second_writer_gets_the_lock(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def lock(self: Any, path: str, owner: str) -> Any:
            self.locked.pop(path, None)
            return original(self, path, owner)

        return lock

    bench.wrap(SimulatedFileSystem, "lock", make)
