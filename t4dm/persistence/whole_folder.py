"""A folder that appears whole or not at all: written under another name, synced, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t4dm.errors import FolderExistsError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The folder to write into; it becomes `path` when the block ends, and is removed where it fails.

    Raises:
        FolderExistsError: something is at `path`; an empty folder may be.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FolderExistsError(str(path))
    fresh = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        _sync(fresh)
        if path.exists():
            path.rmdir()
        fresh.rename(path)
        _sync_one(path.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _sync(folder: Path) -> None:
    for file in [*folder.rglob("*"), folder]:
        _sync_one(file)


def _sync_one(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
