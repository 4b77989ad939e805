"""Bytes of immutable files: .npy columns are checked whole, large ones block by block when first touched."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import CorruptionError
from t4dm.t4dx.columns import Array

BLOCK: Final = 1 << 18
"""Bytes that one entry of a table of checksums covers."""
_HEADER: Final = 512  # bytes that surely hold the header of a .npy file with a plain dtype
_PLAIN: Final = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([0-9, ]*)\), \}",
    re.DOTALL,
)


@final
class Blob:
    """A mapped .npy file with a checksum per block: a look at one row checks one block, not the file.

    Args:
        path: for messages.
        mapped: the bytes.
        sums: reads the table of CRC32s, one for each BLOCK bytes of the file.
        fresh: whether the file has just been written by this process, and needs no check.
    """

    def __init__(
        self, path: str, mapped: NDArray[np.uint8], sums: Callable[[], Array], *, fresh: bool = False
    ) -> None:
        self._path, self._data, self._sums, self._bytes = path, mapped, sums, mapped.data
        self._table: Array | None = None
        self._seen = bytearray(-(-len(mapped) // BLOCK))
        self._all = fresh
        self._array: Array | None = None
        self._row = 0
        self._start = 0

    def whole(self) -> Array:
        """The array; raises CorruptionError where any block is damaged."""
        if not self._all:
            self._check(0, len(self._data))
            self._all = True
        return self._parsed()

    def __len__(self) -> int:
        return len(self._parsed())

    def rows(self, lo: int, hi: int) -> Array:
        """Rows lo..hi of the array; raises CorruptionError where one of their blocks is damaged."""
        column = self._parsed()
        if not self._all:
            self._check(self._start + lo * self._row, self._start + hi * self._row)
        part: Array = column[lo:hi]
        return part

    def octets(self, lo: int, hi: int) -> memoryview:
        """Bytes lo..hi of an array of bytes; raises CorruptionError where one of their blocks is damaged."""
        if self._array is None:
            self._parsed()
        lo, hi = self._start + lo, self._start + hi
        if not self._all:
            self._check(lo, hi)
        return self._bytes[lo:hi]

    def row(self, place: int) -> Array:
        """One row of the array; raises CorruptionError where one of its blocks is damaged."""
        column = self._parsed() if self._array is None else self._array
        if not self._all:
            start = self._start + place * self._row
            self._check(start, start + self._row)
        row: Array = column[place]
        return row

    def rows_at(self, places: NDArray[np.int64]) -> Array:
        """A copy of some rows of the array; raises CorruptionError where one of their blocks is damaged."""
        column = self._parsed() if self._array is None else self._array
        if not self._all:
            starts = self._start + places * self._row
            seen = np.frombuffer(self._seen, np.bool_)
            # a row that is longer than a block touches more than its first and its last one
            if self._row > BLOCK or not (
                seen[starts // BLOCK].all() and seen[(starts + self._row - 1) // BLOCK].all()
            ):
                for start in starts.tolist():
                    self._check(start, start + self._row)
        rows: Array = column[places]
        return rows

    def _parsed(self) -> Array:
        if self._array is None:
            if not self._all:
                self._check(0, min(_HEADER, len(self._data)))
            column, self._start = parse(self._bytes)
            self._row = column.strides[0]
            self._array = column
        return self._array

    def _check(self, lo: int, hi: int) -> None:
        first, last = lo // BLOCK, max(lo, hi - 1) // BLOCK
        if self._seen.find(0, first, last + 1) < 0:
            return
        if self._table is None:
            self._table = self._sums()
        data = self._bytes
        for block in range(first, last + 1):
            if not self._seen[block]:
                if block >= len(self._table) or zlib.crc32(data[block * BLOCK : (block + 1) * BLOCK]) != int(
                    self._table[block]
                ):
                    raise CorruptionError(self._path, "its checksum is wrong")
                self._seen[block] = 1
        self._all = self._seen.find(0) < 0


def npy_header(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """The bytes before the data of a .npy file."""
    buffer = io.BytesIO()
    descr = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, descr)
    return buffer.getvalue()


def npy_bytes(column: Array) -> bytes:
    """An array as the bytes of a .npy file."""
    return npy_header(column.dtype, column.shape) + column.tobytes()


def checked(data: NDArray[np.uint8], path: str, crc: int | None) -> Array:
    """The array in the bytes of a .npy file; raises CorruptionError for a wrong checksum."""
    if zlib.crc32(data.data) != crc:
        raise CorruptionError(path, "its checksum is wrong")
    return parse(data.data)[0]


def parse(data: memoryview) -> tuple[Array, int]:
    """The array in the bytes of a .npy file, sharing them, and where its data start."""
    found = _PLAIN.match(bytes(data[:_HEADER]))
    if found is None:
        raise ValueError("not a .npy file with a plain dtype")
    shape = tuple(int(size) for size in found[3].split(b",") if size.strip())
    start = 10 + int.from_bytes(found[1], "little")
    column = np.frombuffer(data, found[2].decode(), count=math.prod(shape), offset=start)
    return column.reshape(shape), start
