"""The one door to the disk. Everything the engine reads or writes goes through a `FileSystem`.

The tests pass a simulated twin that loses unsynced writes and fails the k-th call.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # no flock on this platform: the lock file alone names the owner
    fcntl = None  # type: ignore[assignment]

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class LogFile(Protocol):
    """A file that only grows; `write` takes all bytes or raises OSError."""

    def write(self, data: bytes) -> None: ...
    def sync(self) -> None: ...
    def truncate(self, size: int) -> None: ...
    def close(self) -> None: ...


class Lock(Protocol):
    """An exclusive lock held until `release`; `abandon` drops the descriptor in a forked child."""

    def release(self) -> None: ...
    def abandon(self) -> None: ...


class FileSystem(Protocol):
    """What the engine asks of a disk. Paths are strings; every failure is an OSError."""

    def exists(self, path: str) -> bool: ...
    def listdir(self, path: str) -> list[str]: ...
    def size(self, path: str) -> int: ...
    def mkdir(self, path: str) -> None: ...
    def read(self, path: str) -> bytes: ...
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
    def token(self, size: int) -> bytes: ...


@final
class _OsLogFile:
    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            if written <= 0:
                raise OSError(errno.EIO, "short write")
            view = view[written:]

    def sync(self) -> None:
        getattr(os, "fdatasync", os.fsync)(self._fd)

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

    def token(self, size: int) -> bytes:
        return os.urandom(size)

    @staticmethod
    def _fsync(path: str, flags: int) -> None:
        fd = os.open(path, flags)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
