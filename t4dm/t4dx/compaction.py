"""Physical compaction: choose segments, rewrite their living rows, swap. No read gives another answer
afterwards.

It runs on a flushed state, so the rewritten segment has folded every overlay, rule and tombstone there is.
"""

from __future__ import annotations

from collections.abc import Callable

from t4dm.t4dx import deltas, segment
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry, Manifest
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Draft


def choose(state: State, manifest: Manifest, *, full: bool, limit: int) -> list[int]:
    """Places of the segments to rewrite together; empty where there is nothing to gain.

    Full: all of them, unless there is a single one without anything to fold or drop. Otherwise only above
    `limit`: the smallest ones, as many as bring the number down to half of it.
    """
    sizes = [draft.n + draft.m for draft in state.segments]
    if full:
        folds = any(not deltas.only_undo(delta) for delta in manifest.deltas)
        idle = len(sizes) <= 1 and not folds and not any(map(has_dead, state.segments))
        return [] if idle else list(range(len(sizes)))
    if len(sizes) <= limit:
        return []
    smallest = sorted(range(len(sizes)), key=lambda place: (sizes[place], place))
    return sorted(smallest[: len(sizes) - max(1, limit // 2) + 1])


def has_dead(draft: Draft) -> bool:
    """Whether rows of a segment were deleted."""
    return not (draft.items["alive"][: draft.n].all() and draft.edges["alive"][: draft.m].all())


def rewrite(
    fs: FileSystem,
    folder: str,
    state: State,
    old: Manifest,
    chosen: list[int],
    *,
    commit: Callable[[Manifest], None],
) -> Draft | None:
    """Write the chosen segments as one and commit the swap; the entries of the other segments stay in one
    delta file.
    """
    number, draft, entries = old.next_file_id, None, []
    views = [state.segments[place].view() for place in chosen]
    if any(view.items["alive"].any() or view.edges["alive"].any() for view in views):
        files = segment.build(views)
        entry = segment.write(fs, folder, number, files, folded=state.lsn)
        draft, entries = segment.load(fs, folder, entry), [entry]
    rest = [place for place in range(len(state.segments)) if place not in chosen]
    left: tuple[FileEntry, ...] = ()
    content = deltas.collect(state, since=0, only=[state.segments[place] for place in rest])
    if not rest:
        content = {name: rows if name == "transactions" else [] for name, rows in content.items()}
    if any(content.values()):
        left = (deltas.write(fs, folder, number + 1, content),)
    kept = [old.segments[place] for place in rest]
    new = old.next(next_file_id=number + 2, segments=(*entries, *kept), deltas=left)
    commit(new)
    return draft
