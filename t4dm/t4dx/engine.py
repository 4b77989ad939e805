"""T4DX: an embedded store for memories, with vectors, edges and two time axes. One writer, any number of readers.

A write is one log record, then a change of the in-memory state, then a new immutable version. Readers never wait: they
take the version there is. A flush turns the memtable into a segment and a delta file, and one manifest commits both.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, final

from t4dm import errors
from t4dm.t4dx import backup, compaction, deltas, manifest, ops, recovery, segment, verify, wal
from t4dm.t4dx.checks import Plan
from t4dm.t4dx.fs import FULL, FileSystem, Lock, OsFileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.reader import Reader
from t4dm.t4dx.state import Version
from t4dm.t4dx.types import EdgeType, Lsn, Options
from t4dm.t4dx.writes import Request, Writes

_LEVELS: Final = ("sync", "interval", "os")


@final
class T4DX(Reader, Writes):
    """An open store. Use it as a context manager, or call `close`; a killed process loses nothing it acknowledged.

    Thread-safe. A handle is dead in a forked child: open the store there anew.
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        options: Options | None = None,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
        fs: FileSystem | None = None,
    ) -> Self:
        """Open a store, recover it after a crash, or create it.

        Args:
            path: folder of the store.
            dim: vector size; needed to create a store, checked against an existing one.
            options: durability, thresholds, extra edge types.
            clock: seconds; gives `record_time`.
            read_only: read the state as of now, beside a writer; takes no lock and changes no byte.
            fs: the disk; the operating system's by default.

        Raises:
            StoreLockedError, StoreMissingError, StoreDimensionError, StoreFormatError, CorruptionError, StoreFullError.
        """
        options, fs, folder = options or Options(), fs or OsFileSystem(), os.fspath(path).rstrip("/") or "/"
        if options.durability not in _LEVELS:
            raise errors.OptionError(
                f"durability is {options.durability!r}; choose one of {', '.join(_LEVELS)}"
            )
        lock = None
        try:
            if not read_only:
                lock = _take_lock(fs, folder, create=dim is not None)
            found = _load_or_create(fs, folder, dim, options, read_only=read_only)
            return cls(fs, folder, found, options=options, clock=clock, lock=lock)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, OSError) and error.errno in FULL:
                raise errors.StoreFullError(folder) from error
            raise

    def __init__(
        self,
        fs: FileSystem,
        folder: str,
        found: Manifest,
        *,
        options: Options,
        clock: Callable[[], float],
        lock: Lock | None,
    ) -> None:
        super().__init__(self._present)
        self._fs, self._folder, self._options, self._clock = fs, folder, options, clock
        self._file_lock, self._manifest = lock, found
        self._lock, self._sync_lock = threading.RLock(), threading.Lock()
        self._pid, self._closed, self._poison = os.getpid(), False, ""
        recovered = recovery.recover(fs, folder, found) if lock else _recover_beside_writer(fs, folder, found)
        self._state, self._dim, self._types = recovered.state, found.dim, recovered.state.types
        self._version = self._state.version()
        self._appended, self._durable, self._marked = self._state.lsn, recovered.durable, recovered.marked
        self._torn, self._flush_at, self._flush_error = recovered.torn, options.memtable_items, ""
        self._wal = self._open_log(recovered) if lock else None
        self._wake, self._stop = threading.Event(), threading.Event()
        if self._wal is not None:
            self._after_recovery()
        _LIVE.add(self)

    def transaction(self) -> Transaction:
        """Collect writes and commit them as one: all of them after a crash, or none.

        Reads do not see the transaction before it commits; an exception inside the block drops it.
        """
        return Transaction(self)

    def snapshot(self) -> Reader:
        """The store as it is now, for as long as the result is kept."""
        version = self._present()
        return Reader(lambda: version)

    def flush(self) -> None:
        """Write the memtable and all overlays to immutable files, and start a new log."""
        with self._writing():
            self._flush()

    def compact(self, *, full: bool = True) -> None:
        """Rewrite segments: fold overlays, drop what was deleted, merge. Changes nothing that any read returns.

        Args:
            full: all segments into one; otherwise only while there are more than `Options.max_segments`.
        """
        with self._writing():
            self._flush()
            self._compact(full=full)

    def backup(self, folder: str | os.PathLike[str]) -> Lsn:
        """Copy the store as of now into a new folder, which opens like any store; returns the LSN it holds."""
        with self._writing():
            self._sync(self._appended)
            backup.copy_store(
                self._fs, self._folder, os.fspath(folder), self._manifest, log_bytes=self._log().size
            )
            return self._state.lsn

    def verify(self, level: str = "quick") -> verify.Report:
        """Check the files: "quick" names and sizes, "full" every checksum, "deep" also that they rebuild this state."""
        with self._lock:
            return verify.verify_store(self._fs, self._folder, level, live=self._present())

    def stats(self) -> dict[str, Any]:
        """Counts, bytes on disk and LSNs."""
        version, found = self._present(), self._manifest
        files = sum(manifest.named_files(found).values())
        log = self._wal.size if self._wal is not None else 0
        return {
            "items": sum(len(view.visible_items(None)) for view in version.views),
            "edges": sum(len(view.visible_edges(None)) for view in version.views),
            "item_rows": sum(view.n for view in version.views),
            "edge_rows": sum(view.m for view in version.views),
            "memtable_items": version.views[0].n,
            "segments": len(found.segments),
            "deltas": len(found.deltas),
            "bytes": files + log,
            "wal_bytes": log,
            "lsn": version.lsn,
            "durable_lsn": self._durable,
            "flushed_lsn": found.flushed_lsn,
            "manifest": found.version,
            "torn_bytes": self._torn,
            "flush_error": self._flush_error,
            "poisoned": self._poison,
        }

    @property
    def dim(self) -> int:
        """Vector size."""
        return self._dim

    @property
    def path(self) -> str:
        """Folder of the store."""
        return self._folder

    @property
    def read_only(self) -> bool:
        """Whether the store was opened for reading."""
        return self._wal is None

    def close(self) -> None:
        """Make everything durable and release the lock. A second call does nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            self._stop.set()
            self._wake.set()
            try:
                if self._wal is not None and not self._poison:
                    self._sync(self._appended)
                    self._mark()
            finally:
                if self._wal is not None:
                    self._wal.close()
                if self._file_lock is not None:
                    self._file_lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _present(self) -> Version:
        self._check_alive()
        return self._version

    def _check_alive(self) -> None:
        if os.getpid() != self._pid:
            raise errors.StoreClosedError(
                self._folder, "was opened by the parent process and is dead in this fork"
            )
        if self._closed:
            raise errors.StoreClosedError(self._folder, "is closed")

    @contextlib.contextmanager
    def _writing(self) -> Any:
        self._check_alive()
        if self._wal is None:
            raise errors.ReadOnlyStoreError(self._folder)
        with self._lock:
            self._check_alive()
            if self._poison:
                raise errors.StorePoisonedError(self._folder, self._poison)
            yield

    def _submit(self, requests: list[Request]) -> Lsn:
        with self._writing():
            batch = Plan(self._state).resolve(requests)
            if batch:
                self._append(batch)
                self._apply(batch)
            lsn = self._state.lsn
            if self._state.front.n + self._state.front.m >= self._flush_at or (
                self._log().size >= self._options.memtable_bytes
            ):
                self._flush_in_passing()
        self._acknowledge(lsn)
        return lsn

    def _append(self, batch: list[ops.Op]) -> None:
        log, lsn = self._log(), self._state.lsn + 1
        frames = _frames(
            batch, lsn, durable=self._durable, salt=log.info.salt, part=self._options.txn_part_bytes
        )
        try:
            log.append(frames)
        except OSError as error:
            if error.errno in FULL and log.intact:
                raise errors.StoreFullError(self._folder) from error
            raise self._poisoned(error) from error

    def _apply(self, batch: list[ops.Op]) -> None:
        try:
            for op in batch:
                self._state.apply(op)
        except BaseException as error:  # logged but not applied: only a reopen brings both together again
            self._poison = repr(error)
            raise
        self._version, self._appended, self._marked = self._state.version(), self._state.lsn, False

    def _acknowledge(self, lsn: Lsn) -> None:
        if self._options.durability == "sync":
            self._sync(lsn)
        elif self._options.durability == "interval":
            self._wake.set()

    def _sync(self, lsn: Lsn) -> None:
        """Wait until an LSN is durable. Whoever comes first syncs for all who wrote before; writers go on meanwhile."""
        with self._sync_lock:
            if self._durable >= lsn:
                return
            reached = self._appended
            try:
                self._log().sync()
            except OSError as error:
                raise self._poisoned(error) from error
            self._durable = reached

    def _poisoned(self, error: OSError) -> errors.StoreError:
        """After a failed write nobody knows what the disk holds: an fsync is never repeated."""
        self._poison = self._poison or str(error)
        return errors.StorePoisonedError(self._folder, str(error))

    def _log(self) -> wal.WalWriter:
        if self._wal is None:
            raise errors.ReadOnlyStoreError(self._folder)
        return self._wal

    def _mark(self) -> None:
        """End the log with a marker that knows all was synced, so that later damage to the last batch is seen."""
        if self._marked:
            return
        log = self._log()
        with contextlib.suppress(OSError):  # a courtesy: the records before it are durable already
            log.append(wal.encode(wal.Kind.MARKER, self._state.lsn + 1, 0, self._durable, b"", log.info.salt))
            log.sync()
            self._marked = True

    def _open_log(self, recovered: recovery.Recovered) -> wal.WalWriter:
        path = f"{self._folder}/{wal.wal_name(self._manifest.wal_id)}"
        log = wal.WalWriter(self._fs, path, recovered.wal, size=recovered.end)
        if recovered.torn:
            log.cut(recovered.end)
        return log

    def _after_recovery(self) -> None:
        """Sweep up, register new edge types, and start the background fsync."""
        recovery.sweep(self._fs, self._folder, self._manifest)
        fresh = [name for name in self._options.edge_types if name not in self._types.codes]
        if fresh:
            for name in fresh:
                self._types.register(name)
            self._commit(self._manifest.next(edge_types=tuple(self._types.names)))
            recovery.sweep(self._fs, self._folder, self._manifest)
        if self._options.durability == "interval":
            target = (weakref.ref(self), self._wake, self._stop, self._options.sync_interval)
            threading.Thread(target=_sync_in_background, args=target, daemon=True, name="t4dx-sync").start()
            weakref.finalize(self, _halt, self._wake, self._stop)

    def _commit(self, new: Manifest) -> None:
        """Publish a manifest. Before its name exists a failure changes nothing; after that it is unknown: poison."""
        try:
            manifest.publish(self._fs, self._folder, new)
        except OSError as error:
            if self._fs.exists(f"{self._folder}/{manifest.manifest_name(new.version)}"):
                raise self._poisoned(error) from error
            raise
        self._manifest = new

    def _flush_in_passing(self) -> None:
        """Flush because a threshold was passed. The write itself is safe in the log: a full disk is no reason to fail it."""
        try:
            self._flush()
            self._compact(full=False)
        except errors.StoreFullError as error:
            self._flush_error = str(error)
            self._flush_at = self._state.front.n + self._state.front.m + self._options.memtable_items

    def _flush(self) -> None:
        state, old = self._state, self._manifest
        if state.lsn == old.flushed_lsn:
            return
        self._sync(state.lsn)
        with self._sync_lock:
            number = old.next_file_id
            new, draft, log = self._cleaning(lambda: self._write_flush(old, number))
            previous, self._wal = self._log(), log
            self._durable = state.lsn
        previous.close()
        if draft is not None:
            state.segments.insert(0, draft)
        state.new_memtable()
        state.forget_folded()
        self._version, self._marked = state.version(), False
        self._flush_at, self._flush_error = self._options.memtable_items, ""
        self._drop_old(new)

    def _write_flush(self, old: Manifest, number: int) -> tuple[Manifest, Any, wal.WalWriter]:
        fs, folder, state = self._fs, self._folder, self._state
        segments, delta_files, draft, view = old.segments, old.deltas, None, state.front.view()
        if view.items["alive"][: view.n].any() or view.edges["alive"][: view.m].any():
            files = segment.build([view], dim=self._dim)
            entry = segment.write(fs, folder, number, files, folded=state.lsn)
            segments, draft = (entry, *segments), segment.load(fs, folder, entry)
        merge = len(delta_files) >= self._options.max_deltas
        content = deltas.collect(state, since=0 if merge else old.flushed_lsn)
        if any(content.values()):
            written = deltas.write(fs, folder, number + 1, content)
            delta_files = (written,) if merge else (*delta_files, written)
        info = wal.WalInfo(number + 2, old.wal_id, state.lsn + 1, fs.token(8))
        log = wal.WalWriter.create(fs, folder, info)
        new = old.next(
            next_file_id=number + 3,
            flushed_lsn=state.lsn,
            wal_id=info.file_id,
            wal_salt=info.salt.hex(),
            segments=segments,
            deltas=delta_files,
            edge_types=tuple(self._types.names),
        )
        try:
            self._commit(new)
        except BaseException:
            log.close()
            raise
        return new, draft, log

    def _compact(self, *, full: bool) -> None:
        chosen = compaction.choose(self._state, self._manifest, full=full, limit=self._options.max_segments)
        if not chosen:
            return
        old = self._manifest
        new, draft = self._cleaning(
            lambda: compaction.rewrite(self._fs, self._folder, self._state, old, chosen, commit=self._commit)
        )
        rest = [kept for place, kept in enumerate(self._state.segments) if place not in chosen]
        self._state.segments = ([draft] if draft is not None else []) + rest
        self._state.forget_folded()
        self._version = self._state.version()
        self._drop_old(new)

    def _cleaning(self, work: Callable[[], Any]) -> Any:
        """Do what ends in a commit; where it fails before that, remove what it left and say so."""
        try:
            return work()
        except OSError as error:
            with contextlib.suppress(OSError):
                recovery.sweep(self._fs, self._folder, self._manifest)
            if error.errno in FULL:
                raise errors.StoreFullError(self._folder) from error
            raise self._poisoned(error) from error

    def _drop_old(self, new: Manifest) -> None:
        """Remove what the new manifest no longer names; what stays behind is swept at the next open."""
        with contextlib.suppress(OSError):
            recovery.sweep(self._fs, self._folder, new)


@final
class Transaction(Writes):
    """Writes that commit together; see `T4DX.transaction`."""

    def __init__(self, store: T4DX) -> None:
        self._store, self._requests, self._done = store, list[Request](), False
        self._dim, self._types, self._clock = store._dim, store._types, store._clock
        self.lsn: Lsn | None = None
        """The LSN of the commit; None before it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = True
        if kind is None:
            self.lsn = self._store._submit(self._requests)

    def _submit(self, requests: list[Request]) -> Lsn:
        if self._done:
            raise errors.TransactionError(
                "this transaction has ended; open another: with store.transaction() as tx"
            )
        self._requests += requests
        return self._store.lsn


