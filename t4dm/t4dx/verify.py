"""Checks of a store on disk, at three depths. Every problem is told, each with its file."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass
from typing import Final, final

from t4dm.errors import CorruptionError, OptionError, StoreFormatError, StoreMissingError
from t4dm.t4dx import contradictions, deltas, graph_files, manifest, recovery, replay
from t4dm.t4dx.beside import PAUSES, listing
from t4dm.t4dx.fs import FileSystem, OsFileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.state import Version

LEVELS: Final = ("quick", "full", "deep")
_CHUNK: Final = 4 * 2**20


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What was checked and what was found; `ok` where nothing is wrong.

    Attributes:
        graphs: whole ones, counted at "deep". damaged_graphs: their files; no problem, since a graph follows
            from the vectors: none is used before it is checked, and a writer builds another one.
    """

    level: str
    files: int
    problems: tuple[str, ...]
    graphs: int = 0
    damaged_graphs: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """No problem found."""
        return not self.problems


def verify_folder(
    path: str | os.PathLike[str],
    level: str = "full",
    *,
    key: bytes | None = None,
    fs: FileSystem | None = None,
) -> Report:
    """Check a store that is not open, or that another process writes to; see `verify_store` for the levels.

    Raises:
        StoreMissingError: there is no store. StoreKeyError: it is signed with another key. OptionError.
    """
    fs, folder = fs or OsFileSystem(), os.fspath(path).rstrip("/") or "/"
    if not fs.exists(folder) or not (manifest.versions(fs, folder) or fs.exists(f"{folder}/segments")):
        raise StoreMissingError(folder)
    return verify_store(fs, folder, level, seal=Seal(key) if key is not None else None)


def verify_store(
    fs: FileSystem,
    folder: str,
    level: str = "quick",
    *,
    live: Version | None = None,
    seal: Seal | None = None,
) -> Report:
    """Check a store. Every problem is reported, not only the first.

    quick: the manifest, and the presence and size of every file it names. full: also every checksum and every
    log record. deep: also that the files rebuild a state without contradictions: rows in order, every lookup
    against a plain scan, every overlay on a row that exists, no version twice, intervals that run forward and
    do not overlap; and that this state is `live` where that is given. Graphs are counted.
    """
    if level not in LEVELS:
        raise OptionError(f"no verify level {level!r}; choose one of {', '.join(LEVELS)}")
    for _ in range(20):
        report, version = _check(fs, folder, level, live, seal)
        if report.ok or manifest.versions(fs, folder)[-1:] == [version]:
            break  # otherwise a writer has replaced the files meanwhile: look at the new ones
    return report


def _check(
    fs: FileSystem, folder: str, level: str, live: Version | None, seal: Seal | None
) -> tuple[Report, int]:
    """One look, and the version of the manifest that it was at."""
    with listing(fs, folder):
        newest = max(manifest.versions(fs, folder), default=0) if fs.exists(folder) else 0
        found = _manifest(fs, folder, seal)
        if isinstance(found, str):
            return Report(level, 1, (found,)), newest
        problems = _problems(fs, folder, found, level, live, seal)
        logs = [name for name in fs.listdir(folder) if name.startswith("wal-")]
        graphs, damaged = graph_files.survey(fs, folder) if level == "deep" else (0, [])
    files = len(manifest.named_files(found)) + len(logs) + 1
    return Report(level, files, tuple(problems), graphs, tuple(damaged)), found.version


def damaged_files(fs: FileSystem, folder: str, found: Manifest, *, checksums: bool) -> dict[str, str]:
    """What is wrong with each file that a manifest names: path inside the store -> problem."""
    crcs = {f"{manifest.segment_folder(s.id)}/{f.name}": f.crc for s in found.segments for f in s.files}
    crcs |= {f"deltas/{delta.name}": delta.crc for delta in found.deltas}
    problems: dict[str, str] = {}
    for name, size in manifest.named_files(found).items():
        path = f"{folder}/{name}"
        try:
            if not fs.exists(path):
                problems[name] = "the manifest names this file, it is missing"
            elif fs.size(path) != size:
                problems[name] = f"it has {fs.size(path)} bytes instead of {size}"
            elif checksums and checksum(fs, path) != crcs[name]:
                problems[name] = "its checksum is wrong"
        except OSError as error:
            problems[name] = f"it cannot be read ({error.strerror})"
    return problems


def checksum(fs: FileSystem, path: str) -> int:
    """CRC32 of a file, in bounded memory."""
    crc, at = 0, 0
    while chunk := fs.read_range(path, at, _CHUNK):
        crc, at = zlib.crc32(chunk, crc), at + len(chunk)
    return crc


def _manifest(fs: FileSystem, folder: str, seal: Seal | None) -> Manifest | str:
    versions = manifest.versions(fs, folder) if fs.exists(folder) else []
    if not versions:
        return f"{folder} has no manifest"
    name = manifest.manifest_name(versions[-1])
    try:
        found = manifest.decode(fs.read(f"{folder}/{name}"), f"{folder}/{name}", seal)
        manifest.check_flags(found, folder, read_only=True)
    except (CorruptionError, StoreFormatError, OSError) as error:
        return str(error)
    return found if found.version == versions[-1] else f"{folder}/{name}: it holds version {found.version}"


def _problems(
    fs: FileSystem, folder: str, found: Manifest, level: str, live: Version | None, seal: Seal | None
) -> list[str]:
    damage = damaged_files(fs, folder, found, checksums=level != "quick")
    problems = [f"{folder}/{name}: {problem}" for name, problem in damage.items()]
    for pause in (*PAUSES, None):
        try:
            if level == "quick":
                replay.open_chain(fs, folder, found, seal)
            else:
                replay.check_logs(fs, folder, found, seal)
            rebuilt = _rebuild(fs, folder, found, live, seal) if level == "deep" and not problems else []
            return problems + rebuilt
        except (CorruptionError, FileNotFoundError) as error:
            if pause is None:
                return [*problems, str(error)]
            time.sleep(pause)  # beside a writer a record may look damaged while it is written
    return problems


def _rebuild(
    fs: FileSystem, folder: str, found: Manifest, live: Version | None, seal: Seal | None
) -> list[str]:
    state = recovery.recover(fs, folder, found, seal).state
    contents = {f"deltas/{entry.name}": deltas.read(fs, folder, entry) for entry in found.deltas}
    problems = [*contradictions.of_state(state), *contradictions.of_deltas(state, contents)]
    if live is not None:
        problems += contradictions.between(state.version(), live)
    return problems
