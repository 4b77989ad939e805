"""What happens at open: read the manifest's files, replay the log behind them, sweep up what a crash left."""

from __future__ import annotations

from typing import Final, NamedTuple

from t4dm.t4dx import deltas, replay, segment, wal
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
    deltas.Loader(state).apply([deltas.read(fs, folder, entry) for entry in manifest.deltas])
    chain = replay.open_chain(fs, folder, manifest, seal)
    return Recovered(state, chain.tail(replay.replay(state, chain)))


def sweep(fs: FileSystem, folder: str, manifest: Manifest) -> bool:
    """Remove what no manifest names: older manifests, flushed logs, files of an unfinished flush.

    Not while a reader is opening files: then nothing is removed, the next time will do; returns False.
    """
    guard = fs.guard(f"{folder}/{GUARD}", exclusive=True)
    if guard is None:
        return False
    try:
        _sweep(fs, folder, manifest)
    finally:
        guard.release()
    return True


def _sweep(fs: FileSystem, folder: str, manifest: Manifest) -> None:
    for version in versions(fs, folder):
        if version != manifest.version:
            fs.unlink(f"{folder}/{manifest_name(version)}")
    for name in fs.listdir(folder):
        number = wal.wal_id(name)
        if (number is not None and number < manifest.wal_id) or name.endswith(".tmp"):
            fs.unlink(f"{folder}/{name}")
    keep = {segment_folder(entry.id) for entry in manifest.segments}
    for name in fs.listdir(f"{folder}/segments"):
        if f"segments/{name}" not in keep:
            fs.remove_tree(f"{folder}/segments/{name}")
    named = {entry.name for entry in manifest.deltas}
    for name in fs.listdir(f"{folder}/deltas"):
        if name not in named:
            fs.unlink(f"{folder}/deltas/{name}")