def _take_lock(fs: FileSystem, folder: str, *, create: bool) -> Lock:
    if not fs.exists(folder):
        if not create:
            raise errors.StoreMissingError(folder)
        fs.mkdir(folder)
        fs.sync_dir(os.path.dirname(folder) or ".")
    owner = f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    lock = fs.lock(f"{folder}/LOCK", owner)
    if isinstance(lock, str):
        raise errors.StoreLockedError(folder, lock)
    return lock


def _load_or_create(
    fs: FileSystem, folder: str, dim: int | None, options: Options, *, read_only: bool
) -> Manifest:
    found = manifest.load(fs, folder)
    if found is None:
        if read_only or dim is None:
            raise errors.StoreMissingError(folder)
        found = _create(fs, folder, dim, options)
    manifest.check_flags(found, folder, read_only=read_only)
    if dim is not None and dim != found.dim:
        raise errors.StoreDimensionError(folder, found.dim, dim)
    return found


def _create(fs: FileSystem, folder: str, dim: int, options: Options) -> Manifest:
    if dim < 1:
        raise errors.OptionError(f"dim is {dim}; give the size of the vectors, for example dim=1024")
    for name in ("segments", "deltas"):
        fs.mkdir(f"{folder}/{name}")
        if fs.listdir(f"{folder}/{name}"):
            raise errors.CorruptionError(folder, f"it has {name} but no manifest")
    for name in fs.listdir(folder):
        if name.startswith(
            "wal-"
        ):  # a crash while the store was created leaves an empty log, and nothing else does
            if fs.size(f"{folder}/{name}") > wal.FILE_HEADER:
                raise errors.CorruptionError(folder, "it has a log but no manifest")
            fs.unlink(f"{folder}/{name}")
    info = wal.WalInfo(1, 0, 1, fs.token(8))
    wal.WalWriter.create(fs, folder, info).close()
    types = tuple(dict.fromkeys([*EdgeType.__members__, *options.edge_types]))
    new = Manifest(1, dim, 2, 0, 1, info.salt.hex(), edge_types=types)
    manifest.publish(fs, folder, new)
    return new


