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

    def token(self, size):
        return self.tokens.randbytes(size)

    def used(self):
        return _bytes(self.root)

    def _write(self, file, data, path):
        self._step(f"write {path}", torn=(file, data))
        room = len(data) if self.capacity is None else self.capacity - self.used()
        if room < len(data):
            file.data += data[: max(0, room)]  # a full disk takes what fits, then fails
            raise OSError(errno.ENOSPC, "No space left on device", path)
        file.data += data

    def _step(self, what, *, torn=None):
        if self.dead:
            raise Crash
        self.calls += 1
        self.log.append(what)
        if self.calls == self.crash_at:
            self.dead = True
            if torn is not None:
                torn[0].data += torn[1][: self.rng.randrange(len(torn[1]) + 1)]
            raise Crash
        if self.fail_at and (self.calls == self.fail_at or (self.forever and self.calls > self.fail_at)):
            if torn is not None:
                torn[0].data += torn[1][: len(torn[1]) // 2]
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

    def write(self, data):
        self.fs._write(self.file, data, self.path)

    def sync(self):
        self.fs._step(f"fsync {self.path}")
        self.file.synced = bytes(self.file.data)

    def truncate(self, size):
        self.fs._step(f"truncate {self.path}")
        del self.file.data[size:]

    def close(self):
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
    """Any subset of unsynced 64-byte blocks; blocks that did not reach the disk read as zeros."""
    now, then = bytes(file.data), file.synced
    if now == then:
        return now
    if len(now) < len(then):
        return rng.choice((now, then))
    end = rng.randrange(len(then), len(now) + 1)
    blocks = [now[at : at + 64] for at in range(len(then), end, 64)]
    kept = b"".join(block if rng.random() < 0.7 else bytes(len(block)) for block in blocks)
    return now[: len(then)] + kept[: end - len(then)]


def _parts(path):
    return [part for part in path.split("/") if part and part != "."]


def _bytes(node):
    if isinstance(node, File):
        return len(node.data)
    return sum(_bytes(child) for child in node.entries.values())
