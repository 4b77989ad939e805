"""A checkpoint bundle: one folder with the learning state, a copy of the store, and a manifest written last.

```
bundle/
  learning.safetensors   tensors by name
  learning.json          plain values: gates, pressure, counters, generator states
  store/                 T4DX.backup at the moment of the checkpoint
  ...                    whatever else the caller put there
  MANIFEST.json          format, the store's LSN, and the size and SHA-256 of every file above
``` The store is not saved twice: what the log and the segments hold is copied (hard-linked where possible)
as it is, and the manifest names the LSN it stands at, so that weights and memories of one moment belong
together.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

from safetensors.torch import load_file, save_file
from torch import Tensor

from t4dm.errors import BundleCorruptError, BundleFormatError, BundleStateError
from t4dm.t4dx import T4DX

__all__ = ["FORMAT", "Bundle", "BundleInfo", "inspect_bundle", "load_bundle", "save_bundle"]

FORMAT = 1
MANIFEST = "MANIFEST.json"
TENSORS = "learning.safetensors"
STATE = "learning.json"
STORE = "store"


class BundleInfo(NamedTuple):
    """What the manifest of a bundle says."""

    path: Path
    created: float  # seconds
    lsn: int | None  # of the store; None for a bundle without one
    files: dict[str, tuple[int, str]]  # name -> (bytes, SHA-256)


@final
class Bundle(NamedTuple):
    """A bundle read back."""

    info: BundleInfo
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_bundle(
    path: Path,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    store: T4DX | None = None,
    write: Callable[[Path], None] | None = None,
    clock: Callable[[], float],
) -> BundleInfo:
    """Write a bundle so that `path` holds the old one or the new one, never a mixture.

    Args:
        path: folder of the bundle; an older bundle there is replaced.
        tensors: learning state, by name.
        state: plain values (numbers, strings, lists, dicts).
        store: copied to `store/`, where given.
        write: puts further files into the folder it is called with, before the manifest is made.
        clock: the time in seconds.

    Raises:
        BundleStateError: `state` holds something that JSON cannot.
    """
    path = Path(path)
    fresh = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        lsn = _write_files(fresh, tensors=tensors, state=state, store=store, write=write)
        files = {name: (size, digest) for name, size, digest in _digests(fresh)}
        manifest = {"format": FORMAT, "created": clock(), "lsn": lsn, "files": files}
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _sync_tree(fresh)
        _publish(fresh, path)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return BundleInfo(path, float(manifest["created"]), lsn, files)  # type: ignore[arg-type]


def inspect_bundle(path: Path, *, verify: bool = True) -> BundleInfo:
    """The manifest of a bundle; with `verify` every file is read and its SHA-256 compared.

    Raises:
        BundleCorruptError: the manifest or a file is missing, cut short or altered.
        BundleFormatError: the bundle was written by a newer version.
    """
    path = Path(path)
    try:
        raw = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if int(raw["format"]) > FORMAT:
            raise BundleFormatError(path=path, found=int(raw["format"]), known=FORMAT)
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in raw["files"].items()}
        info = BundleInfo(path, float(raw["created"]), None if raw["lsn"] is None else int(raw["lsn"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleCorruptError(path=path, problem=f"{MANIFEST} cannot be read ({error})") from error
    for name, (size, digest) in files.items():
        _check_file(path, name, size, digest if verify else None)
    return info


def load_bundle(path: Path) -> Bundle:
    """Verify a bundle and read its learning state; its store is opened by `recovery.open_store_copy`.

    Raises:
        BundleCorruptError: something in it is not what was written.
        BundleFormatError: it was written by a newer version.
    """
    info = inspect_bundle(path)
    return Bundle(
        info,
        tensors=load_file(info.path / TENSORS),
        state=json.loads((info.path / STATE).read_text(encoding="utf-8")),
    )


def _write_files(
    folder: Path,
    *,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    store: T4DX | None,
    write: Callable[[Path], None] | None,
) -> int | None:
    try:
        text = json.dumps(dict(state))
    except (TypeError, ValueError) as error:
        raise BundleStateError(problem=str(error)) from error
    (folder / STATE).write_text(text, encoding="utf-8")
    # A copy of each: safetensors refuses tensors that share memory, as tied weights do.
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, folder / TENSORS)
    if write is not None:
        write(folder)
    if store is None:
        return None
    return int(store.backup(folder / STORE))


def _digests(folder: Path) -> list[tuple[str, int, str]]:
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(file.relative_to(folder).as_posix(), file.stat().st_size, _sha256(file)) for file in found]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_file(folder: Path, name: str, size: int, digest: str | None) -> None:
    file = folder / name
    if not file.is_file():
        raise BundleCorruptError(path=folder, problem=f"{name} is missing")
    if file.stat().st_size != size:
        raise BundleCorruptError(
            path=folder, problem=f"{name} has {file.stat().st_size} bytes instead of {size}"
        )
    if digest is not None and _sha256(file) != digest:
        raise BundleCorruptError(path=folder, problem=f"{name} has been altered")


def _sync_tree(folder: Path) -> None:
    for file in [*folder.rglob("*"), folder]:
        if file.is_file() or os.name == "posix":
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _publish(fresh: Path, path: Path) -> None:
    """Move the new folder into place; the one it replaces stays readable beside it until the new one is
    there.
    """
    old = path.with_name(f".old-{path.name}")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    fresh.rename(path)
    if os.name == "posix":
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    shutil.rmtree(old, ignore_errors=True)
