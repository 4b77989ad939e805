"""The bytes of the write-ahead log: one record per batch, framed, checksummed and salted.

File:    magic 8s | version u16 | algorithm u16 | file id u64 | predecessor u64 | first lsn u64 | salt 8s |
         predecessor's salt 8s | predecessor's last mac 32s | crc u32 | mac 32s
Record:  magic u16 | version u8 | kind u8 | payload length u32 | lsn u64 | ops u32 | durable lsn u64 |
         crc u32 | payload | crc u32 over header, payload and the file's salt | mac 32s, only with a key

A record's lsn numbers its first operation; the next record starts at lsn + ops, also across files. The
header's own CRC keeps a flipped length from swallowing the rest of the file. `durable lsn` is the highest LSN
that the writer knew to be fsynced: a hole at or below it is lost data that was acknowledged, a hole above it
is a torn tail. The file is allocated ahead: zeros behind the last record are its end.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Final, NamedTuple

from t4dm.errors import CorruptionError
from t4dm.t4dx.seal import MAC, Seal

FILE_MAGIC: Final = b"T4DXWAL\n"
VERSION: Final = 2
MAGIC: Final = 0x4D54
CRC32: Final = 0
HMAC_SHA256: Final = 1
_FILE: Final = struct.Struct("<8sHHQQQ8s8s32s")
_HEAD: Final = struct.Struct("<HBBIQIQ")
_CRC: Final = struct.Struct("<I")
HEAD: Final = _HEAD.size + _CRC.size
FILE_HEADER: Final = _FILE.size + _CRC.size + MAC
RECORD_OVERHEAD: Final = HEAD + _CRC.size
MARK: Final = struct.pack("<HB", MAGIC, VERSION)
SUCCESSOR: Final = struct.Struct("<Q8s")
"""Payload of an END record: id and salt of the log that goes on."""


class Kind(IntEnum):
    """What a record is."""

    BATCH = 1
    BEGIN = 2
    PART = 3
    COMMIT = 4
    MARKER = 5
    END = 6


_KINDS: Final = {int(kind): kind for kind in Kind}


class Record(NamedTuple):
    """One record as read; `end` is the offset behind it. The payload is a view of the reader's buffer."""

    kind: Kind
    lsn: int
    ops: int
    durable: int
    payload: memoryview
    start: int
    end: int


class Head(NamedTuple):
    """The header of a record."""

    kind: Kind
    length: int
    lsn: int
    ops: int
    durable: int


class WalInfo(NamedTuple):
    """The header of a log file. `previous` is the last MAC of its predecessor; zeros without a key."""

    file_id: int
    predecessor: int
    first_lsn: int
    salt: bytes
    predecessor_salt: bytes = bytes(8)
    previous: bytes = bytes(MAC)


def wal_name(file_id: int) -> str:
    """File name of a log."""
    return f"wal-{file_id:020d}.log"


def wal_id(name: str) -> int | None:
    """Undo `wal_name`; None for any other name."""
    digits = name.removeprefix("wal-").removesuffix(".log")
    return int(digits) if digits.isdecimal() and name == wal_name(int(digits)) else None


def file_header(info: WalInfo, seal: Seal | None = None) -> bytes:
    """The bytes that open a log file; the last 32 are the MAC that its first record is chained to."""
    head = _FILE.pack(FILE_MAGIC, VERSION, HMAC_SHA256 if seal else CRC32, *info)
    head += _CRC.pack(zlib.crc32(head))
    return head + (seal.mac(head) if seal else bytes(MAC))


def read_header(data: bytes, path: str, seal: Seal | None = None) -> WalInfo:
    """The file header; raises CorruptionError."""
    if len(data) < FILE_HEADER:
        raise CorruptionError(path, "the log has no complete header")
    magic, version, algorithm, *fields = _FILE.unpack_from(data)
    crc, mac = _CRC.unpack_from(data, _FILE.size)[0], data[FILE_HEADER - MAC : FILE_HEADER]
    if magic != FILE_MAGIC or crc != zlib.crc32(data[: _FILE.size]) or version != VERSION:
        raise CorruptionError(path, "the log's header is damaged")
    if algorithm != (HMAC_SHA256 if seal else CRC32):
        raise CorruptionError(
            path, f"the log's header names another algorithm ({algorithm}) than the manifest"
        )
    if not (seal.agrees(mac, data[: FILE_HEADER - MAC]) if seal else mac == bytes(MAC)):
        raise CorruptionError(path, "the log's header is not signed with this key")
    return WalInfo(*fields)


def encode(kind: Kind, lsn: int, ops: int, durable: int, payload: bytes, salt: bytes) -> bytes:
    """One framed record, without a MAC."""
    crc, word = zlib.crc32, _CRC.pack
    head = _HEAD.pack(MAGIC, VERSION, kind, len(payload), lsn, ops, durable)
    own = crc(head)
    check = word(own)
    return b"".join((head, check, payload, word(crc(salt, crc(payload, crc(check, own))))))


def read_head(data: memoryview) -> Head | None:
    """The header of a record, or None where there is none."""
    magic, version, kind, length, lsn, ops, durable = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION or kind not in _KINDS:
        return None
    if _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
        return None
    return Head(_KINDS[kind], length, lsn, ops, durable)


def is_whole(data: memoryview, salt: bytes) -> bool:
    """Whether a framed record, without its MAC, has the checksum it ends with."""
    return bool(_CRC.unpack_from(data, len(data) - 4)[0] == zlib.crc32(salt, zlib.crc32(data[:-4])))