def _recover_beside_writer(fs: FileSystem, folder: str, found: Manifest) -> recovery.Recovered:
    """Recover while a writer may flush: where a file of the manifest has just gone, start again from the newer one."""
    for _ in range(20):
        try:
            return recovery.recover(fs, folder, found)
        except (FileNotFoundError, errors.CorruptionError):
            newer = manifest.load(fs, folder)
            if newer is None or newer.version == found.version:
                raise
            found = newer
    return recovery.recover(fs, folder, found)


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


def _sync_in_background(
    ref: weakref.ref[T4DX], wake: threading.Event, stop: threading.Event, interval: float
) -> None:
    while wake.wait() and not stop.is_set():
        wake.clear()
        if stop.wait(interval):
            return
        store = ref()
        if store is None:
            return
        with contextlib.suppress(errors.StoreError):  # the store is poisoned now, and its next write says so
            store._sync(store._appended)
        del store


def _halt(wake: threading.Event, stop: threading.Event) -> None:
    stop.set()
    wake.set()


_LIVE: Final[weakref.WeakSet[T4DX]] = weakref.WeakSet()


def _abandon_in_child() -> None:
    """A child must not keep the parent's lock alive, nor write to its log."""
    for store in list(_LIVE):
        if store._file_lock is not None:
            store._file_lock.abandon()
        if store._wal is not None:
            store._wal.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
