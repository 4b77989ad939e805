"""Makes a store that does not open one that does, deletes no byte and keeps quiet about no loss.

What can be read becomes a new generation, and one manifest commits it: until then the damaged store is
untouched, so a crash in the middle is repaired by running it again. What cannot be used lies in
`lost+found/repair-<version>/` of the store afterwards, hard-linked there before anything else changes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, final

from t4dm.errors import CorruptionError, RepairError, StoreFormatError, StoreMissingError
from t4dm.t4dx import deltas, flush, graph_files, logread, manifest, opening, recovery, salvage, segment, wal
from t4dm.t4dx.files import write_segment
from t4dm.t4dx.fs import FileSystem, OsFileSystem
from t4dm.t4dx.logfile import LogWriter
from t4dm.t4dx.manifest import FileEntry, Manifest, SegmentEntry
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.state import State
from t4dm.t4dx.tables import Array
from t4dm.t4dx.verify import damaged_files, verify_store

LOST: Final = "lost+found"


@final
@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was wrong, what was done about it (or would be), and what is lost.

    Attributes:
        problems: each with its file.
        actions: in order, in words.
        quarantined: files now in `lost+found/`, by their path in the store.
        lost_items: versions of items that no file holds any more.
        lost_edges: versions of edges likewise.
        lost_updates: delta files that were lost: changes and deletions of older items that they held are
            undone.
        lost_log_bytes: bytes of log behind its readable prefix.
        lost_log_records: how many whole records are among them.
        items: versions of items that survive.
        edges: versions of edges that survive.
        dry_run: nothing was changed.
    """

    problems: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    lost_items: int = 0
    lost_edges: int = 0
    lost_updates: int = 0
    lost_log_bytes: int = 0
    lost_log_records: int = 0
    items: int = 0
    edges: int = 0
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Nothing was wrong."""
        return not self.problems


class _Findings(NamedTuple):
    """The newest readable manifest, what is wrong with it and with each file it names."""

    found: Manifest
    spare: bool
    manifest_problems: list[str]
    damage: dict[str, str]

    @property
    def bad_columns(self) -> dict[int, set[str]]:
        """Damaged files of each segment."""
        bad = defaultdict[int, set[str]](set)
        for entry in self.found.segments:
            root = manifest.segment_folder(entry.id)
            if names := {file.name for file in entry.files if f"{root}/{file.name}" in self.damage}:
                bad[entry.id] = names
        return bad

    @property
    def good_deltas(self) -> tuple[FileEntry, ...]:
        """Delta files that can be read."""
        return tuple(entry for entry in self.found.deltas if f"deltas/{entry.name}" not in self.damage)


def repair_store(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    key: bytes | None = None,
    fs: FileSystem | None = None,
) -> RepairReport:
    """Repair a store that no process has open. A healthy store is left exactly as it is.

    Args:
        path: its folder.
        dry_run: only say what would be done.
        key: of a signed store.
        fs: the disk.

    Raises:
        StoreLockedError: a writer has it open. StoreMissingError: there is none. StoreKeyError.
        RepairError: neither its manifest nor the spare one can be read, or the result is not sound.
    """
    fs, folder = fs or OsFileSystem(), os.fspath(path).rstrip("/") or "/"
    if not fs.exists(folder) or not fs.exists(f"{folder}/segments"):
        raise StoreMissingError(folder)
    lock, seal = opening.take_lock(fs, folder, create=False), Seal(key) if key is not None else None
    try:
        return _repair(fs, folder, seal, dry_run=dry_run)
    finally:
        lock.release()


def _repair(fs: FileSystem, folder: str, seal: Seal | None, *, dry_run: bool) -> RepairReport:
    findings = _inspect(fs, folder, seal)
    files, report = _plan(fs, folder, findings)
    segments = {
        entry.id: salvage.columns(fs, folder, entry, bad)
        for entry in findings.found.segments
        if (bad := findings.bad_columns.get(entry.id))
    }
    trial = _state(fs, folder, findings, [e for e in findings.found.segments if e.id not in segments])
    logs = salvage.read_logs(fs, folder, findings.found, seal, trial)
    if logs.problem:
        files += [wal.wal_name(number) for number in logread.log_ids(fs, folder)]
        report = replace(
            report,
            problems=(*report.problems, logs.problem),
            actions=(*report.actions, "keep the readable start of the log"),
            lost_log_bytes=logs.bytes,
            lost_log_records=logs.records,
        )
    report = replace(report, quarantined=tuple(files), dry_run=dry_run)
    if report.ok:
        return _counted(report, trial)
    if dry_run:
        kept = [columns for columns in segments.values() if columns is not None]
        items, edges = (sum(len(c[name]) for c in kept) for name in ("item_id", "source"))
        report = _counted(report, trial)
        return replace(report, items=report.items + items, edges=report.edges + edges)
    return _write(fs, folder, seal, findings, segments, report)


def _inspect(fs: FileSystem, folder: str, seal: Seal | None) -> _Findings:
    """The newest manifest that can be read, the spare one last."""
    problems: list[str] = []
    names = [manifest.manifest_name(version) for version in reversed(manifest.versions(fs, folder))]
    if not names:
        problems.append(f"{folder} has no manifest")
    for name in (*names, manifest.SPARE):
        path = f"{folder}/{name}"
        try:
            found = manifest.decode(fs.read(path), path, seal)
        except (CorruptionError, StoreFormatError, OSError) as error:
            problems.append(str(error).partition(";")[0])
            continue
        manifest.check_flags(found, folder, read_only=False)
        spare = name == manifest.SPARE or bool(problems)
        damage = damaged_files(fs, folder, found, checksums=True)
        return _Findings(found, spare, problems, damage)
    raise RepairError(folder, "; ".join(problems))


def _plan(fs: FileSystem, folder: str, findings: _Findings) -> tuple[list[str], RepairReport]:
    """Which files go to lost+found, and the report so far."""
    found, files, actions = findings.found, list[str](), list[str]()
    lost = [salvage.Loss(), salvage.Loss()]
    if findings.manifest_problems:
        files += [manifest.manifest_name(version) for version in manifest.versions(fs, folder)]
        files += _unnamed(fs, folder, found)
        actions.append(f"go on from the spare copy of manifest {found.version}")
    for entry in found.segments:
        if bad := findings.bad_columns.get(entry.id):
            loss, root = salvage.loss(entry, bad), manifest.segment_folder(entry.id)
            lost.append(loss)
            files += [f"{root}/{file.name}" for file in entry.files]
            kept = "rebuild what follows from its other files" if not any(loss) else "keep the rest"
            actions.append(f"{root}: {kept}, {loss.items} items and {loss.edges} edges are lost")
    dropped = [entry for entry in found.deltas if entry not in findings.good_deltas]
    for delta in dropped:
        files.append(f"deltas/{delta.name}")
        actions.append(f"deltas/{delta.name}: go on without it, the changes that it held are lost")
    problems = [*findings.manifest_problems, *(f"{name}: {text}" for name, text in findings.damage.items())]
    report = RepairReport(
        problems=tuple(problems),
        actions=tuple(actions),
        lost_items=sum(loss.items for loss in lost),
        lost_edges=sum(loss.edges for loss in lost),
        lost_updates=len(dropped),
    )
    return [name for name in files if fs.exists(f"{folder}/{name}")], report


def _unnamed(fs: FileSystem, folder: str, found: Manifest) -> list[str]:
    """Files of segments and deltas that a manifest does not name: with a spare one they may be newer."""
    named = manifest.named_files(found)
    files = [f"deltas/{name}" for name in fs.listdir(f"{folder}/deltas")]
    for inner in fs.listdir(f"{folder}/segments"):
        files += [f"segments/{inner}/{name}" for name in fs.listdir(f"{folder}/segments/{inner}")]
    return [name for name in files if name not in named]


def _state(fs: FileSystem, folder: str, findings: _Findings, segments: list[SegmentEntry]) -> State:
    found = findings.found
    drafts = [segment.load(fs, folder, entry) for entry in segments]
    state = State(
        collections=Collections(found.collections),
        types=EdgeTypes(found.edge_types),
        segments=drafts,
        lsn=found.flushed_lsn,
    )
    deltas.load(state, [deltas.read(fs, folder, entry) for entry in findings.good_deltas])
    return state


def _write(
    fs: FileSystem,
    folder: str,
    seal: Seal | None,
    findings: _Findings,
    columns: dict[int, dict[str, Array] | None],
    report: RepairReport,
) -> RepairReport:
    """Quarantine, write what was saved, commit it with one manifest, verify."""
    found = findings.found
    version = max([*manifest.versions(fs, folder), found.version])
    _quarantine(fs, folder, version + 1, report.quarantined)
    for name in fs.listdir(f"{folder}/segments"):
        if name.startswith(".tmp-"):  # never finished, by a flush or an earlier repair that was stopped
            fs.remove_tree(f"{folder}/segments/{name}")
    number, segments = _free_number(fs, folder, found), list[SegmentEntry]()
    for entry in found.segments:
        if entry.id not in columns:
            segments.append(entry)
        elif (files := columns[entry.id]) is not None:
            segments.append(write_segment(fs, folder, number, files, folded=entry.folded))
            number += 1
    state = _state(fs, folder, findings, segments)
    salvage.read_logs(fs, folder, found, seal, state)
    closed = salvage.close_doubles(state)
    old = replace(
        found, version=version, next_file_id=number, segments=tuple(segments), deltas=findings.good_deltas
    )
    log = max([*logread.log_ids(fs, folder), found.wal_id]) + 1
    info = wal.WalInfo(log, 0, state.lsn + 1, fs.token(8))
    LogWriter.create(fs, folder, info, seal).close()
    new = flush.whole(fs, folder, state, old, info, number=number)
    manifest.publish(fs, folder, new, seal)
    recovery.sweep(fs, folder, new)
    for path in graph_files.survey(fs, folder)[1]:
        fs.unlink(path)  # the next writer builds it again
    after = verify_store(fs, folder, "deep", seal=seal)
    if not after.ok:
        raise RepairError(folder, f"after the repair: {after.problems[0]}")
    actions = [f"end {closed} versions that newer ones replaced"] if closed else []
    return _counted(replace(report, actions=(*report.actions, *actions)), state)


def _quarantine(fs: FileSystem, folder: str, version: int, files: tuple[str, ...]) -> None:
    """Hard links, durable before anything is removed; a second attempt finds those of the first."""
    root = f"{folder}/{LOST}/repair-{version}"
    fs.mkdir(root)
    for name in files:
        target = f"{root}/{name}"
        fs.mkdir(os.path.dirname(target))
        if not fs.exists(target):
            fs.link(f"{folder}/{name}", target)
        fs.sync_file(target)
    inner = {root}
    for name in files:
        while name := os.path.dirname(name):
            inner.add(f"{root}/{name}")
    for path in (*sorted(inner, key=len, reverse=True), f"{folder}/{LOST}", folder):
        fs.sync_dir(path)


def _free_number(fs: FileSystem, folder: str, found: Manifest) -> int:
    """A file id that nothing in the folder has, also where the newest manifest is unknown."""
    taken = [int(name) for name in fs.listdir(f"{folder}/segments") if name.isdigit()]
    taken += [int(name.rpartition("-")[2]) for name in fs.listdir(f"{folder}/deltas") if name[-1:].isdigit()]
    return max([found.next_file_id, *(number + 1 for number in taken)])


def _counted(report: RepairReport, state: State) -> RepairReport:
    views = state.version().views
    items = sum(int(view.items["alive"][: view.n].sum()) for view in views)
    return replace(report, items=items, edges=sum(int(view.edges["alive"][: view.m].sum()) for view in views))
