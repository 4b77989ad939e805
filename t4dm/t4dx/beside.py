"""Reading beside a living writer, from any process: open as of now, and follow it. Changes no byte."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from t4dm.errors import CorruptionError
from t4dm.t4dx import manifest, recovery, replay
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.logread import LogChain
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.recovery import Recovered
from t4dm.t4dx.seal import Seal

PAUSES: Final = (0.001, 0.004, 0.016)


class Seen(NamedTuple):
    """What a reader holds."""

    manifest: Manifest
    recovered: Recovered


@contextlib.contextmanager
def listing(fs: FileSystem, folder: str) -> Iterator[None]:
    """While a reader reads the manifest and opens the files it names: the writer removes none of them."""
    guard = fs.guard(f"{folder}/{recovery.GUARD}", exclusive=False) if fs.exists(folder) else None
    try:
        yield
    finally:
        if guard is not None:
            guard.release()


def recover(fs: FileSystem, folder: str, found: Manifest, seal: Seal | None = None) -> Seen:
    """Recover what the writer has written by now.

    A record that is being written looks damaged while another one behind it is whole already: so damage is
    believed only when it is still there a little later.
    """
    for pause in PAUSES:
        with contextlib.suppress(FileNotFoundError, CorruptionError):
            return _recover(fs, folder, found, seal)
        time.sleep(pause)
    return _recover(fs, folder, found, seal)


def follow(fs: FileSystem, folder: str, seen: Seen, seal: Seal | None = None) -> Seen:
    """The present: only new log records where the manifest is still the same, everything else anew."""
    state, old = seen.recovered
    with listing(fs, folder), contextlib.suppress(FileNotFoundError, CorruptionError):
        if manifest.versions(fs, folder)[-1:] == [seen.manifest.version]:
            chain = LogChain(fs, folder, old.place.file_id, seal=seal, place=old.place)
            if chain.reader.info == old.info:
                tail = chain.pause(replay.replay(state, chain))
                tail = tail._replace(used=old.used | tail.used)
                return Seen(seen.manifest, Recovered(state, tail))
    return recover(fs, folder, seen.manifest, seal)


def _recover(fs: FileSystem, folder: str, found: Manifest, seal: Seal | None) -> Seen:
    with listing(fs, folder):
        newest = manifest.load(fs, folder, seal) or found
        manifest.check_flags(newest, folder, read_only=True)
        return Seen(newest, recovery.recover(fs, folder, newest, seal))
