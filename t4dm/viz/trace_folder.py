"""Reads what a trace left in its run folder: trace.npz, trace.json and run.json."""

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

ARRAYS, TOLD = "trace.npz", "trace.json"


class TraceFolder(NamedTuple):
    """One text from token to output. A name that `arrays` lacks did not fit into the recorder's budget."""

    arrays: Mapping[str, NDArray[Any]]
    told: Json
    run: Json
    study: Json

    @property
    def tokens(self) -> list[str]:
        """What was read: the prompt, and the answer but for its last token."""
        return [str(token) for token in self.told.get("tokens", [])]

    def layers(self, what: str, count: int) -> NDArray[Any] | None:
        """`layer<i>.<what>` of all layers side by side, `[T, layers]`; None where one is missing."""
        found = [self.arrays.get(f"layer{index}.{what}") for index in range(count)]
        parts = [part for part in found if part is not None]
        return np.stack(parts, axis=1) if parts and len(parts) == count else None


def read_trace(folder: Path) -> TraceFolder:
    """Everything that the page shows.

    Raises:
        RunFolderError: the folder has no whole trace.
        BrokenRunFileError: a file of it is cut, or no JSON object.
    """
    for name in (TOLD, ARRAYS):
        if not (folder / name).is_file():
            raise RunFolderError(str(folder), name)
    try:
        with (folder / ARRAYS).open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise BrokenRunFileError(folder / ARRAYS, f"it cannot be read to its end ({error})") from error
    return TraceFolder(arrays, *(read_object(folder / name) for name in (TOLD, "run.json", "study.json")))
