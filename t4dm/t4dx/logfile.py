"""A log file that is being written: allocated ahead, so that a record does not change the file's size."""

from __future__ import annotations

import sys
from typing import Final, NamedTuple, final

from t4dm.t4dx import wal
from t4dm.t4dx.fs import FULL, FileSystem, LogFile
from t4dm.t4dx.seal import MAC, Seal
from t4dm.t4dx.wal import Kind, WalInfo

LEAST_STEP: Final = 64 * 2**10
LARGEST_STEP: Final = 4 * 2**20
ZEROED_STEP: Final = 256 * 2**10
_BLOCK: Final = 4096


class Mark(NamedTuple):
    """A place to go back to."""

    size: int
    mac: bytes


@final
class LogWriter:
    """Appends records to one open log file. Not thread-safe, but `sync` may run beside `append`.

    Args:
        path: of a file that exists.
        size: bytes in use; what lies behind them is zeros.
        mac: MAC of the last record, or of the header; unused without a seal.
        zeroed: write zeros into the blocks that are allocated ahead. A block that was allocated and never
            written changes the file system's own journal with its first record, and the fdatasync then waits
            for that as well; worth it where each write is synced.
    """

    def __init__(
        self,
        fs: FileSystem,
        path: str,
        info: WalInfo,
        *,
        size: int,
        seal: Seal | None = None,
        mac: bytes = b"",
        zeroed: bool = False,
    ) -> None:
        self.info, self.path, self.size, self.mac, self.intact = info, path, size, mac, True
        self._fs, self._seal, self._allocated, self._zeroed = fs, seal, fs.size(path), zeroed
        self._file = fs.append_to(path)
        self._write = self._file.write

    @classmethod
    def create(
        cls, fs: FileSystem, folder: str, info: WalInfo, seal: Seal | None = None, *, zeroed: bool = False
    ) -> LogWriter:
        """Make a new log file, durable with its name."""
        make_spare(fs, folder, info.file_id, zeroed=zeroed)
        return cls.begin(fs, folder, info, seal, zeroed=zeroed)

    @classmethod
    def begin(
        cls, fs: FileSystem, folder: str, info: WalInfo, seal: Seal | None = None, *, zeroed: bool = False
    ) -> LogWriter:
        """Put the header into a spare file, durably."""
        header = wal.file_header(info, seal)
        path = f"{folder}/{wal.wal_name(info.file_id)}"
        log = cls(fs, path, info, size=0, seal=seal, mac=header[-MAC:], zeroed=zeroed)
        try:
            log._append(header)
            log.sync()
        except OSError:
            log.close()
            raise
        return log

    def append(self, kind: Kind, lsn: int, ops: int, durable: int, payload: bytes = b"") -> None:
        """Write a record. On a full disk nothing is left of it; on another error the file is cut back.

        `intact` turns False where even the cut fails: half a record may then lie at the end of the file.
        """
        data = wal.encode(kind, lsn, ops, durable, payload, self.info.salt)
        if self._seal is None:
            self._append(data)
            return
        mac = self._seal.mac(self.mac, data)
        self._append(data + mac)
        self.mac = mac

    def mark(self) -> Mark:
        """This place, for `back_to`."""
        return Mark(self.size, self.mac)

    def back_to(self, mark: Mark) -> None:
        """Drop what was appended since; `intact` says whether it worked."""
        if mark.size == self.size and self.intact:
            return
        self.intact = False
        self._file.truncate(mark.size)
        self.size, self.mac, self._allocated, self.intact = *mark, mark.size, True

    def trim(self) -> bool:
        """Give back what was allocated ahead, and make the file durable with its size; False for nothing."""
        if self._fs.size(self.path) <= self.size:
            return False
        self._file.truncate(self.size)
        self._allocated = self.size
        self._fs.sync_file(self.path)
        return True

    def sync(self) -> None:
        """fdatasync what was appended so far."""
        self._file.sync()

    def close(self) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        end = self.size + len(data)
        if end > self._allocated:
            self._allocate(end)
        try:
            self._write(data, self.size)
        except OSError:
            self.intact = False
            self.back_to(self.mark())
            raise
        self.size = end

    def _allocate(self, need: int) -> None:
        """Ask for a step of blocks; on a nearly full disk for no more than this record needs."""
        step = ZEROED_STEP if self._zeroed else min(max(need, LEAST_STEP), LARGEST_STEP)
        ahead = -(-(need + step) // _BLOCK) * _BLOCK
        try:
            self._allocated = ahead if self._file.allocate(ahead) else sys.maxsize
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._allocated = need if self._file.allocate(need) else sys.maxsize
        if self._zeroed and self._allocated == ahead:
            _write_zeros(self._file, need, ahead)


def _write_zeros(file: LogFile, start: int, stop: int) -> None:
    """Give allocated blocks their zeros. Where there is no room for that, the file system does not overwrite
    in place, and zeros would save nothing.
    """
    try:
        file.write(bytes(stop - start), start)
    except OSError as error:
        if error.errno not in FULL:
            raise


def make_spare(fs: FileSystem, folder: str, file_id: int, *, zeroed: bool = False) -> None:
    """An empty log file that is durable with its name, and has its first blocks where the disk allows;
    `zeroed` as `LogWriter` explains.
    """
    path = f"{folder}/{wal.wal_name(file_id)}"
    if fs.exists(path):
        fs.unlink(path)
    fs.write_new(path, b"")
    file = fs.append_to(path)
    try:
        if file.allocate(LEAST_STEP) and zeroed:
            _write_zeros(file, 0, LEAST_STEP)
    finally:
        file.close()
    fs.sync_file(path)
    fs.sync_dir(folder)
