"""Files of graphs: derived, disposable, and checked before a library sees them.

`graphs/<segment>-<collection>.<back-end>` holds the library's own bytes and behind them a foot: what the
graph is of, how many of its bytes must be right before anything follows a link, and a CRC32 for every block.
It is written beside, synced, renamed. No manifest names it: a file that does not fit the segment's vectors,
to the checksum, counts as absent.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Bitmap, Builder, Places, Space
from t4dm.t4dx.fs import FileSystem, LogFile

FOLDER: Final = "graphs"
FORMAT: Final = 3
BLOCK: Final = 1 << 18
"""Bytes that one checksum covers."""
_MAGIC: Final = b"T4DXGRPH"
_TAIL: Final = struct.Struct("<II8s")  # size of the foot, its CRC32, the magic
_PIECE: Final = 1 << 20  # bytes written at once
_BURST: Final = 8 << 20  # bytes until the next fsync: the log waits behind it for a turn at the disk


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Foot:
    """What a file says of itself.

    Attributes:
        segment, collection: whose vectors. dim, metric: the space. vectors: their file's CRC32.
        rows: places that it holds. nodes: of the graph, dropped rows included.
        backend, version: the library that wrote it.
        structure: bytes from the front that must be right before a library sees any.
        size: bytes of the library. sums: CRC32s of their blocks, uint32.
        ladder: what walks of some sizes find, [size, share] each.
        basis: of the space, float32 [dim, d]; empty where nodes are whole points.
        unreached: places, int32. places: of each node, int32; empty where node i holds place i.
        seconds: that the build took.
    """

    segment: int
    collection: int
    dim: int
    metric: str
    vectors: int
    rows: int
    nodes: int
    backend: str
    version: str
    structure: int
    size: int
    sums: bytes
    ladder: list[list[float]]
    basis: bytes
    unreached: bytes
    places: bytes
    seconds: float
    format: int = FORMAT

    @property
    def space(self) -> Space:
        """Where its nodes lie; raises ValueError for a basis of another space."""
        basis = np.frombuffer(self.basis, np.float32).reshape(self.dim, -1) if self.basis else None
        return Space(self.metric, self.dim, basis)


def path_of(folder: str, segment: int, collection: int, backend: str) -> str:
    """Where the graph of a segment's vectors lies."""
    return f"{folder}/{FOLDER}/{segment:020d}-{collection}.{backend}"


def segment_of(name: str) -> int:
    """The segment to which a file in the folder of graphs belongs, -1 for one that is not finished."""
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else -1


def temporary(folder: str, number: int) -> str:
    """Where a graph is written."""
    return f"{folder}/{FOLDER}/.tmp-{number:020d}"


def write(
    fs: FileSystem,
    folder: str,
    number: int,
    builder: Builder,
    foot: Callable[[int, int, bytes], Foot],
    *,
    pulse: Callable[[], None],
) -> Foot:
    """Write a graph; `foot` makes its foot from the bytes of structure, of all, and their checksums.

    Raises OSError, or what `pulse` raises; then nothing of it is left but for what the next sweep takes.
    """
    if not fs.exists(f"{folder}/{FOLDER}"):
        fs.mkdir(f"{folder}/{FOLDER}")
        fs.sync_dir(folder)
    beside = temporary(folder, number)
    try:
        made = _write(fs, beside, builder, foot, pulse)
        target = path_of(folder, made.segment, made.collection, made.backend)
        if fs.exists(target):  # a damaged one, or of other vectors
            fs.unlink(target)
        fs.rename(beside, target)
    except Exception:
        with contextlib.suppress(OSError):
            fs.unlink(beside)
        raise
    fs.sync_dir(f"{folder}/{FOLDER}")
    return made


def read_foot(data: Bitmap) -> Foot | None:
    """The foot of a file; None where it is damaged or of another format."""
    if len(data) < _TAIL.size:
        return None
    size, crc, magic = _TAIL.unpack(data[-_TAIL.size :].tobytes())
    if magic != _MAGIC or size + _TAIL.size > len(data):
        return None
    packed = data[-_TAIL.size - size : -_TAIL.size].tobytes()
    if zlib.crc32(packed) != crc:
        return None
    raw = msgpack.unpackb(packed, raw=False)
    if raw.get("format") != FORMAT or set(raw) != {field.name for field in fields(Foot)}:
        return None
    foot = Foot(**raw)
    return foot if foot.size + size + _TAIL.size == len(data) and foot.structure <= foot.size else None


