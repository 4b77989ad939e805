"""A flush: the memtable becomes a segment, overlays on older segments a delta file.

Nothing of it exists before the manifest names it; the old log goes only after that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from t4dm.t4dx import deltas, segment, wal
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Draft


class Flushed(NamedTuple):
    """What a flush made: the manifest in force, the new segment (None where no row lived)."""

    manifest: Manifest
    draft: Draft | None


def write(
    fs: FileSystem,
    folder: str,
    state: State,
    old: Manifest,
    info: wal.WalInfo,
    *,
    max_deltas: int,
    commit: Callable[[Manifest], None],
) -> Flushed:
    """Write and commit a flush of everything up to `state.lsn`, behind which the log `info` goes on; raises
    OSError and leaves the old state in force.
    """
    number, segments, draft, view = old.next_file_id, old.segments, None, state.front.view()
    if view.items["alive"][: view.n].any() or view.edges["alive"][: view.m].any():
        entry = segment.write(fs, folder, number, segment.build([view]), folded=state.lsn)
        segments, draft = (entry, *segments), segment.load(fs, folder, entry)
    merge = len(old.deltas) >= max_deltas
    content = deltas.collect(state, since=0 if merge else old.flushed_lsn)
    files = () if merge else old.deltas
    if any(content.values()):
        files = (*files, deltas.write(fs, folder, number + 1, content))
    new = old.next(
        next_file_id=number + 2,
        flushed_lsn=state.lsn,
        wal_id=info.file_id,
        wal_salt=info.salt.hex(),
        segments=segments,
        deltas=files,
        edge_types=tuple(state.types.names),
    )
    commit(new)
    return Flushed(new, draft)
