"""Writing the files of segments: columns, their checksums, and new generations of single columns."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from t4dm.t4dx.blobs import BLOCK, npy_bytes, npy_header
from t4dm.t4dx.building import Chunks
from t4dm.t4dx.columns import Array
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry, SegmentEntry, segment_folder
from t4dm.t4dx.segment import column_of, is_large
from t4dm.t4dx.types import Lsn

_PIECE: Final = 4 << 20  # bytes written at once
_BURST: Final = 8 << 20  # bytes until the next fsync: the log waits behind it for a turn at the disk


def go_on() -> None:
    """The pulse of work that is never given up."""


def write_segment(
    fs: FileSystem,
    folder: str,
    segment_id: int,
    files: Mapping[str, Array | Chunks],
    *,
    folded: Lsn,
    pulse: Callable[[], None] = go_on,
) -> SegmentEntry:
    """Write a segment beside, sync every file, then give the folder its name. It exists once a manifest names
    it. `pulse` is called between pieces and may raise to give up.
    """
    parent, final_path = f"{folder}/segments", f"{folder}/{segment_folder(segment_id)}"
    temporary = f"{parent}/.tmp-{segment_id:020d}"
    fs.mkdir(temporary)
    entries = []
    for name, column in sorted(files.items()):
        entry, sums = _write(fs, f"{temporary}/{name}.npy", column, large=is_large(name), pulse=pulse)
        entries.append(entry)
        if sums is not None:
            entries.append(_write(fs, f"{temporary}/{name}_sums.npy", sums, pulse=pulse)[0])
    fs.sync_dir(temporary)
    fs.rename(temporary, final_path)
    fs.sync_dir(parent)
    items, edges = files["item_id"].shape[0], files["source"].shape[0]
    return SegmentEntry(segment_id, folded, items, edges, tuple(entries))


def write_columns(
    fs: FileSystem,
    folder: str,
    entry: SegmentEntry,
    number: int,
    columns: Mapping[str, Array],
    *,
    folded: Lsn,
) -> SegmentEntry:
    """Write new generations of some columns beside the old ones; the manifest then names these instead."""
    root = f"{folder}/{segment_folder(entry.id)}"
    fresh = [
        _write(fs, f"{root}/{name}.g{number}.npy", column)[0] for name, column in sorted(columns.items())
    ]
    fs.sync_dir(root)
    kept = [file for file in entry.files if column_of(file.name) not in columns]
    return SegmentEntry(entry.id, folded, entry.items, entry.edges, (*kept, *fresh))


def _write(
    fs: FileSystem,
    path: str,
    column: Array | Chunks,
    *,
    large: bool = False,
    pulse: Callable[[], None] = go_on,
) -> tuple[FileEntry, Array | None]:
    pulse()
    pieces = _pieces(column)
    data = next(pieces)
    fs.write_new(path, data)
    size, crc, sums = len(data), zlib.crc32(data), _Sums(large)
    sums.add(data)
    file, synced = None, 0
    try:
        for data in pieces:
            pulse()
            file = file or fs.append_to(path)
            file.write(data, size)
            size, crc = size + len(data), zlib.crc32(data, crc)
            sums.add(data)
            if size - synced >= _BURST:
                file.sync()
                synced = size
    finally:
        if file is not None:
            file.close()
    fs.sync_file(path)
    return FileEntry(path.rsplit("/", 1)[1], size, crc), sums.table() if large else None


def _pieces(column: Array | Chunks) -> Iterator[bytes]:
    """The bytes of a .npy file, in one piece if it is small: nothing that takes long is done at once."""
    if not isinstance(column, Chunks) and column.nbytes <= _PIECE:
        yield npy_bytes(column)
        return
    yield npy_header(column.dtype, column.shape)
    if isinstance(column, Chunks):
        yield from (chunk.tobytes() for chunk in column)
    else:
        flat = column.reshape(-1).view(np.uint8)
        for start in range(0, len(flat), _PIECE):
            yield flat[start : start + _PIECE].tobytes()


class _Sums:
    """CRC32s of a file's blocks, computed as it is written."""

    def __init__(self, wanted: bool) -> None:
        self._wanted, self._done, self._room, self._crc = wanted, list[int](), BLOCK, 0

    def add(self, data: bytes) -> None:
        at = 0
        while self._wanted and at < len(data):
            part = data[at : at + self._room]
            self._crc = zlib.crc32(part, self._crc)
            at += len(part)
            self._room -= len(part)
            if not self._room:
                self._done.append(self._crc)
                self._room, self._crc = BLOCK, 0

    def table(self) -> Array:
        rest = [self._crc] if self._room < BLOCK else []
        return np.array([*self._done, *rest], np.uint32)


def written(entries: Iterable[FileEntry]) -> int:
    """Bytes of some files."""
    return sum(entry.size for entry in entries)
