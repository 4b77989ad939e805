"""The write-ahead log: one record per batch, framed, checksummed and salted.

File:    magic 8s | version u16 | flags u16 | file id u64 | predecessor u64 | first lsn u64 | salt 8s | crc
u32 Record:  magic u16 | version u8 | kind u8 | payload length u32 | lsn u64 | ops u32 | durable lsn u64 | crc
         u32 | payload | crc u32 over header, payload and the file's salt

A record's lsn numbers its first operation; the next record starts at lsn + ops, also across files. The
header's own CRC keeps a flipped length from swallowing the rest of the file. `durable lsn` is the highest LSN
that the writer knew to be fsynced: a hole at or below it is lost data that was acknowledged, a hole above it
is a torn tail.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple, final

from t4dm.errors import CorruptionError
from t4dm.t4dx.fs import FileSystem, LogFile

FILE_MAGIC: Final = b"T4DXWAL\n"
VERSION: Final = 1
MAGIC: Final = 0x4D54
_FILE: Final = struct.Struct("<8sHHQQQ8sI")
_HEAD: Final = struct.Struct("<HBBIQIQI")
_CRC: Final = struct.Struct("<I")
FILE_HEADER: Final = _FILE.size
RECORD_OVERHEAD: Final = _HEAD.size + _CRC.size
MAX_PAYLOAD: Final = 2**31


class Kind(IntEnum):
    """What a record is."""

    BATCH = 1
    BEGIN = 2
    PART = 3
    COMMIT = 4
    MARKER = 5


class Record(NamedTuple):
    """One record as read; `end` is the offset behind it."""

    kind: Kind
    lsn: int
    ops: int
    durable: int
    payload: bytes
    start: int
    end: int


class WalInfo(NamedTuple):
    """The header of a log file."""

    file_id: int
    predecessor: int
    first_lsn: int
    salt: bytes


class Scan(NamedTuple):
    """A log file as found: its readable prefix, and where that ends. `torn` counts the bytes behind it."""

    info: WalInfo
    records: list[Record]
    end: int
    torn: int
    durable: int


def wal_name(file_id: int) -> str:
    """File name of a log."""
    return f"wal-{file_id:020d}.log"


def file_header(info: WalInfo) -> bytes:
    """The bytes that open a log file."""
    head = _FILE.pack(FILE_MAGIC, VERSION, 0, info.file_id, info.predecessor, info.first_lsn, info.salt, 0)
    return head[:-4] + _CRC.pack(zlib.crc32(head[:-4]))


def encode(kind: Kind, lsn: int, ops: int, durable: int, payload: bytes, salt: bytes) -> bytes:
    """One framed record."""
    head = _HEAD.pack(MAGIC, VERSION, kind, len(payload), lsn, ops, durable, 0)[:-4]
    head += _CRC.pack(zlib.crc32(head))
    return b"".join((head, payload, _CRC.pack(zlib.crc32(salt, zlib.crc32(payload, zlib.crc32(head))))))


def read_header(data: bytes, path: str) -> WalInfo:
    """The file header; raises CorruptionError."""
    if len(data) < FILE_HEADER:
        raise CorruptionError(path, "the log has no complete header")
    magic, version, _, file_id, predecessor, first, salt, crc = _FILE.unpack_from(data)
    if magic != FILE_MAGIC or crc != zlib.crc32(data[: FILE_HEADER - 4]) or version != VERSION:
        raise CorruptionError(path, "the log's header is damaged")
    return WalInfo(file_id, predecessor, first, salt)


def scan(data: bytes, path: str) -> Scan:
    """Read a whole log. Raises CorruptionError for a hole below what was acknowledged as durable."""
    info = read_header(data, path)
    records, end, expected, durable = [], FILE_HEADER, info.first_lsn, info.first_lsn - 1
    while (record := _parse(data, end, info.salt)) is not None and record.lsn == expected:
        records.append(record)
        end, expected, durable = record.end, record.lsn + record.ops, max(durable, record.durable)
    beyond = max((r.durable for r in _resync(data, end, info.salt)), default=-1) if end < len(data) else -1
    if max(durable, beyond) >= expected:
        raise CorruptionError(
            path, f"damaged at byte {end}, below LSN {max(durable, beyond)} that was synced"
        )
    return Scan(info, records, end, len(data) - end, durable)


def _parse(data: bytes, at: int, salt: bytes) -> Record | None:
    if at + RECORD_OVERHEAD > len(data):
        return None
    magic, version, kind, length, lsn, ops, durable, crc = _HEAD.unpack_from(data, at)
    body = at + _HEAD.size
    if magic != MAGIC or version != VERSION or crc != zlib.crc32(data[at : body - 4]):
        return None
    if body + length + 4 > len(data) or kind not in Kind._value2member_map_:
        return None
    payload = data[body : body + length]
    check = zlib.crc32(salt, zlib.crc32(payload, zlib.crc32(data[at:body])))
    if _CRC.unpack_from(data, body + length)[0] != check:
        return None
    return Record(Kind(kind), lsn, ops, durable, payload, at, body + length + 4)


def _resync(data: bytes, at: int, salt: bytes) -> Iterator[Record]:
    """Readable records behind a damaged one: they tell how far the log was once durable."""
    mark = struct.pack("<HB", MAGIC, VERSION)
    while (at := data.find(mark, at)) >= 0:
        record = _parse(data, at, salt)
        if record is not None:
            yield record
        at = record.end if record is not None else at + 1


@final
class WalWriter:
    """Appends records to one open log file. Not thread-safe: the engine's writer lock guards it, but for
    `sync`.
    """

    def __init__(self, fs: FileSystem, path: str, info: WalInfo, *, size: int) -> None:
        self.info = info
        self.path = path
        self.size = size
        self.intact = True
        self._file: LogFile = fs.append_to(path)

    @classmethod
    def create(cls, fs: FileSystem, folder: str, info: WalInfo) -> WalWriter:
        """Make a new log file, durable with its name."""
        path = f"{folder}/{wal_name(info.file_id)}"
        fs.write_new(path, file_header(info))
        fs.sync_file(path)
        fs.sync_dir(folder)
        return cls(fs, path, info, size=FILE_HEADER)

    def append(self, data: bytes) -> None:
        """Write framed records; on an error the file is cut back to where it was, and the error raised.

        `intact` turns False where even the cut fails: half a record may then lie at the end of the file.
        """
        try:
            self._file.write(data)
        except OSError:
            self.intact = False
            self._file.truncate(self.size)
            self.intact = True
            raise
        self.size += len(data)

    def cut(self, size: int) -> None:
        """Drop a torn tail and make that durable, before anything is written behind it."""
        self._file.truncate(size)
        self._file.sync()
        self.size = size

    def sync(self) -> None:
        """fsync what was appended so far."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()
