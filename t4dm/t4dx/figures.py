"""What a store says about itself: counts, bytes, log positions, and the work behind the writes."""

from __future__ import annotations

from typing import Any

from t4dm.t4dx.journal import Journal
from t4dm.t4dx.logread import Tail
from t4dm.t4dx.manifest import Manifest, named_files
from t4dm.t4dx.state import State, Version
from t4dm.t4dx.upkeep import Upkeep


def collect(
    version: Version,
    found: Manifest,
    state: State,
    tail: Tail,
    journal: Journal | None,
    upkeep: Upkeep | None,
) -> dict[str, Any]:
    """The figures of a store; one opened for reading has no journal and no upkeep."""
    files = sum(named_files(found).values())
    log = journal.used if journal is not None else sum(tail.used.values())
    return {
        "items": sum(len(view.visible_items(None)) for view in version.views),
        "edges": sum(len(view.visible_edges(None)) for view in version.views),
        "item_rows": sum(view.n for view in version.views),
        "edge_rows": sum(view.m for view in version.views),
        "memtable_items": version.views[0].n,
        "segments": len(found.segments),
        "deltas": len(found.deltas),
        "bytes": files + log,
        "undo_bytes": state.undo.size,
        "wal_bytes": log,
        "lsn": version.lsn,
        "durable_lsn": journal.durable if journal is not None else version.lsn,
        "flushed_lsn": found.flushed_lsn,
        "manifest": found.version,
        "torn_bytes": tail.torn,
        "frozen": len(state.frozen),
        "flush_error": upkeep.error if upkeep is not None else "",
        "stall_seconds": upkeep.stall_seconds if upkeep is not None else 0.0,
        "longest_stall": upkeep.longest_stall if upkeep is not None else 0.0,
        "longest_swap": upkeep.longest_swap if upkeep is not None else 0.0,
        "bytes_written": dict(upkeep.bytes_written) if upkeep is not None else {},
        "poisoned": journal.poison if journal is not None else "",
    }
