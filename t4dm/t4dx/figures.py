"""What a store says about itself: counts, bytes, log positions, and the work behind the writes."""

from __future__ import annotations

from typing import Any

from t4dm.t4dx.graph_building import Nursery
from t4dm.t4dx.graph_shelf import Shelf
from t4dm.t4dx.journal import Journal
from t4dm.t4dx.logread import Tail
from t4dm.t4dx.manifest import Manifest, named_files
from t4dm.t4dx.segment import Segment
from t4dm.t4dx.state import State, Version
from t4dm.t4dx.upkeep import Upkeep


def collect(
    version: Version,
    found: Manifest,
    state: State,
    tail: Tail,
    journal: Journal | None,
    upkeep: Upkeep | None,
    shelf: Shelf,
) -> dict[str, Any]:
    """The figures of a store; one opened for reading has no journal and no upkeep."""
    graphs = of_graphs(version, shelf, upkeep.nursery if upkeep is not None else None)
    files = sum(named_files(found).values()) + graphs["bytes"]
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
        "graphs": graphs,
    }


def of_graphs(version: Version, shelf: Shelf, nursery: Nursery | None) -> dict[str, Any]:
    """What is known of the graphs: the library, how many are there, what a writer built, and one line for
    each set of vectors that is large enough for one.
    """
    lines = [
        _graph_line(view.source, code, count, shelf, nursery)
        for view in version.views
        if isinstance(view.source, Segment)
        for code, count in shelf.wanted(view.source).items()
    ]
    return {
        "library": shelf.library,
        "ready": sum(line["state"] == "ready" for line in lines),
        "missing": sum(line["state"] != "ready" for line in lines),
        "bytes": sum(line["bytes"] for line in lines),
        "built": nursery.built if nursery is not None else 0,
        "extended": nursery.extended if nursery is not None else 0,
        "seconds": nursery.seconds if nursery is not None else 0.0,
        "segments": lines,
    }


def _graph_line(
    source: Segment, code: int, count: int, shelf: Shelf, nursery: Nursery | None
) -> dict[str, Any]:
    graph, key = source.graph(code), (source.entry.id, code)
    file = shelf.file_of(graph)
    state = "missing" if graph is None else "ready"
    if nursery is not None:
        if key in nursery.failures:
            state = nursery.failures[key]
        elif nursery.now == key:
            state = "building"
        elif nursery.waits(source, code):
            state = "waiting"
    return {
        "segment": key[0],
        "collection": shelf.collections.rows[code].name,
        "state": state,
        "vectors": count,
        "rows": 0 if graph is None else graph.rows,
        "unreached": 0 if graph is None else len(graph.unreached),
        "width": 0 if graph is None else graph.width,
        "bytes": 0 if file is None else file.data.nbytes,
        "seconds": 0.0 if file is None else file.foot.seconds,
    }
