"""Reads what a study of the blocks left in its run folder: inside.npz and run.json."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.run_folder import Json, read_object

FILE = "inside.npz"


class InsideFolder(NamedTuple):
    """One reading of a text. `arrays` are named `block<i>.<what>`; a name that is missing did not fit."""

    tokens: tuple[str, ...]
    blocks: tuple[int, ...]
    target_rate: float
    dropped: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]
    run: Json
    study: Json

    def of(self, block: int, what: str) -> NDArray[Any] | None:
        """One array of a block, or None where it was not recorded."""
        return self.arrays.get(f"block{block}.{what}")


def read_inside(folder: Path) -> InsideFolder:
    """Everything that the page shows.

    Raises:
        RunFolderError: the folder has no inside.npz.
        BrokenRunFileError: inside.npz is cut or lacks what every study writes, or run.json is no JSON object.
    """
    file = folder / FILE
    if not file.is_file():
        raise RunFolderError(str(folder), FILE)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return InsideFolder(
            tokens=tuple(map(str, arrays.pop("tokens"))),
            blocks=tuple(map(int, arrays.pop("blocks"))),
            target_rate=float(arrays.pop("target_rate")),
            dropped=tuple(map(str, arrays.pop("dropped"))),
            arrays=arrays,
            run=read_object(folder / "run.json"),
            study=read_object(folder / "study.json"),
        )
    except (KeyError, ValueError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise BrokenRunFileError(file, f"it cannot be read to its end ({error})") from error
