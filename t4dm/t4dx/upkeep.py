"""The work behind the writes: flushes, compaction, and the pressure that keeps writers from running away.

A writer that passes a threshold only freezes its memtable. One thread writes frozen memtables to segments,
another one compacts, a third builds graphs; they read a pinned state, and hold the writer's lock only to
swap. With `Options.background` off the writer does all of it itself, after its write, but for graphs.

Locks: `structure` guards the manifest and the list of segments, and is taken before the writer's lock.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, final

from t4dm import errors
from t4dm.t4dx import compaction, deltas, flush, recovery
from t4dm.t4dx.flush import Pin
from t4dm.t4dx.fs import FULL, FileSystem
from t4dm.t4dx.graph_building import Nursery, Origin
from t4dm.t4dx.graph_shelf import Shelf
from t4dm.t4dx.journal import Journal
from t4dm.t4dx.manifest import Manifest, manifest_name
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Draft
from t4dm.t4dx.types import Options

RETRY: Final = 1.0
"""Seconds until a thread tries again after a failure."""
_MAX_RULES: Final = 64  # since the last flush: a look at a weight goes through them
_NEAR: Final = 0.75  # of a threshold
_NICE: Final = 10  # of the thread that builds graphs
_DELAY: Final = 0.001  # seconds that a write is delayed when as many memtables wait as may


class _Merged(Exception):
    """The segment whose graph is being built is part of another one by now."""


class Engine(NamedTuple):
    """The engine's side: gives the manifest in force, puts a successor in its place, shows readers the
    present.
    """

    current: Callable[[], Manifest]
    commit: Callable[[Manifest], None]
    publish: Callable[[], None]


@final
class Upkeep:
    """Everything that changes files and no answer. Thread-safe.

    Args:
        state: the writer's state, guarded by `lock`.
        engine: the engine's side.
        shelf: where graphs are found.
        background: whether threads do the work.
    """

    def __init__(
        self,
        fs: FileSystem,
        folder: str,
        options: Options,
        *,
        state: State,
        lock: threading.RLock,
        journal: Journal,
        engine: Engine,
        shelf: Shelf,
        background: bool,
    ) -> None:
        self._fs, self._folder, self._options = fs, folder, options
        self._state, self._lock, self._journal, self._engine = state, lock, journal, engine
        self.structure, self._flushing, self._compacting, self._growing = (
            threading.RLock() for _ in range(4)
        )
        self._shelf, self.nursery = shelf, Nursery(shelf, threads=options.index_threads)
        self._ids, self._busy = engine.current().next_file_id, set[int]()
        self._room = threading.Condition()
        self.error, self._threshold, self._near = "", options.memtable_items, False
        self.stall_seconds = self.longest_stall = self.longest_swap = 0.0
        self.bytes_written = dict.fromkeys(("segments", "merges", "columns", "deltas"), 0)
        self._stop = threading.Event()
        self._wakes: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        if background:
            self._start()
            shelf.lost = self._wakes["graphs"].set
            self._nudge("graphs")

    def after_write(self) -> None:
        """Under the writer's lock: freeze the memtable where a threshold was passed. Shortly before that a
        thread makes the next log, so that the writer need not.
        """
        state, options = self._state, self._options
        rows, size = state.front.n + state.front.m, self._journal.size
        if not self._near and (rows >= _NEAR * self._threshold or size >= _NEAR * options.memtable_bytes):
            self._near = True
            self._nudge("flush")
        if (
            rows >= self._threshold
            or size >= options.memtable_bytes
            or state.rules.count(state.front.folded) >= _MAX_RULES
        ):
            try:
                self.freeze()
                self._threshold = options.memtable_items
            except errors.StoreFullError as error:
                self.error, self._threshold = str(error), rows + options.memtable_items
            self._nudge("flush")

    def freeze(self) -> None:
        """Under the writer's lock: let a new memtable and a new log go on, whatever was written before them
        waits for its flush. Raises StoreFullError, and then nothing changed.
        """
        state = self._state
        last = state.frozen[0].lsn if state.frozen else self._engine.current().flushed_lsn
        if state.lsn > last:
            state.freeze(self._journal.rotate())
            self._near = False
            self._engine.publish()

    def throttle(self) -> None:
        """Before a write, outside of the lock: wait where too many memtables are frozen. A small delay for
        each write first, then a halt; raises StoreFullError where the flush fails for want of space.
        """
        limit = self._options.max_frozen
        if len(self._state.frozen) < limit or not self._threads:
            return
        started = time.perf_counter()
        if len(self._state.frozen) == limit:
            time.sleep(_DELAY)
        else:
            with self._room:
                while len(self._state.frozen) > limit and not self.error and not self._stop.is_set():
                    self._room.wait(RETRY)
        waited = time.perf_counter() - started
        self.stall_seconds += waited
        self.longest_stall = max(self.longest_stall, waited)
        if self.error and len(self._state.frozen) > limit:
            self._journal.check()
            raise errors.StoreFullError(self._folder)

    def settle_inline(self) -> None:
        """After a write, outside of the lock, where no threads do it: flush what is frozen, then compact."""
        if self._state.frozen and not self._threads and not self._journal.poison:
            self._quietly(self.flush)  # the write itself is safe in the log
            if not self._state.frozen:
                self._quietly(lambda: self.compact(full=False))

    def flush(self) -> None:
        """Write everything that is frozen by now. Raises StoreFullError, StorePoisonedError."""
        with self._flushing:
            pin = self._pin_frozen()
            if not pin.frozen:
                return
            number = self._take_id()
            with self._trying(number):
                self._flush(pin, number)
        self.error = ""
        with self._room:
            self._room.notify_all()

    def compact(self, *, full: bool) -> None:
        """Do what is worth it: everything, if `full`."""
        with self._compacting:
            while (pin := self._pin_segments()) is not None:
                shapes, options = compaction.shapes(pin), self._options
                task = compaction.choose(
                    shapes,
                    deltas=sum(not deltas.only_undo(delta) for delta in pin.manifest.deltas),
                    full=full,
                    limit=options.max_segments,
                    max_deltas=options.max_deltas,
                )
                if task is None:
                    return
                number = self._take_id()
                with self._trying(number):
                    self._rewrite(pin, task, number)
                if full:
                    return

    def build_graphs(self) -> None:
        """Build what graphs are missing, the largest first; one that cannot be built is told by `stats`, and
        no reason to stop: a search does without it.
        """
        with self._growing:
            while (job := self.nursery.next(self._segments())) is not None:
                self._build_graph(*job)

    def _build_graph(self, segment: Segment, code: int) -> None:
        def pulse() -> None:
            self._pulse()
            if not any(one is segment for one in self._segments()):
                raise _Merged

        number, key = self._take_id(), (segment.entry.id, code)
        try:
            self.nursery.build(segment, code, number=number, pulse=pulse)
        except _Merged:
            pass
        except (OSError, ImportError, MemoryError, RuntimeError, errors.CorruptionError) as error:
            self.nursery.failures[key] = str(error) or repr(error)
        finally:
            self._busy.discard(number)

    def _segments(self) -> list[Segment]:
        return [draft.source for draft in self._state.segments if isinstance(draft.source, Segment)]

    def stop(self) -> None:
        """End the threads; what is not flushed is in the logs."""
        _halt(self._stop, self._wakes)
        with self._room:
            self._room.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _flush(self, pin: Pin, number: int) -> None:
        options = self._options
        done = flush.write(
            self._fs, self._folder, pin, number=number, max_deltas=options.max_deltas, pulse=self._pulse
        )
        drafts = [frozen.draft for frozen in pin.frozen]
        folds = [(draft, deltas.fold(draft, pin.rules, pin.lsn)) for draft in pin.segments]
        reached = self._catch_up(done.draft, drafts, pin)

        def change(state: State) -> None:
            self._carry(done.draft, drafts, pin, since=reached)
            for draft, fold in folds:
                deltas.settle(draft, fold)
            state.flushed_undo = pin.undo
            state.frozen = [frozen for frozen in state.frozen if frozen not in pin.frozen]
            state.segments = state.segments if done.draft is None else [done.draft, *state.segments]
            self._adopt(done.draft)

        with self.structure:
            now = self._engine.current()
            self._put_in_force(flush.manifest_after(now, pin, done, next_file_id=self._ids), change)
            self._sweep()
        self.bytes_written["segments"] += done.size
        self.bytes_written["deltas"] += 0 if done.delta is None else done.delta.size
        self._nudge("compact")
        self._nudge("graphs")

    def _adopt(self, draft: Draft | None, origins: dict[int, Origin] | None = None) -> None:
        """Let a new segment find its graphs, and have those it inherits until then."""
        if draft is not None and isinstance(draft.source, Segment):
            self._shelf.adopt([draft.source])
            self.nursery.inherit(draft.source, origins or {})

    def _rewrite(self, pin: Pin, task: compaction.Task, number: int) -> None:
        done = compaction.run(self._fs, self._folder, pin, task, number=number, pulse=self._pulse)
        chosen = self._drafts(pin, task)
        reached = self._catch_up(done.draft, chosen, pin)

        def change(state: State) -> None:
            if task.kind == "columns":
                for draft in chosen:
                    draft.folded = pin.lsn
            else:
                self._carry(done.draft, chosen, pin, since=reached)
                state.segments = _replaced(state.segments, chosen, done.draft)
                self._adopt(done.draft, done.origins)

        with self.structure:
            now = self._engine.current()
            self._put_in_force(
                compaction.manifest_after(now, pin, task, done, next_file_id=self._ids), change
            )
            self._sweep()
        self._nudge("graphs")
        self.bytes_written["columns" if task.kind == "columns" else "merges"] += done.size
        self.bytes_written["deltas"] += 0 if done.delta is None else done.delta.size

    def _drafts(self, pin: Pin, task: compaction.Task) -> list[Draft]:
        """The writer's own drafts of the chosen segments: only they get the patches of today."""
        pairs = zip(pin.manifest.segments, pin.segments, strict=True)
        sources = [draft.source for entry, draft in pairs if entry.id in task.segments]
        with self._lock:
            return [draft for draft in self._state.segments if draft.source in sources]

    def _catch_up(self, new: Draft | None, olds: list[Draft], pin: Pin) -> int:
        """Carry over what was written while the files were, outside of the lock; returns up to where."""
        with self._lock:
            upto = self._state.lsn
        self._carry(new, olds, pin, since=pin.lsn, upto=upto)
        return upto

    def _carry(
        self, new: Draft | None, olds: list[Draft], pin: Pin, *, since: int, upto: int | None = None
    ) -> None:
        if new is None:
            return
        state = self._state
        now = pin._replace(tombstones=state.tombstones, rules=state.rules)
        last = state.lsn if upto is None else upto
        # not only the newest of each: a flush asks for what was there at the end of its memtable, the next
        # compaction for what was there at the last flush
        marks = {*(frozen.lsn for frozen in list(state.frozen)), self._engine.current().flushed_lsn, last}
        for mark in sorted(mark for mark in marks if since < mark <= last):
            compaction.carry(new, olds, now, since=since, upto=mark)
            since = mark

    def _pin_frozen(self) -> Pin:
        with self.structure, self._lock:
            state, frozen = self._state, tuple(self._state.frozen)
            lsn = frozen[0].lsn if frozen else state.lsn
            segments = tuple(state.segments)
            undo = frozen[0].undo if frozen else state.flushed_undo
            return Pin(self._engine.current(), lsn, segments, frozen, state.rules, state.tombstones, undo)

    def _pin_segments(self) -> Pin | None:
        with self.structure, self._lock:
            state, found = self._state, self._engine.current()
            if not found.segments:
                return None
            # copies: a flush that ends meanwhile takes patches into the drafts' columns, beyond this LSN
            segments = tuple(Draft(draft.part, folded=draft.folded) for draft in state.segments)
            return Pin(
                found,
                found.flushed_lsn,
                segments,
                (),
                state.rules,
                state.tombstones,
                state.flushed_undo,
            )

    def _take_id(self) -> int:
        with self.structure:
            number, self._ids = self._ids, self._ids + 1
            self._busy.add(number)
            return number

    def _put_in_force(self, new: Manifest, change: Callable[[State], None]) -> None:
        """Publish a manifest, and change the state as it says, under the writer's lock for as long as that
        takes. Where the manifest is ahead of the state, only a reopen brings both together again.
        """
        try:
            self._engine.commit(new)
            with self._lock:
                started = time.perf_counter()
                change(self._state)
                self._state.forget_folded()
                self._engine.publish()
                self.longest_swap = max(self.longest_swap, time.perf_counter() - started)
        except BaseException as error:
            if self._fs.exists(f"{self._folder}/{manifest_name(new.version)}"):
                raise self._journal.poisoned(error) from error
            raise

    @contextlib.contextmanager
    def _trying(self, number: int) -> Iterator[None]:
        """Around what ends in a commit: where it fails before that, remove what it left and say so."""
        try:
            yield
        except OSError as error:
            self._discard(number)
            self.error = str(errors.StoreFullError(self._folder) if error.errno in FULL else error)
            if error.errno in FULL:
                raise errors.StoreFullError(self._folder) from error
            raise self._journal.poisoned(error) from error
        except BaseException:
            self._discard(number)
            raise
        finally:
            self._busy.discard(number)

    def _discard(self, number: int) -> None:
        """Remove the files of an attempt; what cannot be removed goes at the next open."""
        with contextlib.suppress(OSError), self.structure:
            self._busy.discard(number)
            self._sweep()

    def _sweep(self) -> None:
        with contextlib.suppress(OSError):
            recovery.sweep(self._fs, self._folder, self._engine.current(), busy=self._busy)

    def _pulse(self) -> None:
        if self._stop.is_set():
            raise errors.StoreClosedError(self._folder, "is closed")

    def _start(self) -> None:
        work = {
            "flush": Upkeep._flush_quietly,
            "compact": Upkeep._compact_quietly,
            "graphs": Upkeep._build_quietly,
        }
        for name, method in work.items():
            wake = self._wakes[name] = threading.Event()
            target = (weakref.ref(self), wake, self._stop, method)
            thread = threading.Thread(target=_loop, args=target, daemon=True, name=f"t4dx-{name}")
            self._threads.append(thread)
            thread.start()
        weakref.finalize(self, _halt, self._stop, self._wakes).atexit = False

    def _nudge(self, name: str) -> None:
        if wake := self._wakes.get(name):
            wake.set()

    def _flush_quietly(self) -> bool:
        """Whether to try again later."""
        if self._near:
            self._quietly(self._journal.prepare)
        return bool(self._state.frozen) and self._quietly(self.flush)

    def _compact_quietly(self) -> bool:
        return self._quietly(lambda: self.compact(full=False))

    def _build_quietly(self) -> bool:
        _step_back()
        return self._quietly(self.build_graphs)

    def _quietly(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except errors.StoreClosedError:
            return False
        except Exception as error:  # no acknowledged write fails for it: `stats` tells, writers may wait
            self.error = str(error) or repr(error)
            with self._room:
                self._room.notify_all()
            return not self._journal.poison
        return False


def _replaced(segments: list[Draft], olds: list[Draft], new: Draft | None) -> list[Draft]:
    first = next(place for place, draft in enumerate(segments) if draft in olds)
    kept = [draft for draft in segments if draft not in olds]
    return [*kept[:first], *([] if new is None else [new]), *kept[first:]]


def _loop(
    ref: weakref.ref[Upkeep], wake: threading.Event, stop: threading.Event, work: Callable[[Upkeep], bool]
) -> None:
    while wake.wait() and not stop.is_set():
        wake.clear()
        upkeep = ref()
        if upkeep is None:
            return
        again = work(upkeep)
        del upkeep
        if again and not stop.wait(RETRY):
            wake.set()


def _step_back() -> None:
    """Let this thread, and those it starts, run behind the others, where threads have priorities."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _halt(stop: threading.Event, wakes: dict[str, Any]) -> None:
    stop.set()
    for wake in wakes.values():
        wake.set()
