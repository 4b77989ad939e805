"""The open log: appends, fsyncs at the chosen durability level, and refuses to go on after a failure.

An fsync that failed is never repeated: the kernel may have marked the pages clean, so nobody knows what the
disk holds. The journal is poisoned then, and only a reopen finds out.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import Final, final

from t4dm import errors
from t4dm.t4dx import ops, wal
from t4dm.t4dx.fs import FULL
from t4dm.t4dx.types import Lsn, Options

LEVELS: Final = ("sync", "interval", "os")


@final
class Journal:
    """One log file at a time. Appends come from under the writer's lock; `sync` may come from any thread.

    Args:
        folder: the store's folder, for messages.
        log: the open log.
        appended: LSN of its last record.
        durable: LSN known to be on disk.
        marked: whether the log ends with a marker already.
    """

    def __init__(
        self, folder: str, log: wal.WalWriter, options: Options, *, appended: Lsn, durable: Lsn, marked: bool
    ) -> None:
        self.folder, self.log, self.durable, self.poison = folder, log, durable, ""
        self._options, self._appended, self._marked = options, appended, marked
        self._sync_lock = threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        if options.durability == "interval":
            target = (weakref.ref(self), self._wake, self._stop, options.sync_interval)
            threading.Thread(target=_in_background, args=target, daemon=True, name="t4dx-sync").start()
            weakref.finalize(self, _halt, self._wake, self._stop)

    @property
    def size(self) -> int:
        """Bytes of the log."""
        return self.log.size

    def check(self) -> None:
        """Raise StorePoisonedError after a failure."""
        if self.poison:
            raise errors.StorePoisonedError(self.folder, self.poison)

    def append(self, batch: list[ops.Op], *, first: Lsn) -> None:
        """Log operations as one atomic unit. On a full disk nothing is left of it, and the journal stays
        usable.
        """
        part, salt = self._options.txn_part_bytes, self.log.info.salt
        try:
            self.log.append(_frames(batch, first, durable=self.durable, salt=salt, part=part))
        except OSError as error:
            if error.errno in FULL and self.log.intact:
                raise errors.StoreFullError(self.folder) from error
            raise self.poisoned(error) from error
        self._marked = False

    def applied(self, lsn: Lsn) -> None:
        """What was appended is part of the state: from now on an fsync vouches for it."""
        self._appended = lsn

    def acknowledge(self, lsn: Lsn) -> None:
        """Return when a write may be acknowledged at the durability level."""
        if self._options.durability == "sync":
            self.sync(lsn)
        elif self._options.durability == "interval":
            self._wake.set()

    def sync(self, lsn: Lsn | None = None) -> None:
        """Wait until an LSN (or all) is durable. Whoever comes first syncs for all who appended before;
        writers go on.
        """
        with self._sync_lock:
            target = self._appended
            if self.durable >= (target if lsn is None else lsn):
                return
            self.check()
            try:
                self.log.sync()
            except OSError as error:
                raise self.poisoned(error) from error
            self.durable = target

    def rotate(self, log: wal.WalWriter, *, at: Lsn) -> None:
        """Go on in a new log; everything up to `at` is durable elsewhere."""
        with self._sync_lock:
            previous, self.log = self.log, log
            self.durable, self._marked = at, False
        previous.close()

    def poisoned(self, error: OSError) -> errors.StoreError:
        """Refuse writes from now on; returns what to raise."""
        self.poison = self.poison or str(error)
        return errors.StorePoisonedError(self.folder, self.poison)

    def mark(self) -> None:
        """End the log with a marker that knows all was synced, so that later damage to the last batch is
        seen.
        """
        if self._marked:
            return
        with contextlib.suppress(OSError):  # a courtesy: the records before it are durable already
            self.log.append(
                wal.encode(wal.Kind.MARKER, self._appended + 1, 0, self.durable, b"", self.log.info.salt)
            )
            self.log.sync()
            self._marked = True

    def close(self) -> None:
        """Sync, mark and close; a poisoned journal is only closed."""
        _halt(self._wake, self._stop)
        try:
            if not self.poison:
                self.sync()
                self.mark()
        finally:
            self.log.close()

    def abandon(self) -> None:
        """Drop the descriptor without writing: this is a forked child."""
        self.log.close()


def _frames(batch: list[ops.Op], lsn: Lsn, *, durable: Lsn, salt: bytes, part: int) -> bytes:
    """One record, or BEGIN, parts and COMMIT where one would be too large."""
    payload = ops.pack(batch)
    if len(payload) <= part or len(batch) == 1:
        return wal.encode(wal.Kind.BATCH, lsn, len(batch), durable, payload, salt)
    frames = [wal.encode(wal.Kind.BEGIN, lsn, 0, durable, b"", salt)]
    for op in batch:
        frames.append(wal.encode(wal.Kind.PART, lsn, 1, durable, ops.pack([op]), salt))
        lsn += 1
    frames.append(wal.encode(wal.Kind.COMMIT, lsn, 0, durable, b"", salt))
    return b"".join(frames)


def _in_background(
    ref: weakref.ref[Journal], wake: threading.Event, stop: threading.Event, interval: float
) -> None:
    while wake.wait() and not stop.is_set():
        wake.clear()
        if stop.wait(interval):
            return
        journal = ref()
        if journal is None:
            return
        with contextlib.suppress(errors.StoreError):  # it is poisoned now, and the next write says so
            journal.sync()
        del journal


def _halt(wake: threading.Event, stop: threading.Event) -> None:
    stop.set()
    wake.set()
