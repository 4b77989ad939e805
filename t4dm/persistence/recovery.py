"""Start again: from the newest bundle that is whole, or from nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from t4dm.errors import BundleCorruptError, BundleFormatError, FolderExistsError
from t4dm.persistence.bundle import STORE, Bundle, BundleInfo, inspect_bundle, load_bundle
from t4dm.t4dx import T4DX, Options

__all__ = ["Recovered", "find_bundles", "newest_bundle", "open_store_copy", "recover"]


class Recovered(NamedTuple):
    """What a start found: `bundle` is None after a cold start; `skipped` says which bundles were broken,
    and why.
    """

    bundle: Bundle | None
    store: T4DX
    skipped: tuple[str, ...]


def find_bundles(folder: Path) -> tuple[list[BundleInfo], list[str]]:
    """The readable bundles below a folder, newest first, and one sentence for each broken one.

    A bundle that was being replaced when the process died lies under `.old-<name>` and counts; one that was
    still being written, `.tmp-<name>`, does not. Only manifests and sizes are looked at here.
    """
    found: list[BundleInfo] = []
    skipped: list[str] = []
    for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []:
        if not path.is_dir() or path.name.startswith(".tmp-"):
            continue
        try:
            found.append(inspect_bundle(path, verify=False))
        except (BundleCorruptError, BundleFormatError) as error:
            skipped.append(str(error))
    return sorted(found, key=lambda info: (info.created, info.lsn or 0), reverse=True), skipped


def newest_bundle(folder: Path) -> tuple[Bundle | None, tuple[str, ...]]:
    """The newest bundle whose every byte is right, and one sentence for each that is newer and broken."""
    found, skipped = find_bundles(folder)
    for info in found:
        try:
            return load_bundle(info.path), tuple(skipped)
        except (BundleCorruptError, BundleFormatError) as error:
            skipped.append(str(error))
    return None, tuple(skipped)


def open_store_copy(
    info: BundleInfo, target: Path, *, clock: Callable[[], float], options: Options | None = None
) -> T4DX:
    """A writable copy of a bundle's store, at the bundle's LSN. The bundle itself stays as it is.

    Args:
        info: a bundle with a store.
        target: folder of the copy; must not exist or be empty.

    Raises:
        BundleCorruptError: the bundle has no store, or the copy does not stand at the LSN of the manifest.
        FolderExistsError: something is in `target`.
    """
    if info.lsn is None:
        raise BundleCorruptError(path=info.path, problem="it holds no store")
    target = Path(target)
    if target.exists() and any(target.iterdir()):
        raise FolderExistsError(str(target))
    shutil.copytree(info.path / STORE, target, dirs_exist_ok=True)
    store = T4DX.open(str(target), dim=None, options=options or Options(), clock=clock)
    if store.lsn != info.lsn:
        problem = f"its store stands at LSN {store.lsn}, the manifest says {info.lsn}"
        store.close()
        raise BundleCorruptError(path=info.path, problem=problem)
    return store


def recover(
    folder: Path,
    target: Path,
    *,
    dim: int,
    clock: Callable[[], float],
    options: Options | None = None,
) -> Recovered:
    """Warm start from the newest whole bundle of `folder`; else open or create the store at `target`.

    With a bundle `target` must be new or empty.
    """
    bundle, skipped = newest_bundle(folder)
    if bundle is None or bundle.info.lsn is None:
        return Recovered(
            bundle, T4DX.open(str(target), dim=dim, options=options or Options(), clock=clock), skipped
        )
    return Recovered(bundle, open_store_copy(bundle.info, target, clock=clock, options=options), skipped)
