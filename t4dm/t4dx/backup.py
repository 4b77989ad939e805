"""A copy of a store that opens like any other: immutable files linked, the log copied, the manifest written
last.
"""

from __future__ import annotations

from t4dm.errors import FolderExistsError
from t4dm.t4dx import manifest
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import Manifest
from t4dm.t4dx.seal import Seal


def copy_store(
    fs: FileSystem,
    source: str,
    target: str,
    found: Manifest,
    *,
    logs: dict[str, int],
    seal: Seal | None = None,
) -> None:
    """Copy what a manifest names, and so many bytes of each of its `logs`, into a new or empty folder.

    Files that never change are hard links where the file system allows it; without its manifest, which comes
    last and durably, an unfinished copy is no store.
    """
    if fs.exists(target) and fs.listdir(target):
        raise FolderExistsError(target)
    for name in ("segments", "deltas", *(manifest.segment_folder(entry.id) for entry in found.segments)):
        fs.mkdir(f"{target}/{name}")
    for name in manifest.named_files(found):
        fs.link(f"{source}/{name}", f"{target}/{name}")
        fs.sync_file(f"{target}/{name}")
    for log, size in logs.items():
        fs.write_new(f"{target}/{log}", fs.read_range(f"{source}/{log}", 0, size))
        fs.sync_file(f"{target}/{log}")
    for name in (*(manifest.segment_folder(entry.id) for entry in found.segments), "segments", "deltas"):
        fs.sync_dir(f"{target}/{name}")
    manifest.publish(fs, target, found, seal)
