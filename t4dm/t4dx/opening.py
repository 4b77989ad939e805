"""From a folder to an open store: the lock, the creation, the log that goes on."""

from __future__ import annotations

import os
import socket
import time
import warnings
from typing import Final

from t4dm import errors
from t4dm.t4dx import manifest, recovery, wal
from t4dm.t4dx.fs import FileSystem, Lock
from t4dm.t4dx.journal import Journal
from t4dm.t4dx.logfile import LogWriter
from t4dm.t4dx.logread import holds_records
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.recovery import Recovered
from t4dm.t4dx.registry import check_collection
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.types import DEFAULT, METRICS, Collection, EdgeType, Options

UNFINISHED: Final = "UNFINISHED"
"""A file that lies in a copy of a store until the copy is complete."""


def take_lock(fs: FileSystem, folder: str, *, create: bool) -> Lock:
    """The single writer's lock; raises StoreLockedError and names who holds it."""
    if not fs.exists(folder):
        if not create:
            raise errors.StoreMissingError(folder)
        fs.mkdir(folder)
        fs.sync_dir(os.path.dirname(folder) or ".")
    if kind := fs.network(folder):
        warnings.warn(errors.NetworkFolderWarning(folder, kind), stacklevel=4)
    owner = f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    lock = fs.lock(f"{folder}/LOCK", owner)
    if isinstance(lock, str):
        raise errors.StoreLockedError(folder, lock)
    return lock


def load_or_create(
    fs: FileSystem,
    folder: str,
    dim: int | None,
    options: Options,
    *,
    read_only: bool,
    metric: str | None = None,
    seal: Seal | None = None,
) -> Manifest:
    """The manifest of a store, new where there is none and `dim` says how."""
    found = manifest.load(fs, folder, seal)
    if found is None:
        _check_unused(fs, folder)
        if read_only or dim is None:
            raise errors.StoreMissingError(folder)
        found = _create(fs, folder, Collection(DEFAULT, dim, metric or METRICS[0]), options, seal)
    manifest.check_flags(found, folder, read_only=read_only)
    if dim is not None and dim != found.dim:
        raise errors.StoreDimensionError(folder, found.dim, dim)
    if metric is not None and metric != found.collections[0].metric:
        raise errors.StoreMetricError(folder, found.collections[0].metric, metric)
    return found


def open_journal(
    fs: FileSystem, folder: str, found: Manifest, recovered: Recovered, options: Options, seal: Seal | None
) -> Journal:
    """Go on where the log ends: cut a torn tail, durably, and sweep up what a crash left."""
    tail = recovered.tail
    for number in tail.leftover:
        fs.unlink(f"{folder}/{wal.wal_name(number)}")
    path = f"{folder}/{wal.wal_name(tail.info.file_id)}"
    place, zeroed = tail.place, options.durability == "sync"
    log = LogWriter(fs, path, tail.info, size=place.at, seal=seal, mac=place.mac, zeroed=zeroed)
    if tail.torn:
        log.trim()
    recovery.sweep(fs, folder, found)
    return Journal(
        fs,
        folder,
        log,
        options,
        appended=recovered.state.lsn,
        durable=tail.place.durable,
        marked=tail.marked,
        older={number: size for number, size in tail.used.items() if number != tail.info.file_id},
        seal=seal,
    )


def _create(fs: FileSystem, folder: str, first: Collection, options: Options, seal: Seal | None) -> Manifest:
    check_collection(first)
    for name in ("segments", "deltas"):
        fs.mkdir(f"{folder}/{name}")
    for name in fs.listdir(folder):
        if name.startswith("wal-"):
            fs.unlink(f"{folder}/{name}")
    info = wal.WalInfo(1, 0, 1, fs.token(8))
    LogWriter.create(fs, folder, info, seal, zeroed=options.durability == "sync").close()
    types = tuple(dict.fromkeys([*EdgeType.__members__, *options.edge_types]))
    new = Manifest(1, (first,), 2, 0, 1, info.salt.hex(), edge_types=types)
    manifest.publish(fs, folder, new, seal)
    return new


def _check_unused(fs: FileSystem, folder: str) -> None:
    """A crash during creation leaves empty folders and an empty log; anything more had a manifest once."""
    names = fs.listdir(folder) if fs.exists(folder) else []
    if UNFINISHED in names:
        raise errors.NoBackupError(folder, unfinished=True)
    data = [name for name in names if name in ("segments", "deltas") and fs.listdir(f"{folder}/{name}")]
    data += [n for n in names if wal.wal_id(n) is not None and holds_records(fs, f"{folder}/{n}")]
    if data:
        raise errors.CorruptionError(folder, f"it holds {data[0]} but no manifest")
