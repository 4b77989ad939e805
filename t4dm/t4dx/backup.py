"""A copy of a store that opens like any other: immutable files linked, the logs copied, all of it verified,
the manifest written last.
"""

from __future__ import annotations

import os
import time

from t4dm.errors import BackupError, CorruptionError, FolderExistsError, NoBackupError
from t4dm.t4dx import manifest, replay, wal
from t4dm.t4dx.beside import PAUSES, listing
from t4dm.t4dx.fs import FileSystem, OsFileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.opening import UNFINISHED
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.types import Lsn
from t4dm.t4dx.verify import damaged_files


def backup_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    link: bool = True,
    key: bytes | None = None,
    fs: FileSystem | None = None,
) -> Lsn:
    """Copy a store, also while another process writes to it, into a new or empty folder; returns the LSN it
    holds.

    Args:
        source: folder of the store.
        target: folder of the copy, which opens like any store.
        link: let the copy share the immutable files where the disk allows it: instant, and no more space. A
            copy of its own also survives what damages the bytes of the store.
        key: of a signed store.
        fs: the disk.

    Raises:
        NoBackupError: there is no store at `source`. FolderExistsError: `target` is not empty.
        CorruptionError: the source is damaged. BackupError: the copy came out wrong.
    """
    fs, folder, copy = fs or OsFileSystem(), _path(source), _path(target)
    seal = Seal(key) if key is not None else None
    _check_empty(fs, copy)
    for pause in (*PAUSES, None):
        with listing(fs, folder):
            found = manifest.load(fs, folder, seal)
            if found is None:
                raise NoBackupError(folder, unfinished=fs.exists(f"{folder}/{UNFINISHED}"))
            try:
                tail = replay.check_logs(fs, folder, found, seal)
                logs = {wal.wal_name(number): used for number, used in tail.used.items()}
                copy_store(fs, folder, copy, found, logs=logs, seal=seal, link=link)
                return tail.place.lsn - 1
            except (FileNotFoundError, CorruptionError):
                if pause is None:
                    raise
        fs.remove_tree(copy)  # it was empty when this began
        time.sleep(pause)  # beside a writer a record may look damaged while it is written
    raise BackupError(copy, "the store changed too often meanwhile")


def restore_store(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    link: bool = False,
    key: bytes | None = None,
    fs: FileSystem | None = None,
) -> Lsn:
    """Make a store of a backup, in a new or empty folder, and verify it; returns the LSN it holds.

    The backup stays as it is. For arguments and errors see `backup_store`; here the files are copied, so that
    the restored store and the backup do not share a fate.
    """
    return backup_store(source, target, link=link, key=key, fs=fs)


def copy_store(
    fs: FileSystem,
    source: str,
    target: str,
    found: Manifest,
    *,
    logs: dict[str, int],
    seal: Seal | None = None,
    link: bool = True,
) -> None:
    """Copy what a manifest names, and so many bytes of each of its `logs`, into a new or empty folder.

    Files that never change are hard links where asked for and possible. Sizes and checksums of the copy are
    compared before it gets its manifest; without that an unfinished copy is no store.

    Raises:
        FolderExistsError: the target is not empty. BackupError: a file of the copy is not what it should be.
    """
    _check_empty(fs, target)
    fs.mkdir(target)
    fs.write_new(f"{target}/{UNFINISHED}", f"a copy of {source} that is not complete\n".encode())
    fs.sync_file(f"{target}/{UNFINISHED}")
    for name in (target, os.path.dirname(target) or "."):
        fs.sync_dir(name)
    folders = [*(manifest.segment_folder(entry.id) for entry in found.segments), "segments", "deltas"]
    for name in folders:
        fs.mkdir(f"{target}/{name}")
    for name in manifest.named_files(found):
        if link:
            fs.link(f"{source}/{name}", f"{target}/{name}")
        else:
            fs.write_new(f"{target}/{name}", fs.read(f"{source}/{name}"))
        fs.sync_file(f"{target}/{name}")
    for log, size in logs.items():
        fs.write_new(f"{target}/{log}", fs.read_range(f"{source}/{log}", 0, size))
        fs.sync_file(f"{target}/{log}")
    for name in (*(f"{target}/{name}" for name in folders), target):
        fs.sync_dir(name)
    _check(fs, target, found, logs, seal)
    manifest.publish(fs, target, found, seal)
    fs.unlink(f"{target}/{UNFINISHED}")
    fs.sync_dir(target)


def _check(fs: FileSystem, target: str, found: Manifest, logs: dict[str, int], seal: Seal | None) -> None:
    for name, problem in damaged_files(fs, target, found, checksums=True).items():
        raise BackupError(target, f"{name}: {problem}")
    for log, size in logs.items():
        if fs.size(f"{target}/{log}") != size:
            raise BackupError(target, f"{log}: it has {fs.size(f'{target}/{log}')} bytes instead of {size}")
    try:
        replay.check_logs(fs, target, found, seal)
    except CorruptionError as error:
        raise BackupError(target, str(error).partition(";")[0]) from None


def _check_empty(fs: FileSystem, target: str) -> None:
    if fs.exists(target) and fs.listdir(target):
        raise FolderExistsError(target)


def _path(path: str | os.PathLike[str]) -> str:
    return os.fspath(path).rstrip("/") or "/"
