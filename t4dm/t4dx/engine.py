"""T4DX: an embedded store for memories, with vectors, edges and two time axes. One writer, any number of
readers.

A write is one log record, then a change of the in-memory state, then a new immutable version. Readers never
wait: they take the version there is. A flush turns the memtable into a segment and a delta file, and one
manifest commits both.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, final

from t4dm import errors
from t4dm.t4dx import backup, beside, door, figures, forks, manifest, opening, ops, recovery, verify
from t4dm.t4dx.checks import resolve
from t4dm.t4dx.fs import FULL, FileSystem, Lock, OsFileSystem
from t4dm.t4dx.graph_shelf import Shelf
from t4dm.t4dx.journal import LEVELS, Journal
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.reader import Reader
from t4dm.t4dx.registry import Collections
from t4dm.t4dx.requests import Named, Request
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.state import Cut, Version
from t4dm.t4dx.text_index import TextFiles
from t4dm.t4dx.transaction import Transaction
from t4dm.t4dx.types import Collection, Lsn, Options
from t4dm.t4dx.undo import TransactionInfo
from t4dm.t4dx.upkeep import Engine, Upkeep
from t4dm.t4dx.writes import Writes


@final
class T4DX(Reader, Writes):
    """An open store. Use it as a context manager, or call `close`; a killed process loses nothing it
    acknowledged.

    Thread-safe. A handle is dead in a forked child: open the store there anew.
    """

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        metric: str | None = None,
        options: Options | None = None,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
        key: bytes | None = None,
        fs: FileSystem | None = None,
    ) -> Self:
        """Open a store, recover it after a crash, or create it.

        Args:
            path: folder of the store.
            dim: vector size; needed to create a store, checked against an existing one.
            metric: "cosine" (of a new store, unless said otherwise), "dot" or "l2"; checked likewise.
            options: durability, thresholds, extra edge types.
            clock: seconds; gives `record_time`.
            read_only: read the state as of now, beside a writer; takes no lock and changes no byte.
            key: at least 16 secret bytes that sign the log and the manifest with HMAC-SHA256; a store made
                with a key opens only with it. Changed, dropped, spliced, reordered and replayed records are
                refused. Not detected: the whole folder put back to an older copy of itself, the last log cut
                at a record, and segment files rewritten with the same checksum.
            fs: the disk; the operating system's by default.

        Raises:
            StoreLockedError, StoreMissingError, StoreDimensionError, StoreMetricError, StoreFormatError,
            CorruptionError, StoreFullError, StoreKeyError.
        """
        options, fs, folder = options or Options(), fs or OsFileSystem(), os.fspath(path).rstrip("/") or "/"
        if options.durability not in LEVELS:
            raise errors.OptionError(
                f"durability is {options.durability!r}; choose one of {', '.join(LEVELS)}"
            )
        lock, seal = None, Seal(key) if key is not None else None
        try:
            if not read_only:
                lock = opening.take_lock(fs, folder, create=dim is not None)
            with beside.listing(fs, folder) if read_only else contextlib.nullcontext():
                found = opening.load_or_create(
                    fs, folder, dim, options, read_only=read_only, metric=metric, seal=seal
                )
                return cls(fs, folder, found, options=options, clock=clock, lock=lock, seal=seal)
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
        seal: Seal | None,
    ) -> None:
        super().__init__(self._present)
        self._seal = seal
        self._fs, self._folder, self._options, self._clock = fs, folder, options, clock
        self._file_lock, self._lock = lock, threading.RLock()
        self.text_files = TextFiles(fs, folder, writable=lock is not None)
        self._gone = ""
        self._shelf = Shelf(
            fs,
            folder,
            Collections(found.collections),
            index=options.index,
            smallest=options.index_rows,
        )
        self._journal: Journal | None = None
        self._upkeep: Upkeep | None = None
        if lock is None:
            self._take(beside.recover(fs, folder, found, seal))
        else:
            self._take(beside.Seen(found, recovery.recover(fs, folder, found, seal)))
            self._journal = opening.open_journal(fs, folder, found, self._recovered, options, seal)
            self._register_asked()
            self._upkeep = self._start_upkeep(self._journal)
        forks.watch(self)

    def refresh(self) -> Lsn:
        """Bring a store that was opened for reading to the present of its writer; returns its LSN.

        Cheap where the writer only wrote: then its new log records are read, and nothing else. Snapshots that
        were taken before stay what they are. A writer is always up to date.
        """
        self._check_alive()
        if self._journal is None:
            with self._lock:
                self._take(
                    beside.follow(
                        self._fs, self._folder, beside.Seen(self._manifest, self._recovered), self._seal
                    )
                )
        return self._present().lsn

    def transaction(self, *, id: str | None = None, undo: bool = False) -> Transaction:
        """Collect writes and commit them as one: all of them after a crash, or none.

        Reads do not see the transaction before it commits; an exception inside the block drops it.

        Args:
            id: a name of your own, remembered for the last `Options.undo_keep` transactions; a second one
                with the same id is refused, so a job that is tried again after a crash is done once.
            undo: keep with it what `store.undo(id)` needs.
        """
        lsn, head = self._present().lsn, None
        if undo and id is None:
            raise errors.TransactionError(
                "an undo needs an id; write store.transaction(id='night-7', undo=True)"
            )
        if id is not None:
            head = Named(id, undo, self._options.undo_keep, self._now())
        return Transaction(
            self._submit,
            collections=self._collections,
            types=self._types,
            clock=self._clock,
            lsn=lsn,
            head=head,
        )

    def transactions(self) -> list[TransactionInfo]:
        """The last transactions with an id, oldest first, and what keeps each from being undone."""
        self._check_alive()
        with self._lock:
            return self._state.undo.listing()

    def snapshot(self) -> Reader:
        """The store as it is now, for as long as the result is kept."""
        version = self._present()
        reader = Reader(lambda: version, searched=self.searched)
        reader.text_files = self.text_files
        return reader

    def create_collection(self, name: str, *, dim: int, metric: str = "cosine") -> Collection:
        """Make a collection with its own vector size and metric, durably; nothing happens where it exists.

        Raises:
            CollectionExistsError: the name means another size or metric. OptionError: no such metric or size.
        """
        row = Collection(name, dim, metric)
        with self._structuring():
            if self._collections.is_new(row):
                self._commit_names(collections=(*self._collections.rows, row))
                self._collections.add(row)
        return row

    def collections(self) -> dict[str, Collection]:
        """The collections by name, "default" first."""
        self._check_alive()
        return {row.name: row for row in self._collections.rows}

    def register_edge_type(self, name: str) -> None:
        """Make a name usable as an edge type, durably; nothing happens where it is known."""
        door.check_id(name, what="edge type")
        with self._structuring():
            if name not in self._types.codes:
                self._commit_names(edge_types=(*self._types.names, name))
                self._types.register(name)

    def flush(self) -> None:
        """Write everything up to now to immutable files. Other threads go on writing meanwhile."""
        upkeep = self._keeper()
        with self._writing():
            upkeep.freeze()
        upkeep.flush()

    def compact(self, *, full: bool = True, graphs: bool = False) -> None:
        """Rewrite segments: fold overlays, drop what was deleted, merge. Changes nothing that any read
        returns; other threads go on reading and writing meanwhile.

        Args:
            full: all segments into one; otherwise only while there are more than `Options.max_segments`.
            graphs: build the graphs of large segments as well, and wait for them.
        """
        self.flush()
        self._keeper().compact(full=full)
        if graphs:
            self.build_graphs()

    def build_graphs(self) -> None:
        """Build what graphs large segments lack, and wait for it. A background thread does so by itself, but
        not with `Options.background` off. `stats()["graphs"]` tells how it went.
        """
        self._keeper().build_graphs()

    def backup(self, folder: str | os.PathLike[str], *, link: bool = True) -> Lsn:
        """Copy the store as of now into a new folder that opens like any store; returns the LSN it holds.

        Writes go on meanwhile. With `link` the copy shares the immutable files where the disk allows it.
        """
        with beside.listing(self._fs, self._folder):  # nothing is removed before the copy has it
            with self._structuring() as journal:
                journal.sync()
                found, logs, lsn = self._manifest, journal.logs(), self._state.lsn
            target = os.fspath(folder).rstrip("/") or "/"
            backup.copy_store(self._fs, self._folder, target, found, logs=logs, seal=self._seal, link=link)
            return lsn

    def verify(self, level: str = "quick") -> verify.Report:
        """Check the files: "quick" names and sizes, "full" every checksum, "deep" also that they rebuild this
        state.
        """
        with self._upkeep.structure if self._upkeep is not None else contextlib.nullcontext(), self._lock:
            return verify.verify_store(self._fs, self._folder, level, live=self._present(), seal=self._seal)

    def stats(self) -> dict[str, Any]:
        """Counts, bytes on disk and LSNs; what waits, and how long writers did."""
        version = self._present()
        found = figures.collect(
            version,
            self._manifest,
            self._state,
            self._recovered.tail,
            self._journal,
            self._upkeep,
            self._shelf,
        )
        return {**found, "searched": dict(self.searched)}

    @property
    def dim(self) -> int:
        """Vector size of the default collection."""
        return self._collections.rows[0].dim

    @property
    def path(self) -> str:
        """Folder of the store."""
        return self._folder

    @property
    def read_only(self) -> bool:
        """Whether the store was opened for reading."""
        return self._journal is None

    def close(self) -> None:
        """Make everything durable and release the lock. A second call does nothing."""
        if self._gone:
            return
        with self._lock:
            self._gone = "is closed"
        self._shelf.close()
        if self._upkeep is not None:
            self._upkeep.stop()
        with self._lock:
            try:
                if self._journal is not None:
                    self._journal.close()
            finally:
                if self._file_lock is not None:
                    self._file_lock.release()

    def abandon(self) -> None:
        """In a forked child: keep neither the parent's lock alive, nor its log open."""
        self._gone = self._gone or "was opened by the parent process and is dead in this fork"
        if self._file_lock is not None:
            self._file_lock.abandon()
        if self._journal is not None:
            self._journal.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    _cut: Cut
    _version: Version

    def _take(self, seen: beside.Seen) -> None:
        self._manifest, self._recovered = seen
        self._state = self._recovered.state
        self._collections, self._types = self._state.collections, self._state.types
        self._shelf.collections = self._collections
        self._shelf.adopt(draft.source for draft in self._state.segments if isinstance(draft.source, Segment))
        self._publish()

    def _publish(self) -> None:
        """Let readers see the present, and drop what they saw before: the caller is a thread that has time to
        unmap files.
        """
        self._cut = self._state.cut()
        self._version = Version(self._cut)

    def _present(self) -> Version:
        if self._gone:
            self._check_alive()
        cut, version = self._cut, self._version
        if version.cut is not cut:
            version = self._version = Version(cut)
        return version

    def _check_alive(self) -> None:
        if self._gone:
            raise errors.StoreClosedError(self._folder, self._gone)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Journal]:
        self._check_alive()
        if self._journal is None:
            raise errors.ReadOnlyStoreError(self._folder)
        with self._lock:
            self._check_alive()
            self._journal.check()
            yield self._journal

    def _submit(self, requests: list[Request]) -> Lsn:
        if self._gone:
            self._check_alive()
        upkeep, journal, state = self._upkeep, self._journal, self._state
        if upkeep is None or journal is None:
            raise errors.ReadOnlyStoreError(self._folder)
        if state.frozen:
            upkeep.throttle()
        with self._lock:
            if self._gone or journal.poison:
                self._check_alive()
                journal.check()
            batch = resolve(state, requests)
            if batch:
                journal.append(batch, first=state.lsn + 1)
                self._apply(batch, journal)
                upkeep.after_write()
            lsn = state.lsn
        journal.acknowledge(lsn)
        if state.frozen:
            upkeep.settle_inline()
        return lsn

    def _apply(self, batch: list[ops.Op], journal: Journal) -> None:
        try:
            for op in batch:
                self._state.apply(op)
        except BaseException as error:  # logged but not applied: only a reopen brings both together again
            journal.poison = repr(error)
            raise
        self._cut = self._state.cut()
        journal.applied(self._state.lsn)

    def _keeper(self) -> Upkeep:
        self._check_alive()
        if self._upkeep is None:
            raise errors.ReadOnlyStoreError(self._folder)
        return self._upkeep

    def _start_upkeep(self, journal: Journal) -> Upkeep:
        chosen = self._options.background
        return Upkeep(
            self._fs,
            self._folder,
            self._options,
            state=self._state,
            lock=self._lock,
            journal=journal,
            engine=Engine(lambda: self._manifest, self._commit, self._publish),
            shelf=self._shelf,
            background=isinstance(self._fs, OsFileSystem) if chosen is None else chosen,
        )

    @contextlib.contextmanager
    def _structuring(self) -> Iterator[Journal]:
        """While the manifest and the files it names must not change but by the caller."""
        with self._keeper().structure, self._writing() as journal:
            yield journal

    def _commit_names(self, **changes: Any) -> None:
        try:
            self._commit(self._manifest.next(**changes))
        except OSError as error:
            if error.errno in FULL:
                raise errors.StoreFullError(self._folder) from error
            raise self._writable().poisoned(error) from error

    def _commit(self, new: Manifest) -> None:
        """Publish a manifest. Before its name exists a failure changes nothing; after that it is unknown:
        poison.
        """
        try:
            manifest.publish(self._fs, self._folder, new, self._seal)
        except OSError as error:
            if self._fs.exists(f"{self._folder}/{manifest.manifest_name(new.version)}"):
                raise self._writable().poisoned(error) from error
            raise
        self._manifest = new
        self._writable().forget(new.wal_id)

    def _writable(self) -> Journal:
        if self._journal is None:
            raise errors.ReadOnlyStoreError(self._folder)
        return self._journal

    def _register_asked(self) -> None:
        """Register the edge types of the options, in one manifest."""
        fresh = [name for name in self._options.edge_types if name not in self._types.codes]
        if fresh:
            self._commit(self._manifest.next(edge_types=(*self._types.names, *fresh)))
            for name in fresh:
                self._types.register(name)
            recovery.sweep(self._fs, self._folder, self._manifest)
