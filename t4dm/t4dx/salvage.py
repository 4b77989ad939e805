"""What can be saved of damaged files: columns that follow from others, halves of segments, starts of logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection as Names
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from t4dm.errors import CorruptionError
from t4dm.t4dx import blobs, building, logread, manifest, replay, segment, wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry, Manifest, SegmentEntry
from t4dm.t4dx.memtable import inverse_norms
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.segment import column_of
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Array, Draft

DERIVED: Final = (
    "id_hash",
    "id_starts",
    "id_rows",
    "item_inv_norm",
    "out_starts",
    "in_starts",
    "in_rows",
)
"""Columns that follow from others; tables of checksums do as well."""
_IDS: Final = ("ids", "id_ends")
_ITEMS: Final = ("item_", "text", "sessions", "vectors_", "metas")
_EDGES: Final = ("edge_", "source", "target", "prop")


class Loss(NamedTuple):
    """How much of a segment is beyond repair, in versions."""

    items: int = 0
    edges: int = 0


class LogLoss(NamedTuple):
    """What lies behind the readable prefix of the logs; `records` counts those that are whole."""

    problem: str
    bytes: int
    records: int


def loss(entry: SegmentEntry, bad: Names[str]) -> Loss:
    """What a segment loses with these files: nothing, its items, its edges, or both."""
    names = {column_of(name) for name in bad}
    names = {name for name in names if not _is_derived(name)}
    unknown = [name for name in names if not name.startswith((*_ITEMS, *_EDGES))]
    items = bool(unknown) or any(name.startswith(_ITEMS) for name in names)
    edges = bool(unknown) or any(name.startswith(_EDGES) for name in names)
    return Loss(entry.items if items else 0, entry.edges if edges else 0)


def columns(fs: FileSystem, folder: str, entry: SegmentEntry, bad: Names[str]) -> dict[str, Array] | None:
    """The columns of a segment without what its damaged files held; None where nothing is left."""
    names = {column_of(name) for name in bad}
    if names & set(_IDS) or not set(bad) <= {file.name for file in entry.files}:
        return None
    lost, root = loss(entry, bad), f"{folder}/{manifest.segment_folder(entry.id)}"
    found = {column_of(file.name): file for file in entry.files if file.name not in bad}
    files = {name: _column(fs, root, file) for name, file in found.items() if not _is_derived(name)}
    if "item_inv_norm" in found:
        files["item_inv_norm"] = _column(fs, root, found["item_inv_norm"])
    empty = building.build([])
    for prefixes, gone in ((_ITEMS, lost.items), (_EDGES, lost.edges)):
        if gone:
            files = {name: column for name, column in files.items() if not name.startswith(prefixes)}
            files |= {name: np.asarray(column) for name, column in empty.items() if name.startswith(prefixes)}
    if not len(files["item_id"]) and not len(files["source"]):
        return None
    return {**files, **_derived(files)}


def read_logs(fs: FileSystem, folder: str, found: Manifest, seal: Seal | None, state: State) -> LogLoss:
    """Apply the readable prefix of the logs to a state; tell what lies behind it."""
    try:
        chain = replay.open_chain(fs, folder, found, seal)
    except CorruptionError as error:
        return LogLoss(str(error).partition(";")[0], _bytes_behind(fs, folder, found.wal_id, 0), 0)
    try:
        chain.tail(replay.replay(state, chain))
    except (CorruptionError, LookupError) as error:
        at, number = chain.edge.at, chain.edge.file_id
        behind = _bytes_behind(fs, folder, number, at)
        return LogLoss(str(error).partition(";")[0], behind, chain.reader.records_behind())
    return LogLoss("", 0, 0)


def close_doubles(state: State) -> int:
    """Where a lost overlay leaves two current versions of a key, end the older one where the newer began."""
    found = 0
    for kind in ("items", "edges"):
        current = defaultdict[tuple[str, ...], list[tuple[int, Draft, int]]](list)
        for draft in state.drafts:
            count = draft.n if kind == "items" else draft.m
            for row in range(count):
                if draft.current(kind, row):
                    place = draft.value(kind, "seq", row), draft, row
                    current[_key(state, draft, kind, row)].append(place)
        for places in current.values():
            places.sort(key=lambda place: place[0])
            for (_, draft, row), (_, newer, at) in pairwise(places):
                if not found:
                    state.lsn += 1  # a number of its own, above all that the segments have folded in
                found += 1
                end = newer.value(kind, "record_time", at)
                draft.patch(kind, "record_until", row, end, seq=state.lsn)
    return found


def _key(state: State, draft: Draft, kind: str, row: int) -> tuple[str, ...]:
    if kind == "items":
        return (draft.source.id_at(row),)
    return *draft.source.edge_ends(row), state.types.names[draft.value("edges", "type", row)]


def _is_derived(column: str) -> bool:
    return column in DERIVED or column.endswith("_sums")


def _derived(files: dict[str, Array]) -> dict[str, Array]:
    blob, ends = files["ids"].tobytes(), files["id_ends"].tolist()
    names, size = [blob[start:end] for start, end in pairwise(ends)], len(ends) - 1
    made: dict[str, Array] = {"id_hash": np.array([segment.id_hash(name) for name in names], np.uint32)}
    made["id_starts"], made["id_rows"] = building.grouped(files["item_id"], size)
    made["out_starts"] = building.grouped(files["source"], size)[0]
    made["in_starts"], made["in_rows"] = building.grouped(files["target"], size)
    if "item_inv_norm" not in files:
        rows, codes = files["item_vec_row"], files["item_collection"]
        norms = np.zeros(len(rows))
        for code in np.unique(codes[rows >= 0]).tolist():
            mine = (rows >= 0) & (codes == code)
            norms[mine] = np.array(inverse_norms(files[f"vectors_{code}"]))[rows[mine]]
        made["item_inv_norm"] = norms
    return made


def _column(fs: FileSystem, root: str, file: FileEntry) -> Array:
    return blobs.checked(np.frombuffer(fs.read(f"{root}/{file.name}"), np.uint8), file.name, file.crc)


def _bytes_behind(fs: FileSystem, folder: str, number: int, at: int) -> int:
    """Bytes of a log behind an offset, and of all later logs, without the zeros allocated ahead."""
    total = 0
    for log in logread.log_ids(fs, folder):
        if log >= number:
            start = at if log == number else 0
            total += len(fs.read(f"{folder}/{wal.wal_name(log)}")[start:].rstrip(b"\0"))
    return total
