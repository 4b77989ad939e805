"""Reading logs: record by record in bounded memory, across files, until the records end.

What ends a log is told apart. Zeros: it was allocated ahead. Bytes that are no record, above everything that
was acknowledged as durable: a torn tail. Anything at or below that: damage, and the store refuses to open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol, final

from t4dm.errors import CorruptionError
from t4dm.t4dx import wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.seal import MAC, Seal
from t4dm.t4dx.wal import Kind, Record

WINDOW: Final = 2**20


class Source(Protocol):
    """Bytes at an offset; fewer than asked for at the end of the file."""

    def __call__(self, at: int, size: int) -> bytes: ...


class Place(NamedTuple):
    """Where reading goes on: a file, an offset, the next LSN, the MAC there, what is known to be durable."""

    file_id: int
    at: int
    lsn: int
    mac: bytes
    durable: int


class Tail(NamedTuple):
    """The end of the logs as found.

    Attributes:
        place: behind the last whole batch or transaction.
        info: header of the last log.
        torn: bytes behind `place` that are no zeros, to be cut.
        marked: nothing that was acknowledged is left unguarded at the end.
        used: bytes in use of every log that was read, by file id.
        leftover: ids of files behind the last log, of a rotation that did not happen.
    """

    place: Place
    info: wal.WalInfo
    torn: int
    marked: bool
    used: dict[int, int]
    leftover: tuple[int, ...]


@final
class LogReader:
    """One log file, read forward. `at` is the offset behind the last record, `lsn` that of the next one."""

    def __init__(
        self, source: Source, path: str, *, seal: Seal | None = None, place: Place | None = None
    ) -> None:
        self._source, self._path, self._seal = source, path, seal
        self._start, self._window, self._ahead = 0, memoryview(b""), WINDOW // 16
        header = source(0, wal.FILE_HEADER)
        self.info = wal.read_header(header, path, seal)
        self._rest = _trailer(seal)
        first = Place(
            self.info.file_id, wal.FILE_HEADER, self.info.first_lsn, header[-MAC:], self.info.first_lsn - 1
        )
        _, self.at, self.lsn, self.mac, self.durable = place or first
        self.kind: Kind | None = None

    @property
    def place(self) -> Place:
        """Where this reader stands."""
        return Place(self.info.file_id, self.at, self.lsn, self.mac, self.durable)

    def next(self) -> Record | None:
        """The next record, or None where the readable ones end."""
        record = self._parse(self.at)
        if record is None or record.lsn != self.lsn:
            return None
        if self._seal is not None:
            framed = self._take(record.start, record.end - record.start)
            assert framed is not None
            if not self._seal.agrees(framed[-MAC:], self.mac, framed[:-MAC]):
                raise CorruptionError(
                    self._path, f"the record at byte {self.at} is not signed with this key at this place"
                )
            self.mac = bytes(framed[-MAC:])
        self.at, self.lsn, self.kind = record.end, record.lsn + record.ops, record.kind
        self.durable = max(self.durable, record.durable)
        return record

    def transaction_ends(self) -> bool:
        """Behind a BEGIN: whether its COMMIT is there. The reader stays where it is."""
        here, window = (self.at, self.lsn, self.mac, self.durable, self.kind), (self._start, self._window)
        while (record := self.next()) is not None and record.kind is Kind.PART:
            continue
        self.at, self.lsn, self.mac, self.durable, self.kind = here
        self._start, self._window = window
        if record is not None and record.kind is not Kind.COMMIT:
            raise self.misplaced(record)
        return record is not None

    def misplaced(self, record: Record) -> CorruptionError:
        """The error for a record that cannot follow those before it."""
        return CorruptionError(
            self._path, f"a {record.kind.name} record at byte {record.start} has no place there"
        )

    def beyond(self) -> tuple[int, int]:
        """Bytes behind the last record, without zeros, and the highest durable LSN that is known there."""
        rest = self._source(self.at, 2**62)
        known = [record.durable for record in _resync(rest, self.info.salt, self._rest)]
        return len(rest.rstrip(b"\0")), max(known, default=-1)

    def has_records(self) -> bool:
        """Whether any whole record of this log lies behind this place."""
        rest = self._source(self.at, 2**62)
        return next(_resync(rest, self.info.salt, self._rest), None) is not None

    def records_behind(self) -> int:
        """How many whole records lie behind this place in the file."""
        return sum(1 for _ in _resync(self._source(self.at, 2**62), self.info.salt, self._rest))

    def _parse(self, at: int) -> Record | None:
        view = self._take(at, wal.HEAD)
        head = wal.read_head(view) if view is not None else None
        if head is None:
            return None
        size = wal.RECORD_OVERHEAD + head.length + self._rest
        framed = self._take(at, size)
        if framed is None or not wal.is_whole(framed[: size - self._rest], self.info.salt):
            return None
        payload = framed[wal.HEAD : wal.HEAD + head.length]
        return Record(head.kind, head.lsn, head.ops, head.durable, payload, at, at + size)

    def _take(self, at: int, size: int) -> memoryview | None:
        offset = at - self._start
        if offset < 0 or offset + size > len(self._window):
            self._start, self._window = at, memoryview(self._source(at, max(size, self._ahead)))
            self._ahead = min(2 * self._ahead, WINDOW)
            offset = 0
        return self._window[offset : offset + size] if offset + size <= len(self._window) else None


@final
class LogChain:
    """The logs of a store from the first one that its manifest needs, or from a place in them."""

    def __init__(
        self, fs: FileSystem, folder: str, first: int, *, seal: Seal | None = None, place: Place | None = None
    ) -> None:
        self._fs, self._folder, self._seal = fs, folder, seal
        self._used: dict[int, int] = {}
        self.reader = self._open(place.file_id if place else first, place)
        self.edge = self.reader.place

    @property
    def path(self) -> str:
        """The file that is being read."""
        return self._path(self.reader.info.file_id)

    def next(self) -> Record | None:
        """The next record, in whichever file; None at the end. `edge` is the place before it."""
        while True:
            self.edge = self.reader.place
            record = self.reader.next()
            if record is None or record.kind is not Kind.END:
                return record
            self._follow(record, self.edge.mac)

    def tail(self, end: Place) -> Tail:
        """What lies behind the last record; raises CorruptionError where that was acknowledged once."""
        reader = self.reader
        torn, beyond = reader.beyond()
        torn += reader.at - end.at
        known = max(reader.durable, beyond)
        if known >= end.lsn:
            raise CorruptionError(
                self.path, f"damaged at byte {reader.at}, below LSN {known} that was synced"
            )
        tail = self.pause(end)
        later = [number for number in log_ids(self._fs, self._folder) if number > reader.info.file_id]
        for number in later:
            self._check_leftover(number, reader.at)
        marked = tail.marked and not torn
        return tail._replace(
            place=end._replace(durable=known), torn=torn, marked=marked, leftover=tuple(later)
        )

    def pause(self, end: Place) -> Tail:
        """The place to go on from, without a look at what lies behind it: a writer may be writing there."""
        marked = self.reader.kind in (None, Kind.MARKER)
        return Tail(end, self.reader.info, 0, marked, self._used | {end.file_id: end.at}, ())

    def _follow(self, record: Record, before: bytes) -> None:
        old = self.reader.info
        number, salt = wal.SUCCESSOR.unpack(record.payload)
        self._used[old.file_id] = record.end
        self.reader, lsn = self._open(number, None), self.reader.lsn
        new = self.reader.info
        chained = self._seal is None or new.previous == before
        named = (new.file_id, new.predecessor, new.first_lsn) == (number, old.file_id, lsn)
        if not (chained and named and new.salt == salt and new.predecessor_salt == old.salt):
            raise CorruptionError(self._path(number), "this log does not follow the one before it")

    def _check_leftover(self, number: int, end: int) -> None:
        """A file behind the last log holds no record: its header may be torn, nothing lies behind that."""
        path = self._path(number)
        try:
            used = LogReader(_file(self._fs, path), path, seal=self._seal).has_records()
        except CorruptionError:
            used = holds_records(self._fs, path)
        if used:
            raise CorruptionError(
                self.path, f"it ends at byte {end}, but {wal.wal_name(number)} goes on behind it"
            )

    def _open(self, number: int, place: Place | None) -> LogReader:
        path = self._path(number)
        if not self._fs.exists(path):
            raise CorruptionError(path, "this log is named by the manifest or the log before it, but missing")
        reader = LogReader(_file(self._fs, path), path, seal=self._seal, place=place)
        if reader.info.file_id != number:
            raise CorruptionError(
                path, f"this log belongs to another state of the store, where it was {reader.info.file_id}"
            )
        return reader

    def _path(self, number: int) -> str:
        return f"{self._folder}/{wal.wal_name(number)}"


def holds_records(fs: FileSystem, path: str) -> bool:
    """Whether anything but zeros lies behind the header of a log."""
    return bool(_file(fs, path)(wal.FILE_HEADER, 2**62).rstrip(b"\0"))


def log_ids(fs: FileSystem, folder: str) -> list[int]:
    """Ids of the log files in a folder, in order."""
    return sorted(number for name in fs.listdir(folder) if (number := wal.wal_id(name)) is not None)


def _file(fs: FileSystem, path: str) -> Source:
    return lambda at, size: fs.read_range(path, at, size)


def _trailer(seal: Seal | None) -> int:
    return MAC if seal is not None else 0


def _resync(rest: bytes, salt: bytes, trailer: int) -> Iterator[Record]:
    """Whole records behind a damaged one: they tell how far the log was once durable."""
    at, view = 0, memoryview(rest)
    while (at := rest.find(wal.MARK, at)) >= 0:
        head = wal.read_head(view[at : at + wal.HEAD]) if at + wal.HEAD <= len(rest) else None
        size = wal.RECORD_OVERHEAD + head.length if head is not None else 0
        framed = view[at : at + size]
        if head is None or len(framed) < size or not wal.is_whole(framed, salt):
            at += 1
            continue
        yield Record(
            head.kind, head.lsn, head.ops, head.durable, framed[wal.HEAD : -4], at, at + size + trailer
        )
        at += size + trailer
