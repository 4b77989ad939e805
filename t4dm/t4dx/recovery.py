"""What happens at open: read the manifest's files, replay the log behind them, sweep up what a crash left."""

from __future__ import annotations

from typing import NamedTuple

from t4dm.errors import CorruptionError
from t4dm.t4dx import deltas, ops, segment, wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import Manifest, manifest_name, segment_folder, versions
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import EdgeTypes
from t4dm.t4dx.types import Lsn


class Recovered(NamedTuple):
    """A state as of the last whole record, and where the log goes on."""

    state: State
    wal: wal.WalInfo
    end: int
    torn: int
    durable: Lsn
    marked: bool  # the log ends with a marker, so a close without writes adds nothing


def recover(fs: FileSystem, folder: str, manifest: Manifest) -> Recovered:
    """Rebuild the state. Reads only, always with the same result; raises CorruptionError, never guesses."""
    types = EdgeTypes(manifest.edge_types)
    drafts = [segment.load(fs, folder, entry) for entry in manifest.segments]
    state = State(dim=manifest.dim, types=types, segments=drafts, lsn=manifest.flushed_lsn)
    deltas.Loader(state).apply([deltas.read(fs, folder, entry) for entry in manifest.deltas])
    path = f"{folder}/{wal.wal_name(manifest.wal_id)}"
    if not fs.exists(path):
        raise CorruptionError(path, "the manifest names this log, it is missing")
    data = fs.read(path)
    found = wal.scan(data, path)
    if found.info.salt.hex() != manifest.wal_salt or found.info.first_lsn != manifest.flushed_lsn + 1:
        raise CorruptionError(path, "this log belongs to another state of the store")
    end = _replay(state, found, path)
    marked = bool(found.records) and found.records[-1].kind is wal.Kind.MARKER and end == found.end
    return Recovered(state, found.info, end, len(data) - end, found.durable, marked)


def _replay(state: State, found: wal.Scan, path: str) -> int:
    """Apply whole batches and committed transactions; returns the offset behind the last of them."""
    end, parts, open_txn = wal.FILE_HEADER, list[ops.Op](), False
    for record in found.records:
        if record.kind is wal.Kind.BEGIN:
            open_txn, parts = True, []
        elif record.kind is wal.Kind.PART and open_txn:
            parts += ops.unpack(record.payload, dim=state.dim, path=path)
        elif record.kind is wal.Kind.BATCH and not open_txn:
            _apply(state, ops.unpack(record.payload, dim=state.dim, path=path), record, path)
        elif record.kind is wal.Kind.COMMIT and open_txn:
            _apply(state, parts, record, path)
            open_txn = False
        elif record.kind is not wal.Kind.MARKER or open_txn:
            raise CorruptionError(
                path, f"a {record.kind.name} record at byte {record.start} has no place there"
            )
        if not open_txn:
            end = record.end
    return end


def _apply(state: State, batch: list[ops.Op], record: wal.Record, path: str) -> None:
    for op in batch:
        if isinstance(op, ops.InsertEdges):
            for name in op.types:
                state.types.register(name)
        state.apply(op)
    expected = record.lsn + record.ops - 1
    if state.lsn != expected:
        raise CorruptionError(
            path, f"the record at byte {record.start} ends at LSN {expected}, its content at {state.lsn}"
        )


def sweep(fs: FileSystem, folder: str, manifest: Manifest) -> None:
    """Remove what no manifest names: older manifests and logs, segments and deltas of an unfinished flush."""
    for version in versions(fs, folder):
        if version != manifest.version:
            fs.unlink(f"{folder}/{manifest_name(version)}")
    for name in fs.listdir(folder):
        stale_log = name.startswith("wal-") and name != wal.wal_name(manifest.wal_id)
        if stale_log or name.endswith(".tmp"):
            fs.unlink(f"{folder}/{name}")
    keep = {segment_folder(entry.id) for entry in manifest.segments}
    for name in fs.listdir(f"{folder}/segments"):
        if f"segments/{name}" not in keep:
            fs.remove_tree(f"{folder}/segments/{name}")
    named = {entry.name for entry in manifest.deltas}
    for name in fs.listdir(f"{folder}/deltas"):
        if name not in named:
            fs.unlink(f"{folder}/deltas/{name}")
