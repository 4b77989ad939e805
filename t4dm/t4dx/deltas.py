"""Delta files: what changed on rows of older segments, flushed together with the new segment.

An entry names a version by its key and the sequence number of its insert, never by row, so that compaction
may move rows freely. Values are resolved, not operators, each with the LSN of its patch: for a field of a row
the highest LSN wins, so applying a file twice, or after a merge, gives the same bits. A segment skips every
entry, rule and tombstone whose LSN it has folded already.

The same entries carry the changes made during a flush or a merge over to the new segment.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, final

import msgpack
import numpy as np

from t4dm.errors import CorruptionError
from t4dm.t4dx.columns import Column, Entries
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry
from t4dm.t4dx.ops import ScaleRule
from t4dm.t4dx.registry import EdgeTypes
from t4dm.t4dx.rules import Rules
from t4dm.t4dx.state import State, Tombstones
from t4dm.t4dx.tables import Draft, Part
from t4dm.t4dx.types import Lsn

Content = dict[str, Any]
_ONLY_UNDO: Final = "-undo"
"""items: field -> [ids, births, lsns, values]; edges: field -> [sources, targets, types, births, lsns,
values]; rules: [lsn, types, sources, targets, operator, recorded, lsn]; tombstones: [lsn, ids];
transactions: as `Undoables.dump` gives them.
"""
ENTRY_BYTES: Final = 64
"""About what one entry takes in a file."""


class Owner(NamedTuple):
    """A part, and the LSN up to which its files need no entries."""

    part: Part
    folded: Lsn


def collect(
    owners: Iterable[Owner],
    rules: Rules,
    tombstones: Tombstones,
    *,
    since: Lsn,
    upto: Lsn,
    undo: list[Any] | None = None,
) -> Content:
    """What happened to some parts in (since, upto] and is not in their files."""
    owners = list(owners)
    buried = tombstones.between(since, upto) if owners else []
    known = {seq for seq, _ in buried}
    content: Content = {"items": {}, "edges": {}, "tombstones": buried}
    content["transactions"] = _changed(undo or [], since)
    content["rules"] = [
        (seq, rule.types, rule.sources, rule.targets, rule.operator.tolist(), rule.recorded, rule.lsn)
        for seq, rule in (rules.between(since, upto) if owners else [])
    ]
    for owner in owners:
        part, after = owner.part, max(since, owner.folded)
        for name, column in part.items.items():
            _collect_items(content, part, name, _without(column.entries(after, upto), name, known))
        _collect_items(content, part, "metadata", part.metas.entries(after, upto))
        for name, column in part.edges.items():
            _collect_edges(
                content, part, name, _without(column.entries(after, upto), name, known), rules.types
            )
    return content


def item_entries(content: Content) -> Iterator[tuple[str, str, Lsn, Lsn, Any]]:
    """Field, id, birth, LSN and value of each entry on an item."""
    for field, columns in content["items"].items():
        for entry in zip(*columns, strict=True):
            yield field, *entry


def edge_entries(content: Content) -> Iterator[tuple[str, str, str, str, Lsn, Lsn, Any]]:
    """Field, source, target, type, birth, LSN and value of each entry on an edge."""
    for field, columns in content["edges"].items():
        for entry in zip(*columns, strict=True):
            yield field, *entry


def is_empty(content: Content) -> bool:
    """Whether there is nothing to write."""
    return not any(content.values())


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
class Patches:
    """Entries of one draft, gathered from several contents; the newest of each field and row counts."""

    def __init__(self, draft: Draft, types: EdgeTypes) -> None:
        self._draft, self._types = draft, types
        self._found: dict[tuple[str, str], dict[int, tuple[Lsn, Any]]] = {}

    def add(self, content: Content, *, since: Lsn) -> None:
        """Take what a content says of this draft's rows after an LSN."""
        for field, columns in content["items"].items():
            for name, birth, seq, value in zip(*columns, strict=True):
                if seq > since and (row := self._item(name, birth)) >= 0:
                    self._put("items", field, row, seq, value)
        for field, columns in content["edges"].items():
            for *key, birth, seq, value in zip(*columns, strict=True):
                if seq > since and (row := self._edge(key, birth)) >= 0:
                    self._put("edges", field, row, seq, value)
        for seq, ids in content["tombstones"]:
            if seq > since:
                self._bury(seq, ids)

    def write(self) -> None:
        """Append them to the logs of the draft."""
        for (kind, field), rows in self._found.items():
            ranked = sorted((seq, row, value) for row, (seq, value) in rows.items())
            self._draft.patch_many(
                kind,
                field,
                [row for _, row, _ in ranked],
                [value for *_, value in ranked],
                seqs=[seq for seq, _, _ in ranked],
            )

    def _put(self, kind: str, field: str, row: int, seq: Lsn, value: Any) -> None:
        rows = self._found.setdefault((kind, field), {})
        if row not in rows or rows[row][0] < seq:
            rows[row] = seq, value

    def _item(self, name: str, birth: Lsn) -> int:
        births = self._draft.part.items["seq"].cells
        return next((row for row in self._draft.source.rows_of(name) if births[row] == birth), -1)

    def _edge(self, key: Sequence[str], birth: Lsn) -> int:
        cols, code = self._draft.part.edges, self._types.codes.get(key[2], -1)
        births, kinds = cols["seq"].cells, cols["type"].cells
        rows = self._draft.source.edges_between(key[0], key[1])
        return next((row for row in rows if births[row] == birth and kinds[row] == code), -1)

    def _bury(self, seq: Lsn, ids: Sequence[str]) -> None:
        source = self._draft.source
        for name in ids:
            items = source.rows_of(name)
            edges = {*source.edge_rows(name, incoming=False), *source.edge_rows(name, incoming=True)}
            for kind, rows in (("items", items), ("edges", edges)):
                for (
                    row
                ) in rows:  # all of them are older: a tombstone in the files of a segment is passed over
                    self._put(kind, "alive", row, seq, False)


