"""A disk in memory that forgets what was not synced, tears last writes and fails the k-th call."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field

import numpy as np


class Crash(BaseException):
    """The machine stops here; no code may catch it and go on writing."""


@dataclass
class File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Folder:
    entries: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)


class SimulatedFileSystem:
    """Implements `t4dm.t4dx.fs.FileSystem`.

    Args:
        crash_at: number of the changing call (from 1) at which the machine stops; a write may be half done
        then. fail_at: number of the changing call that raises `error`; with `forever` all later ones as well.
        capacity: bytes that fit on the disk.
    """

    def __init__(
        self,
        root: Folder | None = None,
        *,
        seed: int = 0,
        crash_at: int = 0,
        fail_at: int = 0,
        forever: bool = False,
        error: int = errno.EIO,
        capacity: int | None = None,
    ) -> None:
        self.root = root or Folder()
        self.calls, self.crash_at, self.fail_at, self.forever, self.error = (
            0,
            crash_at,
            fail_at,
            forever,
            error,
        )
        self.capacity, self.log = capacity, []
        self.rng, self.tokens, self.dead = random.Random(seed), random.Random(1), False
        self.locked: dict[str, str] = {}
        self.guards: dict[str, list[str]] = {}

    def after_crash(self, mode: str, *, seed: int = 0, **kwargs: object) -> SimulatedFileSystem:
        """The disk found after a power cut: "all" is kept, "synced" only, or "some" of the rest."""
        rng = random.Random(seed)
        return SimulatedFileSystem(_survivor(self.root, mode, rng), seed=seed, **kwargs)

    def exists(self, path):
        try:
            self._find(path)
        except FileNotFoundError:
            return False
        return True

    def listdir(self, path):
        return sorted(self._folder(path).entries)

    def size(self, path):
        return len(self._file(path).data)

    def read(self, path):
        return bytes(self._file(path).data)

    def read_range(self, path, at, size):
        return bytes(self._file(path).data[at : at + size])

    def map_bytes(self, path):
        return np.frombuffer(self.read(path), np.uint8)

    def mkdir(self, path):
        node = self.root
        for part in _parts(path):
            if part not in node.entries:
                self._step(f"mkdir {path}")
                node.entries[part] = Folder()
            node = node.entries[part]

    def write_new(self, path, data):
        folder, name = self._place(path)
        if name in folder.entries:
            raise FileExistsError(errno.EEXIST, "exists", path)
        self._step(f"create {path}")
        folder.entries[name] = file = File()
        self._write(file, data, path)

    def append_to(self, path):
        return _Log(self, self._file(path), path)

    def sync_file(self, path):
        self._step(f"fsync {path}")
        file = self._file(path)
        file.synced = bytes(file.data)

    def sync_dir(self, path):
        self._step(f"fsync dir {path}")
        folder = self._folder(path)
        folder.synced = dict(folder.entries)

    def rename(self, source, target):
        self._step(f"rename {source} {target}")
        (old, name), (new, other) = self._place(source), self._place(target)
        if other in new.entries:
            raise FileExistsError(errno.EEXIST, "exists", target)
        new.entries[other] = old.entries.pop(name)

    def link(self, source, target):
        self._step(f"link {source} {target}")
        folder, name = self._place(target)
        folder.entries[name] = self._file(source)

    def unlink(self, path):
        self._step(f"unlink {path}")
        folder, name = self._place(path)
        if name not in folder.entries:
            raise FileNotFoundError(errno.ENOENT, "missing", path)
        del folder.entries[name]

    def remove_tree(self, path):
        self._step(f"remove {path}")
        folder, name = self._place(path)
        folder.entries.pop(name, None)

    def lock(self, path, owner):
        if path in self.locked:
            return self.locked[path]
        self.locked[path] = owner
        return _Lock(self, path)

    def guard(self, path, *, exclusive):
        holders = self.guards.setdefault(path, [])
        if holders and (exclusive or "exclusive" in holders):
            return None
        holders.append("exclusive" if exclusive else "shared")
        return _Guard(holders)

    def network(self, path):
        return ""

    def token(self, size):
        return self.tokens.randbytes(size)

    def used(self):
        return _bytes(self.root)

    def _write(self, file, data, path, at=0):
        self._step(f"write {path}", torn=(file, data, at))
        room = len(data) if self.capacity is None else self.capacity - self.used() + len(file.data) - at
        _put(file, data[: max(0, room)], at)  # a full disk takes what fits, then fails
        if room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    def _step(self, what, *, torn=None):
        if self.dead:
            raise Crash
        self.calls += 1
        self.log.append(what)
        if self.calls == self.crash_at:
            self.dead = True
            if torn is not None:
                file, data, at = torn
                _put(file, data[: self.rng.randrange(len(data) + 1)], at)
            raise Crash
        if self.fail_at and (self.calls == self.fail_at or (self.forever and self.calls > self.fail_at)):
            if torn is not None:
                file, data, at = torn
                _put(file, data[: len(data) // 2], at)
            raise OSError(self.error, "injected", what)

    def _find(self, path):
        node = self.root
        for part in _parts(path):
            if not isinstance(node, Folder) or part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "missing", path)
            node = node.entries[part]
        return node

    def _file(self, path):
        node = self._find(path)
        assert isinstance(node, File)
        return node

    def _folder(self, path):
        node = self._find(path)
        assert isinstance(node, Folder)
        return node

    def _place(self, path):
        *parents, name = _parts(path)
        return self._folder("/".join(parents)), name


class _Log:
    def __init__(self, fs, file, path):
        self.fs, self.file, self.path = fs, file, path

    def write(self, data, at):
        self.fs._write(self.file, data, self.path, at)

    def allocate(self, size):
        self.fs._step(f"allocate {self.path}")
        more = max(0, size - len(self.file.data))
        if self.fs.capacity is not None and self.fs.used() + more > self.fs.capacity:
            raise OSError(errno.ENOSPC, "No space left on device", self.path)
        self.file.data += bytes(more)
        return True

    def sync(self):
        """fdatasync: the data is on disk, but a file that was cut may come back with its old end."""
        self.fs._step(f"fdatasync {self.path}")
        self.file.synced = bytes(self.file.data) + self.file.synced[len(self.file.data) :]

    def truncate(self, size):
        self.fs._step(f"truncate {self.path}")
        del self.file.data[size:]

    def close(self):
        pass


class _Guard:
    def __init__(self, holders):
        self.holders, self.kind = holders, holders[-1]

    def release(self):
        if self.kind:
            self.holders.remove(self.kind)
            self.kind = ""

    def abandon(self):
        pass


class _Lock:
    def __init__(self, fs, path):
        self.fs, self.path = fs, path

    def release(self):
        self.fs.locked.pop(self.path, None)

    def abandon(self):
        pass


def _survivor(folder, mode, rng):
    names = {}
    for name in sorted(folder.entries.keys() | folder.synced.keys()):
        now, then = folder.entries.get(name), folder.synced.get(name)
        kept = now if mode == "all" else then if mode == "synced" or now is then else rng.choice((now, then))
        if kept is not None:
            names[name] = (
                _survivor(kept, mode, rng) if isinstance(kept, Folder) else _kept_file(kept, mode, rng)
            )
    return Folder(dict(names), dict(names))


def _kept_file(file, mode, rng):
    data = bytes(file.data) if mode == "all" else file.synced if mode == "synced" else _torn(file, rng)
    return File(bytearray(data), data)


def _torn(file, rng):
    """Any subset of the unsynced 64-byte blocks is on the disk; the others hold what was synced there, or
    zeros where nothing was: space that was allocated, or a file that grew. The size may be the old, the new,
    or between.
    """
    now, then = bytes(file.data), file.synced
    if now == then:
        return now
    low, high = sorted((len(now), len(then)))
    size = rng.choice((low, high, rng.randint(low, high)))
    old, new = then.ljust(size, b"\0"), now.ljust(size, b"\0")
    kept = [(new if rng.random() < 0.7 else old)[at : min(at + 64, size)] for at in range(0, size, 64)]
    return b"".join(kept)


def _put(file, data, at):
    """Write at an offset, behind zeros where the file is shorter."""
    file.data.extend(bytes(max(0, at - len(file.data))))
    file.data[at : at + len(data)] = data


def _parts(path):
    return [part for part in path.split("/") if part and part != "."]


def _bytes(node):
    if isinstance(node, File):
        return len(node.data)
    return sum(_bytes(child) for child in node.entries.values())
