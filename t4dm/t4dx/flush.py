"""A flush: frozen memtables become a segment, overlays on older segments a delta file.

It reads the state as of the last LSN that was frozen, while writers go on; nothing of it exists before a
manifest names it, and the logs of what it holds go only after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from t4dm.t4dx import building, deltas, files, segment
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry, Manifest, SegmentEntry
from t4dm.t4dx.rules import Rules
from t4dm.t4dx.state import Frozen, State, Tombstones
from t4dm.t4dx.tables import Draft, View
from t4dm.t4dx.types import Lsn
from t4dm.t4dx.wal import WalInfo


class Pin(NamedTuple):
    """A state that is read while writers go on: a manifest, its segments, and what was frozen behind them.

    `lsn` is the manifest's own for a compaction, and that of the newest frozen memtable for a flush.
    """

    manifest: Manifest
    lsn: Lsn
    segments: tuple[Draft, ...]
    frozen: tuple[Frozen, ...]
    rules: Rules
    tombstones: Tombstones
    undo: list[Any]

    def owners(self, *, without: frozenset[int] = frozenset()) -> list[deltas.Owner]:
        """The parts of the segments, but for some."""
        entries = zip(self.manifest.segments, self.segments, strict=True)
        return [deltas.Owner(d.part, d.folded) for entry, d in entries if entry.id not in without]


class Flushed(NamedTuple):
    """The files of a flush: a segment unless no row lived, a delta file unless nothing changed, and the delta
    files it replaces.
    """

    entry: SegmentEntry | None
    draft: Draft | None
    delta: FileEntry | None
    replaced: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of the segment."""
        return files.written(self.entry.files) if self.entry is not None else 0


def write(
    fs: FileSystem, folder: str, pin: Pin, *, number: int, max_deltas: int, pulse: Callable[[], None]
) -> Flushed:
    """Write what is frozen; raises OSError and leaves the old state in force."""
    old, views = pin.manifest, [frozen.draft.view(pin.lsn, pin.rules) for frozen in pin.frozen]
    entry, draft = None, None
    if any(_lives(view) for view in views):
        made = building.build(views)
        entry = files.write_segment(fs, folder, number, made, folded=pin.lsn, pulse=pulse)
        draft = segment.load(fs, folder, entry, fresh=True)
    replaced = old.deltas if len(old.deltas) >= max_deltas else ()
    since = 0 if replaced else old.flushed_lsn
    content = deltas.collect(
        pin.owners(), pin.rules, pin.tombstones, since=since, upto=pin.lsn, undo=pin.undo
    )
    delta = None if deltas.is_empty(content) else deltas.write(fs, folder, number, content)
    return Flushed(entry, draft, delta, replaced)


def whole(fs: FileSystem, folder: str, state: State, old: Manifest, log: WalInfo, *, number: int) -> Manifest:
    """Write all of a state that nobody else uses; the manifest to publish, behind which `log` goes on."""
    state.freeze(log)
    frozen = tuple(state.frozen)
    segments = tuple(state.segments)
    pin = Pin(old, state.lsn, segments, frozen, state.rules, state.tombstones, frozen[0].undo)
    done = write(fs, folder, pin, number=number, max_deltas=0, pulse=files.go_on)
    return manifest_after(old, pin, done, next_file_id=number + 1)


def manifest_after(now: Manifest, pin: Pin, done: Flushed, *, next_file_id: int) -> Manifest:
    """The manifest that makes a flush real; `now` may be newer than the pinned one by a compaction."""
    log = pin.frozen[0].log
    kept = tuple(delta for delta in now.deltas if delta not in done.replaced)
    return now.next(
        next_file_id=next_file_id,
        flushed_lsn=pin.lsn,
        wal_id=log.file_id,
        wal_salt=log.salt.hex(),
        segments=now.segments if done.entry is None else (done.entry, *now.segments),
        deltas=kept if done.delta is None else (*kept, done.delta),
        edge_types=tuple(pin.rules.types.names),
    )


def _lives(view: View) -> bool:
    return bool(view.items["alive"][: view.n].any() or view.edges["alive"][: view.m].any())
