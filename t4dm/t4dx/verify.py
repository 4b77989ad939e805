"""Checks of a store on disk, at three depths."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from t4dm.errors import CorruptionError, OptionError
from t4dm.t4dx import manifest, recovery, replay
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.state import State, Version
from t4dm.t4dx.tables import View

LEVELS: Final = ("quick", "full", "deep")


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what was found; `ok` where nothing is wrong."""

    level: str
    files: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No problem found."""
        return not self.problems


def verify_store(fs: FileSystem, folder: str, level: str = "quick", *, live: Version | None = None) -> Report:
    """Check a store. Every problem is reported, not only the first.

    quick: the manifest, and the presence and size of every file it names. full: also every checksum and every
    log record. deep: also that the files rebuild a state without contradictions, the same as `live` where
    that is given.
    """
    if level not in LEVELS:
        raise OptionError(f"no verify level {level!r}; choose one of {', '.join(LEVELS)}")
    try:
        found = manifest.load(fs, folder)
        if found is None:
            return Report(level, 0, (f"{folder} has no manifest",))
        problems = [] if level == "quick" else _checksums(fs, folder, found)
        if level == "deep" and not problems:
            problems = _rebuild(fs, folder, found, live)
    except CorruptionError as error:
        return Report(level, 0, (str(error),))
    return Report(level, len(manifest.named_files(found)) + 2, tuple(problems))


def _checksums(fs: FileSystem, folder: str, found: Manifest) -> list[str]:
    crcs = {f"{manifest.segment_folder(s.id)}/{f.name}": f.crc for s in found.segments for f in s.files}
    crcs |= {f"deltas/{delta.name}": delta.crc for delta in found.deltas}
    problems = [
        f"{name}: its checksum is wrong"
        for name, crc in crcs.items()
        if zlib.crc32(fs.read(f"{folder}/{name}")) != crc
    ]
    try:
        replay.check_logs(fs, folder, found)
    except CorruptionError as error:
        problems.append(str(error))
    return problems


def _rebuild(fs: FileSystem, folder: str, found: Manifest, live: Version | None) -> list[str]:
    state = recovery.recover(fs, folder, found).state
    problems = _contradictions(state)
    if live is not None and (state.lsn != live.lsn or _digest(state.version()) != _digest(live)):
        problems.append(
            f"the files rebuild another state (LSN {state.lsn}) than the one in use (LSN {live.lsn})"
        )
    return problems


def _contradictions(state: State) -> list[str]:
    problems: list[str] = []
    owners: set[str] = set()
    births: set[tuple[str, int]] = set()
    for view in state.version().views:
        for row in view.visible_items(None).tolist():
            name = view.source.id_at(row)
            if name in owners:
                problems.append(f"item {name!r} has two current versions")
            owners.add(name)
        for row in np.flatnonzero(view.items["alive"][: view.n]).tolist():
            birth = view.source.id_at(row), int(view.items["seq"][row])
            if birth in births:
                problems.append(f"item {birth[0]!r} of LSN {birth[1]} lies in two places")
            births.add(birth)
        used, codes = view.items["vec_row"][: view.n], view.items["collection"][: view.n]
        for code in np.unique(codes[used >= 0]).tolist():
            if int(used[codes == code].max()) >= len(view.source.vectors(code)):
                problems.append("an item points behind the last vector")
        problems += [] if _lookups_agree(view) else ["an id is not found where it lies"]
    return problems


def _lookups_agree(view: View) -> bool:
    return all(row in view.source.rows_of(view.source.id_at(row)) for row in range(view.n)) and all(
        row in view.source.edge_rows(end, incoming=bool(side))
        for row in range(view.m)
        for side, end in enumerate(view.source.edge_ends(row))
    )


def _digest(version: Version) -> tuple[object, ...]:
    """All living versions and edges, wherever they lie."""
    items = [
        (view.source.id_at(row), int(view.items["seq"][row]), repr(view.item(row, version.collections)))
        for view in version.views
        for row in np.flatnonzero(view.items["alive"][: view.n]).tolist()
    ]
    edges = [
        (int(view.edges["seq"][row]), repr(view.edge(row, version.types)))
        for view in version.views
        for row in np.flatnonzero(view.edges["alive"][: view.m]).tolist()
    ]
    return tuple(sorted(items)), tuple(sorted(edges))
