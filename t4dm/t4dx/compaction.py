"""Physical compaction: choose segments, rewrite what is worth it, swap. No read gives another answer
afterwards.

A task reads the state at the LSN of a manifest, so what it writes is that state again, whatever is logged
meanwhile: columns that changed as new generations of their files, or some segments as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from t4dm.t4dx import building, deltas, files, segment
from t4dm.t4dx.flush import Pin
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.graph_building import Origin
from t4dm.t4dx.manifest import FileEntry, Manifest, SegmentEntry
from t4dm.t4dx.tables import Draft, View
from t4dm.t4dx.types import Lsn

DEAD: Final = 0.2
"""The share of dead rows above which a segment is rewritten."""
WORTH: Final = 1 << 20
"""Bytes of entries in delta files from which on columns are rewritten at once."""


class Shape(NamedTuple):
    """What the choice of a task looks at, per segment: rows, how many of them are dead, bytes of entries that
    delta files hold for it, and bytes of the columns these would change.
    """

    rows: int
    dead: int
    entries: int
    columns: int


class Task(NamedTuple):
    """What to do with which segments, by id."""

    kind: Literal["merge", "columns"]
    segments: tuple[int, ...]


class Rewritten(NamedTuple):
    """The files of a task: the entries that take the place of the chosen ones, the new segment of a merge,
    the delta file that replaces those of the pinned manifest, and where the first vectors of each collection
    in the new segment come from.
    """

    entries: tuple[SegmentEntry, ...]
    draft: Draft | None
    delta: FileEntry | None
    size: int
    origins: dict[int, Origin]


def choose(
    shapes: Mapping[int, Shape], *, deltas: int, full: bool, limit: int, max_deltas: int
) -> Task | None:
    """The next task, None where nothing is worth it.

    Full: all segments as one, unless there is a single one without anything to fold or drop. Otherwise a
    segment with too many dead rows; above `limit` the smallest ones, as many as bring the number down to half
    of it; columns whose entries are many, or about to be merged into another delta file.
    """
    ids = list(shapes)
    if full:
        idle = len(ids) <= 1 and not deltas and not any(shape.dead for shape in shapes.values())
        return None if idle else Task("merge", tuple(ids))
    for number, shape in shapes.items():
        if shape.dead > DEAD * shape.rows:
            return Task("merge", (number,))
    if len(ids) > limit:
        smallest = sorted(ids, key=lambda number: (shapes[number].rows, number))
        chosen = smallest[: len(ids) - max(1, limit // 2) + 1]
        return Task("merge", tuple(number for number in ids if number in chosen))
    worth = tuple(
        number
        for number, shape in shapes.items()
        if shape.columns
        and 4 * shape.entries >= shape.columns
        and (shape.entries >= WORTH or deltas >= max_deltas)
    )
    return Task("columns", worth) if worth else None


def shapes(pin: Pin) -> dict[int, Shape]:
    """The shape of each pinned segment."""
    return {
        entry.id: _shape(draft, draft.view(pin.lsn, pin.rules))
        for entry, draft in zip(pin.manifest.segments, pin.segments, strict=True)
    }


def run(
    fs: FileSystem, folder: str, pin: Pin, task: Task, *, number: int, pulse: Callable[[], None]
) -> Rewritten:
    """Write the files of a task; raises OSError and leaves the old state in force."""
    chosen, origins = frozenset(task.segments), dict[int, Origin]()
    pairs = [
        (entry, draft)
        for entry, draft in zip(pin.manifest.segments, pin.segments, strict=True)
        if entry.id in chosen
    ]
    draft = None
    if task.kind == "merge":
        views = [draft.view(pin.lsn, pin.rules) for _, draft in pairs]
        entries: tuple[SegmentEntry, ...] = ()
        if any(view.items["alive"].any() or view.edges["alive"].any() for view in views):
            made = building.build(views)
            origins = _origins(made)
            entries = (files.write_segment(fs, folder, number, made, folded=pin.lsn, pulse=pulse),)
            draft = segment.load(fs, folder, entries[0], fresh=True)
        size = sum(files.written(entry.files) for entry in entries)
    else:
        entries, size = _new_columns(fs, folder, pin, pairs, number=number, pulse=pulse)
    content = deltas.collect(
        pin.owners(without=chosen), pin.rules, pin.tombstones, since=0, upto=pin.lsn, undo=pin.undo
    )
    delta = None if deltas.is_empty(content) else deltas.write(fs, folder, number, content)
    return Rewritten(entries, draft, delta, size, origins)


def manifest_after(now: Manifest, pin: Pin, task: Task, done: Rewritten, *, next_file_id: int) -> Manifest:
    """The manifest that makes a task real; `now` may be newer than the pinned one by a flush."""
    fresh = {entry.id: entry for entry in done.entries}
    if task.kind == "columns":
        segments = tuple(fresh.get(entry.id, entry) for entry in now.segments)
    else:
        first = next(place for place, entry in enumerate(now.segments) if entry.id in task.segments)
        rest = [entry for entry in now.segments if entry.id not in task.segments]
        segments = (*rest[:first], *done.entries, *rest[first:])
    later = tuple(delta for delta in now.deltas if delta not in pin.manifest.deltas)
    left = () if done.delta is None else (done.delta,)
    return now.next(next_file_id=next_file_id, segments=segments, deltas=(*left, *later))


def carry(new: Draft, olds: list[Draft], pin: Pin, *, since: Lsn, upto: Lsn) -> None:
    """Bring changes in (since, upto], made on rows while a segment was built from them, to the new rows.

    By key and LSN, as a delta file would: where the rows lie now does not matter.
    """
    owners = [deltas.Owner(draft.part, since) for draft in olds]
    content = deltas.collect(owners, pin.rules, pin.tombstones, since=since, upto=upto)
    patches = deltas.Patches(new, pin.rules.types)
    patches.add(content, since=since)
    patches.write()


def _new_columns(
    fs: FileSystem,
    folder: str,
    pin: Pin,
    pairs: list[tuple[SegmentEntry, Draft]],
    *,
    number: int,
    pulse: Callable[[], None],
) -> tuple[tuple[SegmentEntry, ...], int]:
    entries, size = [], 0
    for entry, draft in pairs:
        pulse()
        changed = building.columns_that_changed(draft.view(pin.lsn, pin.rules), draft.folded)
        entries.append(files.write_columns(fs, folder, entry, number, changed, folded=pin.lsn))
        size += sum(column.nbytes for column in changed.values())
    return tuple(entries), size


def _origins(made: building.Files) -> dict[int, Origin]:
    found = {}
    for column in made.values():
        if isinstance(column, building.Chunks):
            view, code, kept = column.pieces[0]
            if isinstance(view.source, segment.Segment):
                found[code] = Origin(view.source, kept)
    return found


def _shape(draft: Draft, view: View) -> Shape:
    part, folded, entries, columns = draft.part, draft.folded, 0, 0
    for size, fields in ((view.n, part.items), (view.m, part.edges)):
        for name, column in fields.items():
            patched = column.patched(folded, view.lsn)
            if patched or (name == "weight" and column.upto > folded):
                entries += patched * deltas.ENTRY_BYTES
                columns += size * (1 if name in ("alive", "type") else 8)
    replaced = part.metas.patched(folded, view.lsn) * deltas.ENTRY_BYTES
    dead = (
        view.n + view.m - int(view.items["alive"][: view.n].sum()) - int(view.edges["alive"][: view.m].sum())
    )
    return Shape(view.n + view.m, dead, entries + replaced, columns + replaced)
