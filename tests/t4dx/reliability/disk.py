"""Disks as a power cut leaves them, and a disk that calls back before every change."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simulated_fs import File, Folder, SimulatedFileSystem

BLOCK = 4096
MODES = ("all", "synced", "blocks", "entry", "torn")
"""All writes kept; only what was synced; any subset of unsynced blocks and names; all data but a lost
directory entry; all, and half of the write that was on its way."""


class WatchedDisk(SimulatedFileSystem):
    """Calls `before(what, torn)` ahead of each changing call, and `on_read` ahead of any other look."""

    def __init__(
        self, root: Folder | None = None, *, before: Callable[[str, Any], None] | None = None, **kw: Any
    ) -> None:
        super().__init__(root, **kw)
        self.before = before
        self.on_read: Callable[[], None] | None = None

    def _find(self, path):
        if self.on_read is not None:
            self.on_read()
        return super()._find(path)

    def _step(self, what, *, torn=None):
        if self.before is not None and not self.dead:
            self.before(what, torn)
        super()._step(what, torn=torn)


def survivor(root: Folder, mode: str, rng: random.Random) -> Folder:
    """A copy of a disk as it is found after the power came back."""
    names: dict[str, File | Folder] = {}
    for name in sorted(root.entries.keys() | root.synced.keys()):
        now, then = root.entries.get(name), root.synced.get(name)
        if mode == "synced":
            kept = then
        elif mode == "blocks" or (mode == "entry" and rng.random() < 0.5):
            kept = now if now is then else rng.choice((now, then))
        else:
            kept = now
        if isinstance(kept, Folder):
            names[name] = survivor(kept, mode, rng)
        elif kept is not None:
            names[name] = _file(kept, mode, rng)
    return Folder(dict(names), dict(names))


@contextlib.contextmanager
def half_done(torn: Any, dice: random.Random) -> Iterator[None]:
    """For the moment, part of a write that is on its way has reached the file."""
    if torn is None:
        yield
        return
    file, data, at = torn
    before, part = bytes(file.data), data[: dice.randrange(len(data) + 1)]
    file.data.extend(bytes(max(0, at - len(file.data))))
    file.data[at : at + len(part)] = part
    yield
    file.data[:] = before


def copy(root: Folder) -> Folder:
    """An independent copy in which everything is synced."""
    return survivor(root, "all", random.Random(0))


def files(root: Folder, path: str = "") -> list[str]:
    """Paths of all files."""
    found = []
    for name, child in sorted(root.entries.items()):
        found += files(child, f"{path}{name}/") if isinstance(child, Folder) else [f"{path}{name}"]
    return found


def file_at(root: Folder, path: str) -> File:
    """The file at a path."""
    node: File | Folder = root
    for part in path.split("/"):
        assert isinstance(node, Folder)
        node = node.entries[part]
    assert isinstance(node, File)
    return node


def contents(root: Folder) -> dict[str, bytes]:
    """All files with their bytes."""
    return {path: bytes(file_at(root, path).data) for path in files(root)}


def to_real(root: Folder, target: Path) -> None:
    """Write a simulated disk into a real folder."""
    target.mkdir(parents=True, exist_ok=True)
    for name, child in root.entries.items():
        if isinstance(child, Folder):
            to_real(child, target / name)
        else:
            (target / name).write_bytes(bytes(child.data))


def from_real(source: Path) -> Folder:
    """A real folder as a simulated disk on which everything is synced."""
    names: dict[str, File | Folder] = {}
    for path in sorted(source.iterdir()):
        if path.is_dir():
            names[path.name] = from_real(path)
        else:
            data = path.read_bytes()
            names[path.name] = File(bytearray(data), data)
    return Folder(dict(names), dict(names))


def _file(file: File, mode: str, rng: random.Random) -> File:
    data = file.synced if mode == "synced" else bytes(file.data)
    if mode == "blocks" and file.synced != data:
        data = _blocks(data, file.synced, rng)
    return File(bytearray(data), data)


def _blocks(now: bytes, then: bytes, rng: random.Random) -> bytes:
    """Each unsynced block is there or not; a block that never reached the disk reads as zeros."""
    size = rng.choice((len(now), len(then), rng.randint(min(len(now), len(then)), max(len(now), len(then)))))
    block = rng.choice((BLOCK, 512))
    old, new = then.ljust(size, b"\0")[:size], now.ljust(size, b"\0")[:size]
    return b"".join(rng.choice((old, new))[at : at + block] for at in range(0, size, block))