def load(state: State, contents: Sequence[Content]) -> None:
    """Bring freshly opened segments to the state at which the newest delta was written."""
    rules: dict[Lsn, ScaleRule] = {}
    buried: dict[Lsn, list[str]] = {}
    for content in contents:
        buried |= dict(content["tombstones"])
        rules |= {
            seq: ScaleRule(types, sources, targets, np.array(operator), recorded, lsn)
            for seq, types, sources, targets, operator, recorded, lsn in content["rules"]
        }
    state.undo.load([content["transactions"] for content in contents])
    state.flushed_undo = state.undo.dump(0)
    for seq in sorted(buried):
        state.tombstones.add(seq, buried[seq])
    for seq in sorted(rules):
        state.rules.add(seq, rules[seq])
    for draft in state.segments:
        patches = Patches(draft, state.types)
        for content in contents:
            patches.add(content, since=draft.folded)
        patches.write()
        settle(draft, fold(draft, state.rules, state.lsn))


class Fold(NamedTuple):
    """The columns of a draft with the patches up to an LSN taken into the base, ready to be swapped in."""

    lsn: Lsn
    columns: dict[tuple[str, str], Callable[[], Column]]
    metas: dict[int, tuple[bytes, Lsn]] | None


def fold(draft: Draft, rules: Rules, lsn: Lsn) -> Fold:
    """Prepare the taking in of patches and rules up to an LSN; it changes nothing yet."""
    part, view, columns = draft.part, draft.view(lsn, rules), dict[tuple[str, str], Callable[[], Column]]()
    for kind, fields in (("items", part.items), ("edges", part.edges)):
        n = part.n if kind == "items" else part.m
        for name, column in fields.items():
            scaled = name == "weight" and rules.pending(column.upto, lsn)
            if scaled or column.log.count(lsn):
                stamps = column.stamps_at(lsn, n)
                if scaled:  # a value that includes a rule must say so by its LSN
                    last = np.uint64(rules.between(column.upto, lsn)[-1][0])
                    stamps[stamps > 0] = np.maximum(stamps[stamps > 0], last)
                columns[kind, name] = _folding(view.array(kind, name)[:n], stamps, lsn, column)
    metas = part.metas.folded(lsn) if part.metas.log.count(lsn) else None
    return Fold(lsn, columns, metas)


def settle(draft: Draft, done: Fold) -> None:
    """Swap in what `fold` prepared, with the patches that came since."""
    if not done.columns and done.metas is None:
        return
    part = draft.part
    kinds = {"items": dict(part.items), "edges": dict(part.edges)}
    for (kind, name), made in done.columns.items():
        kinds[kind][name] = made()
    metas = part.metas
    if done.metas is not None:
        metas = type(metas)(upto=done.lsn, taken=done.metas, log=metas.log.rest(done.lsn))
    draft.part = part.replace(metas=metas, **kinds)


def _folding(base: Any, stamps: Any, lsn: Lsn, column: Column) -> Callable[[], Column]:
    return lambda: Column(base, upto=lsn, stamps=stamps, log=column.log.rest(lsn))


def _changed(undo: list[Any], since: Lsn) -> list[Any]:
    """What a dump of all transactions says of those that changed after an LSN."""
    rows = [row for row in undo[1:] if row[5] > since]
    return [undo[0], *rows] if rows else []


def _without(entries: Entries, name: str, buried: set[Lsn]) -> Entries:
    """Entries that no tombstone stands for."""
    if name != "alive" or not buried:
        return entries
    kept = [entry for entry in zip(*entries, strict=True) if entry[2] not in buried]
    return Entries(*([entry[place] for entry in kept] for place in range(3)))


def _collect_items(content: Content, part: Part, field: str, entries: Entries) -> None:
    if not entries.rows:
        return
    births, id_at = part.items["seq"].cells, part.source.id_at
    columns = content["items"].setdefault(field, [[], [], [], []])
    columns[0] += [id_at(row) for row in entries.rows]
    columns[1] += [births[row] for row in entries.rows]
    columns[2] += entries.seqs
    columns[3] += entries.values


def _collect_edges(content: Content, part: Part, field: str, entries: Entries, types: EdgeTypes) -> None:
    if not entries.rows:
        return
    births, kinds = part.edges["seq"].cells, part.edges["type"].cells
    columns = content["edges"].setdefault(field, [[], [], [], [], [], []])
    for row in entries.rows:
        source, target = part.source.edge_ends(row)
        columns[0].append(source)
        columns[1].append(target)
        columns[2].append(types.names[kinds[row]])
        columns[3].append(births[row])
    columns[4] += entries.seqs
    columns[5] += entries.values
