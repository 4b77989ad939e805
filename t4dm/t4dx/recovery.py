"""What happens at open: read the manifest's files, replay the log behind them, sweep up what a crash left."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from t4dm.t4dx import deltas, graph_files, replay, segment, wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.logread import Tail
from t4dm.t4dx.manifest import Manifest, manifest_name, segment_folder, versions
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.state import State

GUARD: Final = "gc.lock"
"""Shared by readers while they open files, exclusive to the writer while it removes some."""


class Recovered(NamedTuple):
    """A state as of the last whole record, and where the log goes on."""

    state: State
    tail: Tail


def recover(fs: FileSystem, folder: str, manifest: Manifest, seal: Seal | None = None) -> Recovered:
    """Rebuild the state. Reads only, always with the same result; raises CorruptionError, never guesses."""
    types = EdgeTypes(manifest.edge_types)
    drafts = [segment.load(fs, folder, entry) for entry in manifest.segments]
    collections = Collections(manifest.collections)
    state = State(collections=collections, types=types, segments=drafts, lsn=manifest.flushed_lsn)
    deltas.load(state, [deltas.read(fs, folder, entry) for entry in manifest.deltas])
    chain = replay.open_chain(fs, folder, manifest, seal)
    return Recovered(state, chain.tail(replay.replay(state, chain)))


def sweep(fs: FileSystem, folder: str, manifest: Manifest, *, busy: Collection[int] = ()) -> bool:
    """Remove what no manifest names: older manifests, flushed logs, files of an unfinished flush.

    Not while a reader is opening files: then nothing is removed, the next time will do, False is returned.
    `busy` are the ids of files that are being made right now.
    """
    guard = fs.guard(f"{folder}/{GUARD}", exclusive=True)
    if guard is None:
        return False
    try:
        _sweep(fs, folder, manifest, busy)
    finally:
        guard.release()
    return True


def _sweep(fs: FileSystem, folder: str, manifest: Manifest, busy: Collection[int]) -> None:
    for version in versions(fs, folder):
        if version != manifest.version:
            fs.unlink(f"{folder}/{manifest_name(version)}")
    for name in fs.listdir(folder):
        number = wal.wal_id(name)
        if (number is not None and number < manifest.wal_id) or name.endswith(".tmp"):
            fs.unlink(f"{folder}/{name}")
    making = tuple(f"{number:020d}" for number in busy)
    named = {segment_folder(entry.id): {file.name for file in entry.files} for entry in manifest.segments}
    for name in fs.listdir(f"{folder}/segments"):
        path = f"segments/{name}"
        if path in named:
            for file in fs.listdir(f"{folder}/{path}"):
                if file not in named[path] and not _is_generation(file, busy):
                    fs.unlink(f"{folder}/{path}/{file}")
        elif not any(number in name for number in making):
            fs.remove_tree(f"{folder}/{path}")
    deltas_named = {entry.name for entry in manifest.deltas}
    for name in fs.listdir(f"{folder}/deltas"):
        if name not in deltas_named and not any(number in name for number in making):
            fs.unlink(f"{folder}/deltas/{name}")
    _sweep_graphs(fs, folder, manifest, making)


def _sweep_graphs(fs: FileSystem, folder: str, manifest: Manifest, making: tuple[str, ...]) -> None:
    """Graphs of segments that are no more, and those that were never finished."""
    root, living = f"{folder}/{graph_files.FOLDER}", {entry.id for entry in manifest.segments}
    for name in fs.listdir(root) if fs.exists(root) else []:
        if graph_files.segment_of(name) not in living and not any(number in name for number in making):
            fs.unlink(f"{root}/{name}")


def _is_generation(file: str, numbers: Collection[int]) -> bool:
    """Whether a column file is one of those being written."""
    return any(f".g{number}." in file for number in numbers)
