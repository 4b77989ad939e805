"""Delta files: what changed on rows of older segments, flushed together with the new segment.

An entry names a version by (id, sequence number of its insert), never by row, so that compaction may move
rows freely. Values are resolved, not operators: applying a file twice, or after a merge, gives the same bits.
A segment skips every entry, rule and tombstone whose LSN it has folded already.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final, final

import msgpack
import numpy as np

from t4dm.errors import CorruptionError
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry
from t4dm.t4dx.ops import ScaleRule
from t4dm.t4dx.registry import EdgeTypes
from t4dm.t4dx.state import State, apply_rule, bury
from t4dm.t4dx.tables import Draft
from t4dm.t4dx.types import Lsn

Content = dict[str, Any]
_ONLY_UNDO: Final = "-undo"


def collect(state: State, *, since: Lsn, only: Sequence[Draft] | None = None) -> Content:
    """Everything newer than `since` that is not folded into the segments, or into `only` some of them."""
    drafts = state.segments if only is None else only
    return {
        "items": [entry for draft in drafts for entry in _items(draft, since)],
        "edges": [entry for draft in drafts for entry in _edges(draft, since, state.types)],
        "rules": [
            (seq, rule.types, rule.sources, rule.targets, rule.operator.tolist(), rule.recorded, rule.lsn)
            for seq, rule in state.rules
            if seq > since
        ],
        "tombstones": [(name, seq) for name, seq in state.tombstones.items() if seq > since],
        "transactions": state.undo.dump(since),
    }


def write(fs: FileSystem, folder: str, file_id: int, content: Content) -> FileEntry:
    """Write a delta file; it exists once a manifest names it."""
    folds = any(rows for name, rows in content.items() if name != "transactions")
    parent, name = f"{folder}/deltas", f"delta-{file_id:020d}" + ("" if folds else _ONLY_UNDO)
    data = bytes(msgpack.packb(content, use_bin_type=True))
    fs.write_new(f"{parent}/{name}", data)
    fs.sync_file(f"{parent}/{name}")
    fs.sync_dir(parent)
    return FileEntry(name, len(data), zlib.crc32(data))


def read(fs: FileSystem, folder: str, entry: FileEntry) -> Content:
    """Read a delta file; raises CorruptionError."""
    path = f"{folder}/deltas/{entry.name}"
    data = fs.read(path)
    if zlib.crc32(data) != entry.crc:
        raise CorruptionError(path, "its checksum is wrong")
    content: Content = msgpack.unpackb(data, raw=False)
    return content


def only_undo(entry: FileEntry) -> bool:
    """Whether a delta file holds nothing that a compaction folds, only what undoes transactions."""
    return entry.name.endswith(_ONLY_UNDO)


@final
class Loader:
    """Applies delta files to freshly opened segments: closings and values first, then rules by LSN."""

    def __init__(self, state: State) -> None:
        self._state = state

    def apply(self, contents: Sequence[Content]) -> None:
        """Bring the segments to the state at which the newest delta was written."""
        state = self._state
        for content in contents:
            for name, seq in content["tombstones"]:
                state.tombstones[name] = max(seq, state.tombstones.get(name, 0))
            state.rules += [
                (seq, ScaleRule(types, sources, targets, np.array(operator), recorded, lsn))
                for seq, types, sources, targets, operator, recorded, lsn in content["rules"]
            ]
        state.rules.sort(key=lambda rule: rule[0])
        state.undo.load([content["transactions"] for content in contents])
        for draft in state.segments:
            for content in contents:
                self._patch(draft, content)
            for seq, rule in state.rules:
                if seq > draft.folded:
                    apply_rule(draft, rule, state.types, before=seq)
            for name, seq in state.tombstones.items():
                if seq > draft.folded:
                    bury(draft, name, before=seq)

    def _patch(self, draft: Draft, content: Content) -> None:
        for field, name, birth, seq, value in content["items"]:
            if (
                seq > draft.folded
                and (row := _find(draft.items["seq"], draft.source.rows_of(name), birth)) >= 0
            ):
                if field == "metadata":
                    draft.patch_metas(row, value, seq=seq)
                else:
                    draft.patch("items", field, [row], value, seq=seq)
        for field, source, target, edge_type, birth, seq, value in content["edges"]:
            if seq > draft.folded:
                code = self._state.types.codes.get(edge_type, -1)
                rows = [
                    r for r in draft.source.edges_between(source, target) if draft.edges["type"][r] == code
                ]
                if (row := _find(draft.edges["seq"], rows, birth)) >= 0:
                    draft.patch("edges", field, [row], value, seq=seq)


def _items(draft: Draft, since: Lsn) -> list[tuple[str, str, int, int, Any]]:
    return [
        (
            field,
            draft.source.id_at(row),
            int(draft.items["seq"][row]),
            seq,
            draft.metas[row] if field == "metadata" else draft.items[field][row].item(),
        )
        for field, marks in draft.touched["items"].items()
        for row, seq in marks.items()
        if seq > since
    ]


def _edges(draft: Draft, since: Lsn, types: EdgeTypes) -> list[tuple[str, str, str, str, int, int, Any]]:
    return [
        (
            field,
            *draft.source.edge_ends(row),
            types.names[draft.edges["type"][row]],
            int(draft.edges["seq"][row]),
            seq,
            draft.edges[field][row].item(),
        )
        for field, marks in draft.touched["edges"].items()
        for row, seq in marks.items()
        if seq > since
    ]


def _find(births: Any, rows: Sequence[int], birth: int) -> int:
    return next((row for row in rows if births[row] == birth), -1)
