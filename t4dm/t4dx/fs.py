"""The one door to the disk. Everything the engine reads or writes goes through a `FileSystem`.

The tests pass a simulated twin that loses unsynced writes and fails the k-th call.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # no flock on this platform: the lock file alone names the owner
    fcntl = None  # type: ignore[assignment]

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # disk, quota, largest file allowed
NETWORKS: Final = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs")
"""File systems on which locks and maps do not hold between machines, as /proc/mounts names them."""


def _full_fsync(fd: int) -> None:
    """macOS: fsync alone leaves data in the cache of the drive."""
    fcntl.fcntl(fd, 51)  # F_FULLFSYNC


_FSYNC: Final = _full_fsync if sys.platform == "darwin" else os.fsync
_SYNC: Final = _full_fsync if sys.platform == "darwin" else getattr(os, "fdatasync", os.fsync)


class LogFile(Protocol):
    """A file that is written from front to back.

    `write` takes all bytes or raises OSError; `allocate` extends the file by zeros that have their blocks, or
    returns False where the file system cannot; `sync` makes the data durable, but not a size that shrank.
    """

    def write(self, data: bytes, at: int) -> None: ...
    def allocate(self, size: int) -> bool: ...
    def sync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class Lock(Protocol):
    """A lock held until `release`; `abandon` drops the descriptor in a forked child."""

    def release(self) -> None: ...
    def abandon(self) -> None: ...


class FileSystem(Protocol):
    """What the engine asks of a disk. Paths are strings; every failure is an OSError."""

    def exists(self, path: str) -> bool: ...
    def listdir(self, path: str) -> list[str]: ...
    def size(self, path: str) -> int: ...
    def mkdir(self, path: str) -> None: ...
    def read(self, path: str) -> bytes: ...
    def read_range(self, path: str, at: int, size: int) -> bytes: ...
    def write_new(self, path: str, data: bytes) -> None: ...
    def append_to(self, path: str) -> LogFile: ...
    def sync_file(self, path: str) -> None: ...
    def sync_dir(self, path: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def link(self, source: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def remove_tree(self, path: str) -> None: ...
    def map_bytes(self, path: str) -> NDArray[np.uint8]: ...
    def lock(self, path: str, owner: str) -> Lock | str: ...
    def guard(self, path: str, *, exclusive: bool) -> Lock | None: ...
    def network(self, path: str) -> str: ...
    def token(self, size: int) -> bytes: ...


@final
class _OsLogFile:
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)

    def write(self, data: bytes, at: int) -> None:
        written = os.pwrite(self._fd, data, at)
        while written < len(data):  # a short write: the rest names the reason, or there is none
            more = os.pwrite(self._fd, memoryview(data)[written:], at + written)
            if more <= 0:
                raise OSError(errno.EIO, "short write")
            written += more

    def allocate(self, size: int) -> bool:
        now = os.fstat(self._fd).st_size
        if not hasattr(os, "posix_fallocate"):
            return False
        try:
            os.posix_fallocate(self._fd, now, max(1, size - now))
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
        return True

    def sync(self) -> None:
        _SYNC(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@final
class _FlockLock:
    """flock, not lockf: a POSIX record lock vanishes when any descriptor of the file closes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@final
class OsFileSystem:
    """The operating system's files."""

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def mkdir(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def read_range(self, path: str, at: int, size: int) -> bytes:
        """Bytes at an offset; fewer at the end of the file."""
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            return os.pread(fd, min(size, max(0, os.fstat(fd).st_size - at)), at)
        finally:
            os.close(fd)

    def write_new(self, path: str, data: bytes) -> None:
        """Create a file that must not exist; its bytes are not synced yet."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def append_to(self, path: str) -> LogFile:
        return _OsLogFile(path)

    def sync_file(self, path: str) -> None:
        self._fsync(path, os.O_RDWR)

    def sync_dir(self, path: str) -> None:
        if os.name == "posix":  # elsewhere a directory cannot be opened, and the rename is journalled
            self._fsync(path, os.O_RDONLY)

    def rename(self, source: str, target: str) -> None:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "already exists", target)
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """A hard link, or a copy where the target lies on another file system."""
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
            shutil.copyfile(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def map_bytes(self, path: str) -> NDArray[np.uint8]:
        """A read-only memory map: pages come in when they are touched, and outlive the name of the file."""
        return np.memmap(path, np.uint8, mode="r")

    def lock(self, path: str, owner: str) -> Lock | str:
        """The lock, or what the file says about who holds it. The file is never deleted."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        if fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 500, 0).decode("utf-8", "replace").strip()
                os.close(fd)
                return holder
        os.ftruncate(fd, 0)
        os.pwrite(fd, owner.encode(), 0)
        return _FlockLock(fd)

    def guard(self, path: str, *, exclusive: bool) -> Lock | None:
        """A lock that readers share: they wait for it, while an exclusive one is had at once or not at all.
        None where it is not free, or where a reader finds no file to lock (and may not make one).
        """
        create = os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY
        try:
            fd = os.open(path, create | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError:
            if exclusive:
                raise
            return None
        if fcntl is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
            except BlockingIOError:
                os.close(fd)
                return None
        return _FlockLock(fd)

    def network(self, path: str) -> str:
        """The kind of network file system a path lies on, for example "nfs4"; empty for a local one."""
        try:
            mounts = Path("/proc/mounts").read_text("utf-8", "replace").splitlines()
        except OSError:  # only Linux tells
            return ""
        real, best = os.path.realpath(path), ("", "")
        for place, kind in (line.split(" ")[1:3] for line in mounts):
            folder = place.replace("\\040", " ").rstrip("/")
            if (real == folder or real.startswith(f"{folder}/")) and len(folder) >= len(best[0]):
                best = folder, kind
        return best[1] if best[1] in NETWORKS else ""

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    @staticmethod
    def _fsync(path: str, flags: int) -> None:
        fd = os.open(path, flags)
        try:
            _FSYNC(fd)
        finally:
            os.close(fd)