def intact(
    data: Bitmap, foot: Foot, *, first: int, last: int, pulse: Callable[[], None] = lambda: None
) -> bool:
    """Whether the blocks with the bytes first..last are what was written."""
    sums, view = np.frombuffer(foot.sums, np.uint32), data.data[: foot.size]
    if len(sums) != -(-foot.size // BLOCK):
        return False
    for block in range(first // BLOCK, -(-last // BLOCK)):
        pulse()
        if zlib.crc32(view[block * BLOCK : (block + 1) * BLOCK]) != int(sums[block]):
            return False
    return True


def survey(fs: FileSystem, folder: str) -> tuple[int, list[str]]:
    """How many graphs lie in a store, every byte of them checked, and which of them are damaged."""
    root, damaged = f"{folder}/{FOLDER}", []
    names = [name for name in fs.listdir(root) if segment_of(name) >= 0] if fs.exists(root) else []
    for name in names:
        try:
            data = fs.map_bytes(f"{root}/{name}") if fs.size(f"{root}/{name}") else np.zeros(0, np.uint8)
        except OSError:  # gone, or out of reach: either way there is no graph
            data = np.zeros(0, np.uint8)
        foot = read_foot(data)
        if foot is None or not intact(data, foot, first=0, last=foot.size):
            damaged.append(f"{root}/{name}")
    return len(names) - len(damaged), damaged


def int32s(data: bytes) -> NDArray[np.int32]:
    """An array that a foot holds."""
    return np.frombuffer(data, np.int32)


def packed(places: Places | NDArray[np.int32]) -> bytes:
    """An array as a foot holds it."""
    return places.astype(np.int32).tobytes()


def _write(
    fs: FileSystem,
    path: str,
    builder: Builder,
    foot: Callable[[int, int, bytes], Foot],
    pulse: Callable[[], None],
) -> Foot:
    if fs.exists(path):
        fs.unlink(path)
    fs.write_new(path, b"")
    file = fs.append_to(path)
    sink = _Sink(file, pulse)
    try:
        structure = builder.write(sink.take)
        sink.end()
        made = foot(structure, sink.size, sink.sums())
        body = msgpack.packb(asdict(made), use_bin_type=True)
        sink.put(body + _TAIL.pack(len(body), zlib.crc32(body), _MAGIC))
    finally:
        file.close()
    fs.sync_file(path)
    return made


@final
class _Sink:
    """Bytes on their way to a file, and their checksums.

    A library calls `take` from C++, through which no exception can pass: it is kept until `end`.
    """

    def __init__(self, file: LogFile, pulse: Callable[[], None]) -> None:
        self._file, self._pulse = file, pulse
        self.size, self._synced, self._waiting = 0, 0, bytearray()
        self._done, self._crc, self._room = list[int](), 0, BLOCK
        self._failure: BaseException | None = None

    def take(self, data: bytes) -> None:
        """Write some more, in pieces that are worth a call."""
        if self._failure is not None:
            return
        self._waiting += data
        if len(self._waiting) < _PIECE:
            return
        try:
            self._pulse()
            self._move()
        except BaseException as error:
            self._failure = error

    def end(self) -> None:
        """Write the rest; raises what went wrong before."""
        if self._failure is not None:
            raise self._failure
        self._move()

    def _move(self) -> None:
        data = bytes(self._waiting)
        self._waiting.clear()
        self.put(data)
        self._add(data)

    def put(self, data: bytes) -> None:
        """Write, without a checksum."""
        self._file.write(data, self.size)
        self.size += len(data)
        if self.size - self._synced >= _BURST:
            self._file.sync()
            self._synced = self.size

    def sums(self) -> bytes:
        """The checksums of all blocks."""
        rest = [self._crc] if self._room < BLOCK else []
        return np.array([*self._done, *rest], np.uint32).tobytes()

    def _add(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            part = data[at : at + self._room]
            self._crc = zlib.crc32(part, self._crc)
            at, self._room = at + len(part), self._room - len(part)
            if not self._room:
                self._done.append(self._crc)
                self._crc, self._room = 0, BLOCK
