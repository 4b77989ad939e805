"""The open log: appends, group commit at the chosen durability level, rotation; no going on after a failure.

An fsync that failed is never repeated: the kernel may have marked the pages clean, so nobody knows what the
disk holds. The journal is poisoned then, and only a reopen finds out.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Final, TypeVar, final

from t4dm import errors
from t4dm.t4dx import logfile, ops, parts, wal
from t4dm.t4dx.fs import FULL, FileSystem
from t4dm.t4dx.logfile import LogWriter, Mark
from t4dm.t4dx.seal import MAC, Seal
from t4dm.t4dx.types import Lsn, Options
from t4dm.t4dx.wal import Kind, WalInfo

LEVELS: Final = ("sync", "interval", "os")
_SOON: Final = 0.1
"""Seconds until a waiter looks again by itself, should nobody have called it."""
_T = TypeVar("_T")


@final
class Journal:
    """The logs of one store: one takes records, older ones wait until what they hold is flushed.

    `append`, `rotate` and `close` come from under the writer's lock; `sync` and `prepare` from any thread,
    best from outside of that lock.

    Args:
        folder: the store's folder.
        log: the open log.
        appended: LSN of its last record.
        durable: LSN known to be on disk.
        marked: whether the log ends with a marker already.
        older: bytes in use of the logs before it, by file id.
        seal: signs the records; None without a key.
    """

    def __init__(
        self,
        fs: FileSystem,
        folder: str,
        log: LogWriter,
        options: Options,
        *,
        appended: Lsn,
        durable: Lsn,
        marked: bool,
        older: dict[int, int],
        seal: Seal | None = None,
    ) -> None:
        self.folder, self.log, self.durable, self.poison = folder, log, durable, ""
        self._fs, self._options, self._seal = fs, options, seal
        self._zeroed = options.durability == "sync"
        self._logged = appended
        self._appended, self._marked, self._spare = appended, marked, 0
        self._older, self._older_lock = dict(older), threading.Lock()  # replaced, never changed in place
        self._turn = threading.Condition(threading.Lock())
        self._syncing = False
        self._file_lock, self._spare_lock = threading.RLock(), threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._finalizer: weakref.finalize[..., Journal] | None = None
        if options.durability != "os" and (options.durability == "interval" or options.idle_marker):
            target = (weakref.ref(self), self._wake, self._stop, options)
            threading.Thread(target=_in_background, args=target, daemon=True, name="t4dx-sync").start()
            self._finalizer = weakref.finalize(self, _halt, self._wake, self._stop)
            self._finalizer.atexit = False

    @property
    def size(self) -> int:
        """Bytes in use of the log that takes records."""
        return self.log.size

    @property
    def used(self) -> int:
        """Bytes in use of all logs that are still needed."""
        return self.log.size + sum(self._older.values())

    def logs(self) -> dict[str, int]:
        """Names and bytes in use of the logs that are still needed, oldest first."""
        sizes = {**self._older, self.log.info.file_id: self.log.size}
        return {wal.wal_name(number): sizes[number] for number in sorted(sizes)}

    def check(self) -> None:
        """Raise StorePoisonedError after a failure."""
        if self.poison:
            raise errors.StorePoisonedError(self.folder, self.poison)

    def append(self, batch: list[ops.Op], *, first: Lsn) -> None:
        """Log operations as one atomic unit. On a full disk nothing is left of it, and the journal stays
        usable.
        """
        with self._file_lock:
            log, last = self.log, self._logged
            size, mac = log.size, log.mac
            if first != last + 1:
                raise self.poisoned(RuntimeError(f"the write of LSN {last} was logged and not applied"))
            try:
                self._write(log, batch, first)
                self._logged = first + len(batch) - 1
            except BaseException as error:
                with contextlib.suppress(OSError):
                    log.back_to(Mark(size, mac))
                    self._logged = last
                if not isinstance(error, OSError) and log.intact:
                    raise
                raise self._failed(error) if log.intact else self.poisoned(error) from error
            self._marked = False

    def applied(self, lsn: Lsn) -> None:
        """What was appended is part of the state: from now on an fsync vouches for it."""
        self._appended = lsn

    def acknowledge(self, lsn: Lsn) -> None:
        """Return when a write may be acknowledged at the durability level."""
        if self._options.durability == "sync":
            self.sync(lsn)
        if not self._wake.is_set():  # the thread that fsyncs, or marks an idle log
            self._wake.set()

    def sync(self, lsn: Lsn | None = None) -> None:
        """Wait until an LSN (or all) is durable. One waiter fsyncs for all who appended before it; writers go
        on appending meanwhile, and the next fsync serves all of them.
        """
        wanted, leading = self._appended if lsn is None else lsn, False
        try:
            with self._turn:
                while self._syncing and self.durable < wanted:
                    self._turn.wait(_SOON)
                if self.durable >= wanted:
                    return
                self.check()
                leading = self._syncing = True
            self._fdatasync()
        finally:  # in this frame and without a call: whatever interrupts it, the turn is given back
            if leading:
                self._syncing = False
                self._call_next()

    def prepare(self) -> None:
        """Before `rotate`, outside of the writer's lock: fsync what there is, and make the next file. It is
        optional, but without it the rotation does all that while writers wait.
        """
        self.sync()
        with self._spare_lock:
            try:
                self._make_spare()
            except OSError as error:
                raise self._failed(error) from error

    def rotate(self) -> WalInfo:
        """Go on in a new log, at the next LSN; call it under the writer's lock, at the same moment as the
        memtable is frozen. Returns the new log's header.

        A manifest that has flushed everything up to `info.first_lsn - 1` may then name `info.file_id` and
        `info.salt` as the first log it needs; until one does, recovery reads the old log and goes on in the
        new one. When it is published, call `forget(info.file_id)`; the files go with `recovery.sweep`.

        The old log is durable, with an END record that names the new one, before the new one takes a record;
        the new one is durable with its header before that. Costs two small fdatasyncs after `prepare`, or
        nothing where the log took no record since the last time.

        Raises:
            StoreFullError: nothing changed, the old log goes on. StorePoisonedError.
        """
        self.check()
        with self._spare_lock, self._file_lock:
            return self._alone(self._rotate)

    def forget(self, first: int) -> None:
        """A manifest says that logs before this id are flushed: count them no more."""
        with self._older_lock:
            self._older = {number: size for number, size in self._older.items() if number >= first}

    def poisoned(self, error: BaseException) -> errors.StoreError:
        """Refuse writes from now on; returns what to raise."""
        self.poison = self.poison or str(error) or repr(error)
        return errors.StorePoisonedError(self.folder, self.poison)

    def mark(self) -> None:
        """When idle: end the log with a marker that knows all was synced, so that later damage to the last
        batch is seen.
        """
        with self._file_lock:
            if self._marked or self.poison or self.durable < self._appended:
                return
            with contextlib.suppress(OSError):  # a courtesy: the records before it are durable already
                self.log.append(Kind.MARKER, self._appended + 1, 0, self.durable)
                self._marked = True
        if self._marked:
            self._alone(self._fdatasync)

    def close(self) -> None:
        """Sync, mark, give back what was allocated ahead, and close; a poisoned journal is only closed."""
        _halt(self._wake, self._stop)
        try:
            if not self.poison:
                self.sync()
                with self._file_lock:
                    self._alone(self._finish)
        finally:
            self.log.close()

    def abandon(self) -> None:
        """Drop the descriptor without writing: this is a forked child."""
        if self._finalizer is not None:
            self._finalizer.detach()
        self.log.close()

    def _rotate(self) -> WalInfo:
        if self.log.info.first_lsn > self._appended:
            return self.log.info
        if self.durable < self._appended:
            self._fdatasync()
        old, last = self.log, self._appended
        mark = old.mark()
        try:
            info = self._successor(old, last)
            new = LogWriter.begin(self._fs, self.folder, info, self._seal, zeroed=self._zeroed)
        except OSError as error:
            raise self._failed(error) from error
        try:
            self._end(old, last, info)
        except BaseException as error:
            new.close()
            if old.size != mark.size:  # the old log names a successor that nobody writes to
                self.poisoned(error)
            raise
        with self._older_lock:
            self._older = {**self._older, old.info.file_id: old.size}
        self.log, self._spare, self._marked = new, 0, True
        old.close()
        return info

    def _finish(self) -> None:
        """End the log with a marker, and leave nothing behind that was allocated ahead."""
        fresh = not self._marked
        with contextlib.suppress(OSError):
            if fresh:
                self.log.append(Kind.MARKER, self._appended + 1, 0, self.durable)
                self._marked = True
            if not self.log.trim() and fresh:
                self.log.sync()
            if self._spare:
                self._fs.unlink(f"{self.folder}/{wal.wal_name(self._spare)}")

    def _alone(self, work: Callable[[], _T]) -> _T:
        """Wait for a running fsync, and let no other begin before this is done."""
        leading = False
        try:
            with self._turn:
                while self._syncing:
                    self._turn.wait(_SOON)
                leading = self._syncing = True
            return work()
        finally:
            if leading:
                self._syncing = False
                self._call_next()

    def _call_next(self) -> None:
        with self._turn:
            self._turn.notify_all()

    def _fdatasync(self) -> None:
        """Called by the one whose turn it is."""
        self.check()
        target = self._appended
        try:
            self.log.sync()
        except OSError as error:
            raise self.poisoned(error) from error
        self.durable = max(self.durable, target)

    def _end(self, old: LogWriter, last: Lsn, info: WalInfo) -> None:
        """Name the successor in the old log, durably."""
        mark = old.mark()
        try:
            old.append(Kind.END, last + 1, 0, self.durable, wal.SUCCESSOR.pack(info.file_id, info.salt))
        except OSError as error:
            with contextlib.suppress(OSError):
                old.back_to(mark)
            raise (self._failed(error) if old.intact else self.poisoned(error)) from error
        self._fdatasync()

    def _write(self, log: LogWriter, batch: list[ops.Op], lsn: Lsn) -> None:
        """One record; or BEGIN, parts of bounded size and COMMIT. A part with 0 operations holds more of the
        one before it.
        """
        durable, limit = self.durable, self._options.txn_part_bytes
        if (parts.weight(batch[0]) if len(batch) == 1 else sum(map(parts.weight, batch))) <= limit:
            log.append(Kind.BATCH, lsn, len(batch), durable, ops.pack(batch))
            return
        log.append(Kind.BEGIN, lsn, 0, durable)
        for group in parts.groups(batch, limit):
            log.append(Kind.PART, lsn, group.begun, durable, ops.pack(group.ops))
            lsn += group.begun
        log.append(Kind.COMMIT, lsn, 0, durable)

    def _make_spare(self) -> None:
        number = self.log.info.file_id + 1
        if self._spare != number:
            logfile.make_spare(self._fs, self.folder, number, zeroed=self._zeroed)
            self._spare = number

    def _successor(self, old: LogWriter, last: Lsn) -> WalInfo:
        self._make_spare()
        previous = old.mac if self._seal is not None else bytes(MAC)
        return WalInfo(self._spare, old.info.file_id, last + 1, self._fs.token(8), old.info.salt, previous)

    def _failed(self, error: BaseException) -> errors.StoreError:
        """A failure that left the current log as it was: a full disk passes, anything else does not."""
        full = isinstance(error, OSError) and error.errno in FULL
        return errors.StoreFullError(self.folder) if full else self.poisoned(error)


def _in_background(
    ref: weakref.ref[Journal], wake: threading.Event, stop: threading.Event, options: Options
) -> None:
    """fsync within the interval, and mark the log when nothing came for a while."""
    interval = options.durability == "interval"
    while wake.wait() and not stop.wait(options.sync_interval if interval else options.idle_marker):
        wake.clear()
        if interval:
            _call(ref, Journal.sync)
        if options.idle_marker and not wake.wait(options.idle_marker):
            _call(ref, Journal.mark)


def _call(ref: weakref.ref[Journal], what: Callable[[Journal], None]) -> None:
    journal = ref()
    if journal is not None:
        with contextlib.suppress(errors.StoreError):  # it is poisoned now, and the next write says so
            what(journal)


def _halt(wake: threading.Event, stop: threading.Event) -> None:
    stop.set()
    wake.set()
