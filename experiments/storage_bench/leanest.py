"""The leanest Python program for each kind of call: what it costs when nothing else is promised.

It checks what comes in, logs one checksummed record before it changes its state, finds all of it again when
it is opened anew, and takes calls from any thread. It has no versions and no past, no snapshots, no flush and
no merge: what those cost is the distance from here to T4DX.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import repeat
from math import isfinite
from pathlib import Path
from threading import Lock
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from experiments.storage_bench.data import START, Data, Row
from experiments.storage_bench.systems.base import Answer
from experiments.storage_bench.systems.t4dx_system import LEVELS
from t4dm.t4dx.logfile import LARGEST_STEP, ZEROED_STEP

HEAD: Final = struct.Struct("<II")
"""Checksum and length of a record. The checksum begins with the record's number."""
INSERT, UPDATE, UPDATE_MANY, BUMP = range(4)
_NOTHING: Final[dict[str, float]] = {}


@final
class Log:
    """Records in a file that is allocated ahead by the steps of T4DX's log; not thread-safe.

    Args:
        path: of the file, made when missing.
        synced: fdatasync after each record, into blocks that were overwritten with zeros before.
    """

    def __init__(self, path: Path, *, synced: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._synced, self._step = synced, ZEROED_STEP if synced else LARGEST_STEP
        self._end = self._number = 0
        self._allocated = os.fstat(self._fd).st_size

    def append(self, payload: bytes) -> None:
        """Log one record."""
        head = HEAD.pack(zlib.crc32(payload, self._number), len(payload))
        self.write(head + payload)
        self._number += 1

    def write(self, record: bytes) -> None:
        """The same without a checksum. After an fdatasync that failed nothing more is taken."""
        end = self._end
        stop = end + len(record)
        if stop > self._allocated:
            self._allocate(stop)
        if os.pwrite(self._fd, record, end) < len(record):
            raise OSError(errno.EIO, "short write")
        if self._synced:
            try:
                _sync(self._fd)
            except OSError:
                self.close()
                raise
        self._end = stop

    def records(self) -> Iterator[bytes]:
        """The payloads from the start up to the first that is not whole. What lies behind them is cut off, so
        that no record of then follows one that `append` puts there.
        """
        data = os.pread(self._fd, self._allocated, 0)
        while self._end + HEAD.size <= len(data):
            crc, length = HEAD.unpack_from(data, self._end)
            start = self._end + HEAD.size
            payload = data[start : start + length]
            if not length or zlib.crc32(payload, self._number) != crc:
                break
            self._end, self._number = start + length, self._number + 1
            yield payload
        os.ftruncate(self._fd, self._end)
        self._allocated = self._end

    def tail(self, size: int) -> bytes:
        """The last bytes that were written."""
        return os.pread(self._fd, size, max(0, self._end - size))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _allocate(self, stop: int) -> None:
        size = -(-(stop + self._step) // mmap.PAGESIZE) * mmap.PAGESIZE
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, self._allocated, size - self._allocated)
        if self._synced:
            os.pwrite(self._fd, bytes(size - self._allocated), self._allocated)
        self._allocated = size


_sync: Final = getattr(os, "fdatasync", os.fsync)


@final
class Leanest:
    """Items by a dict of their ids, learning state in columns, edges in a dict of dicts. Vectors and texts of
    the loaded rows lie in files that are mapped, those of later ones in the records that were logged.
    """

    def __init__(self, label: str, mode: str) -> None:
        self.label, self.mode, self.durability = label, mode, LEVELS[mode]

    def open(self, folder: Path, data: Data) -> None:
        """The first `data.n` rows and their edges are there; what a log in `folder` holds follows."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ids, self._n, self._shape = data.ids, data.n, (data.dim,)
        self._items, self._starts, self._vectors = _files(folder, data)
        self._numbers = {name: number for number, name in enumerate(data.ids[: data.n])}
        self._times = START + 60.0 * np.arange(data.n)
        self._kappas = np.array(data.kappas[: data.n])
        self._kappa, self._time = self._kappas.data, self._times.data  # one value of these is had sooner
        self._fresh: list[bytes] = []
        self._links = {
            data.ids[num]: dict(zip([data.ids[other] for other in others], weights, strict=True))
            for num, (others, weights) in enumerate(
                zip(data.targets.tolist(), data.weights.tolist(), strict=True)
            )
        }
        self._lock, self._pack = Lock(), msgpack.Packer().pack
        self._log = Log(folder / "log", synced=self.mode == "sync")
        for payload in self._log.records():
            self._replay(payload)

    def insert(self, row: Row) -> None:
        _, name, text, kappa, time, vector = row
        vector = np.ascontiguousarray(vector, np.float32)
        if vector.shape != self._shape or not isfinite(vector.dot(vector)):
            raise ValueError(f"item {name!r}: its vector is no {self._shape} of finite numbers")
        if not (name and 0.0 <= kappa <= 1.0 and isfinite(time)):
            raise ValueError(f"item {name!r}: no id, or kappa {kappa} or time {time} out of range")
        with self._lock:
            payload = self._pack((INSERT, name, text, kappa, time, vector.data))
            self._log.append(payload)
            self._add(name, kappa, time, payload)

    def update(self, num: int, kappa: float) -> None:
        name = self._ids[num]
        if not 0.0 <= kappa <= 1.0:
            raise ValueError(f"item {name!r}: kappa {kappa} is not in [0, 1]")
        with self._lock:
            number = self._numbers[name]
            self._log.append(self._pack((UPDATE, name, "kappa", kappa)))
            self._kappa[number] = kappa

    def update_first(self, count: int, kappa: float) -> None:
        """By a range of times. The log holds which items passed: a replay asks no filter."""
        if not 0.0 <= kappa <= 1.0:
            raise ValueError(f"kappa {kappa} is not in [0, 1]")
        with self._lock:
            times = self._times[: self._n + len(self._fresh)]
            passed = np.flatnonzero((times >= START) & (times < START + 60.0 * count)).astype(np.int32)
            self._log.append(self._pack((UPDATE_MANY, "kappa", passed.data, kappa)))
            self._kappas[passed] = kappa

    def bump(self, edge: tuple[int, int, float]) -> None:
        source, target, delta = self._ids[edge[0]], self._ids[edge[1]], edge[2]
        if not isfinite(delta):
            raise ValueError(f"edge {source!r} -> {target!r}: {delta} is no change of a weight")
        with self._lock:
            links = self._links[source]
            weight = links[target] + delta
            self._log.append(self._pack((BUMP, source, target, delta)))
            links[target] = 0.0 if weight < 0.0 else 1.0 if weight > 1.0 else weight

    def get(self, num: int) -> Answer:
        number = self._numbers[self._ids[num]]
        if number >= self._n:
            _, _, text, _, _, data = msgpack.unpackb(self._fresh[number - self._n])
            return Answer(text, self._kappa[number], np.frombuffer(data, np.float32))
        text, _ = msgpack.unpackb(self._items[self._starts[number] : self._starts[number + 1]])
        return Answer(text, self._kappa[number], self._vectors[number].copy())

    def two_hops(self, num: int) -> set[str]:
        start, links = self._ids[num], self._links
        near = links.get(start, _NOTHING)
        found = set(near).union(*map(links.get, near, repeat(_NOTHING)))
        found.discard(start)
        return found

    def weight(self, source: int, target: int) -> float:
        return self._links[self._ids[source]][self._ids[target]]

    def state(self) -> tuple[Any, ...]:
        """All that calls can change, to compare."""
        count = self._n + len(self._fresh)
        columns = self._kappas[:count].tolist(), self._times[:count].tolist()
        return self._numbers, *columns, self._fresh, self._links

    def close(self) -> None:
        self._log.close()

    def _add(self, name: str, kappa: float, time: float, payload: bytes) -> None:
        number = self._n + len(self._fresh)
        if number == len(self._kappas):  # twice as large: a few copies in the life of a column
            self._kappas, self._times = (
                np.resize(self._kappas, 2 * number),
                np.resize(self._times, 2 * number),
            )
            self._kappa, self._time = self._kappas.data, self._times.data
        self._kappa[number], self._time[number] = kappa, time
        self._fresh.append(payload)
        self._numbers[name] = number

    def _replay(self, payload: bytes) -> None:
        match msgpack.unpackb(payload):
            case [0, name, _, kappa, time, _]:
                self._add(name, kappa, time, payload)
            case [1, name, _, kappa]:
                self._kappa[self._numbers[name]] = kappa
            case [2, _, passed, kappa]:
                self._kappas[np.frombuffer(passed, np.int32)] = kappa
            case [3, source, target, delta]:
                links = self._links[source]
                links[target] = min(max(links[target] + delta, 0.0), 1.0)


@final
class Kernel:
    """What the kernel alone takes for a synced write: as many bytes at the same places, one fdatasync after
    each, nothing around them.
    """

    def __init__(self, label: str, mode: str) -> None:
        self.label, self.mode, self.durability = label, mode, LEVELS[mode]

    def open(self, folder: Path, data: Data) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        row = data.row(0)
        item = INSERT, row.id, row.text, row.kappa, row.time, row.vector.data
        payloads = msgpack.packb(item), msgpack.packb((UPDATE, row.id, "kappa", row.kappa))
        self._item, self._field = (b"\xff" * (HEAD.size + len(payload)) for payload in payloads)
        self._log = Log(folder / "log", synced=self.mode == "sync")

    def insert(self, row: Row) -> None:
        self._log.write(self._item)

    def update(self, num: int, kappa: float) -> None:
        self._log.write(self._field)

    def is_written(self) -> bool:
        """Whether the file holds what was written last."""
        return self._log.tail(len(self._field)) == self._field

    def close(self) -> None:
        self._log.close()


def _files(folder: Path, data: Data) -> tuple[mmap.mmap, list[int], NDArray[np.float32]]:
    """Texts and times of the loaded rows as packed bytes, where each of them begins, and their vectors
    [n, D]: maps of two files.
    """
    items, vectors = folder / "items.bin", folder / "vectors.npy"
    packed = [msgpack.packb((row.text, row.time)) for row in map(data.row, range(data.n))]
    if not items.exists():
        np.save(vectors, data.vectors[: data.n])
        items.write_bytes(b"".join(packed))
    with items.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    starts = np.cumsum([0, *map(len, packed)]).tolist()
    return held, starts, np.asarray(np.load(vectors, mmap_mode="r"))
