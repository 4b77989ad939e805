"""Where postings come from: kept with their source, read from a derived file, or made from the texts.

A segment's postings are made at the first text search that meets it and kept as long as the segment. The
writer of a store also leaves them in `text/<segment>.<analyzer>`, so that the next opening reads instead of
cutting every text again. Such a file is disposable: it holds the checksum of the texts it was made from and
one of itself, anything else is made anew. It is not synced: what a power cut tears is noticed.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.postings import Arrays, Growing, Packed, Postings, pack
from t4dm.t4dx.segment import Segment, column_of
from t4dm.t4dx.sources import Source
from t4dm.t4dx.tables import View
from t4dm.t4dx.tokens import Analyzer

FOLDER: Final = "text"
_MAGIC: Final = b"T4DXTXT1"
_HEAD: Final = 24  # magic, CRC32 of the rest, bytes of the description, 8 free
WORTH: Final = 256  # rows below which making is as fast as reading
KEPT, READ, MADE, GROWN = "kept", "read", "made", "grown"


@final
class TextFiles:
    """The derived files of a store's text index.

    Args:
        fs: the disk.
        folder: of the store.
        writable: whether new files may be left there.
    """

    def __init__(self, fs: FileSystem, folder: str, *, writable: bool) -> None:
        self._fs, self._folder, self._writable = fs, f"{folder}/{FOLDER}", writable
        self._lock = threading.Lock()

    def read(self, segment: Segment, analyzer: Analyzer) -> Packed | None:
        """The postings of a segment as they were left; None where there are none of its texts."""
        path = self._path(segment, analyzer)
        try:
            if not self._fs.exists(path) or self._fs.size(path) <= _HEAD:
                return None
            data = self._fs.map_bytes(path)
        except OSError:
            return None
        return _parsed(data, _stamp(segment), segment.entry.items)

    def write(self, segment: Segment, analyzer: Analyzer, made: Packed, *, living: Iterable[int]) -> None:
        """Leave a segment's postings, and remove those of older segments that live no more. A disk that
        refuses costs the next opening some time, nothing else.
        """
        if not self._writable or segment.entry.items < WORTH:
            return
        path, ids = self._path(segment, analyzer), set(living)
        with self._lock, contextlib.suppress(OSError):
            self._fs.mkdir(self._folder)
            for name in self._fs.listdir(self._folder):
                number = name.split(".", 1)[0]
                gone = number.isdigit() and int(number) not in ids and int(number) < max(ids, default=0)
                if gone or name.endswith(".tmp"):
                    self._fs.unlink(f"{self._folder}/{name}")
            if self._fs.exists(path):
                self._fs.unlink(path)
            self._fs.write_new(f"{path}.tmp", _packed(made.arrays, _stamp(segment)))
            self._fs.rename(f"{path}.tmp", path)

    def _path(self, segment: Segment, analyzer: Analyzer) -> str:
        return f"{self._folder}/{segment.entry.id:020d}.{analyzer.name}"


@final
class _Kept:
    """The postings of one source, by analyzer."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.found: dict[Analyzer, Postings] = {}


_SOURCES: Final[weakref.WeakKeyDictionary[Source, _Kept]] = weakref.WeakKeyDictionary()
_SOURCES_LOCK: Final = threading.Lock()


def postings(
    view: View, analyzer: Analyzer, files: TextFiles | None, living: Callable[[], Iterable[int]]
) -> tuple[Postings, str]:
    """The postings of a view's source, and where they came from: KEPT, READ, MADE or GROWN. `living` gives
    the ids of the segments there are.
    """
    source = view.source
    with _SOURCES_LOCK:
        kept = _SOURCES.get(source)
        if kept is None:
            kept = _SOURCES[source] = _Kept()
    if (found := kept.found.get(analyzer)) is not None:
        return found, KEPT if isinstance(found, Packed) else GROWN
    with kept.lock:
        if (found := kept.found.get(analyzer)) is not None:
            return found, KEPT if isinstance(found, Packed) else GROWN
        how = GROWN
        if isinstance(source, Segment):
            found, how = _segment(source, view.n, analyzer, files, living)
        else:
            found = Growing(source, analyzer)
        kept.found[analyzer] = found
        return found, how


def _segment(
    source: Segment,
    n: int,
    analyzer: Analyzer,
    files: TextFiles | None,
    living: Callable[[], Iterable[int]],
) -> tuple[Postings, str]:
    if files is not None and (read := files.read(source, analyzer)) is not None:
        return read, READ
    made = Packed(pack((source.text_at(row)[0] for row in range(n)), analyzer))
    if files is not None:
        files.write(source, analyzer, made, living=living())
    return made, MADE


def _stamp(segment: Segment) -> list[Any]:
    """What tells the texts of a segment from any others: sizes and checksums of their files."""
    return sorted(
        [column_of(file.name), file.size, file.crc]
        for file in segment.entry.files
        if column_of(file.name) in ("texts", "text_ends")
    )


def _packed(arrays: Arrays, stamp: list[Any]) -> bytes:
    told = msgpack.packb({"stamp": stamp, "arrays": [[a.dtype.str, len(a)] for a in arrays]})
    body = told + b"\0" * (-len(told) % 8)
    for values in arrays:
        data = values.tobytes()
        body += data + b"\0" * (-len(data) % 8)
    head = _MAGIC + zlib.crc32(body).to_bytes(4, "little") + len(told).to_bytes(4, "little")
    return head.ljust(_HEAD, b"\0") + body


def _parsed(data: NDArray[np.uint8], stamp: list[Any], rows: int) -> Packed | None:
    """The postings in a file, None where it is damaged or of other texts. Nothing is used before its checksum
    was compared.
    """
    head = bytes(data[:_HEAD])
    if head[:8] != _MAGIC or zlib.crc32(data[_HEAD:].data) != int.from_bytes(head[8:12], "little"):
        return None
    size = int.from_bytes(head[12:16], "little")
    told = msgpack.unpackb(bytes(data[_HEAD : _HEAD + size]), raw=False)
    if told["stamp"] != stamp:
        return None
    at, found = _HEAD + size + -size % 8, []
    for kind, count in told["arrays"]:
        used = np.dtype(kind).itemsize * count
        found.append(np.asarray(data[at : at + used]).view(kind))
        at += used + -used % 8
    arrays = Arrays(*found)
    return Packed(arrays) if len(arrays.lengths) == rows else None
