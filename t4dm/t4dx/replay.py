"""Replay: the logs' records become operations on a state, in memory that does not grow with a transaction."""

from __future__ import annotations

from t4dm.errors import CorruptionError
from t4dm.t4dx import ops, wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.logread import LogChain, Place, Tail
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.state import State
from t4dm.t4dx.wal import Kind, Record


def open_chain(fs: FileSystem, folder: str, manifest: Manifest, seal: Seal | None) -> LogChain:
    """The logs from the first one that a manifest needs; raises CorruptionError where that is another one."""
    chain = LogChain(fs, folder, manifest.wal_id, seal=seal)
    info = chain.reader.info
    if info.salt.hex() != manifest.wal_salt or info.first_lsn > manifest.flushed_lsn + 1:
        path = f"{folder}/{wal.wal_name(manifest.wal_id)}"
        raise CorruptionError(path, "this log belongs to another state of the store")
    return chain


def replay(state: State, chain: LogChain) -> Place:
    """Apply whole batches and committed transactions that the state does not hold yet; returns the place
    behind them.
    """
    while (record := chain.next()) is not None:
        if record.kind is Kind.BATCH:
            _apply(state, record, chain.path)
        elif record.kind is Kind.BEGIN:
            if not chain.reader.transaction_ends():
                return chain.edge
            new = False
            while (part := chain.next()) is not None and part.kind is Kind.PART:
                new = _apply(state, part, chain.path) if part.ops else new and _go_on(state, part, chain.path)
        elif record.kind is not Kind.MARKER:
            raise chain.reader.misplaced(record)
    return chain.reader.place


def check_logs(fs: FileSystem, folder: str, manifest: Manifest, seal: Seal | None = None) -> Tail:
    """Read every record of the logs; raises CorruptionError for the first thing that is wrong."""
    chain = open_chain(fs, folder, manifest, seal)
    while (record := chain.next()) is not None:
        if record.kind is Kind.BEGIN and not chain.reader.transaction_ends():
            return chain.tail(chain.edge)
    return chain.tail(chain.reader.place)


def _apply(state: State, record: Record, path: str) -> bool:
    """Apply a record, unless the segments hold it already: then False."""
    last = record.lsn + record.ops - 1
    if last <= state.lsn:
        return False
    for op in ops.unpack(bytes(record.payload), path=path):
        _one(state, op)
    if state.lsn != last:
        raise CorruptionError(
            path, f"the record at byte {record.start} ends at LSN {last}, its content at {state.lsn}"
        )
    return True


def _go_on(state: State, record: Record, path: str) -> bool:
    """Apply more rows of the last operation, under its sequence number."""
    for op in ops.unpack(bytes(record.payload), path=path):
        state.lsn -= 1
        _one(state, op)
    return True


def _one(state: State, op: ops.Op) -> None:
    if isinstance(op, ops.InsertEdges):
        for name in op.types:
            state.types.register(name)
    state.apply(op)
