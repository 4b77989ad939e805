"""Files whose content was changed and whose checksum fits: what no checksum sees, `verify("deep")` may."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import manifest
from t4dm.t4dx.blobs import npy_bytes, parse
from t4dm.t4dx.manifest import FileEntry, segment_folder


def forge_column(fs: SimulatedFileSystem, name: str, values: list[Any]) -> None:
    """Give a column of the newest segment other values of the same type, and name them in a new manifest."""
    found = manifest.load(fs, "store")
    assert found is not None
    entry, *others = found.segments
    root = f"store/{segment_folder(entry.id)}"
    old, _ = parse(memoryview(fs.read(f"{root}/{name}.npy")))
    data = npy_bytes(np.array(values, old.dtype))
    fs._file(f"{root}/{name}.npy").data[:] = data
    fresh = _entry(f"{name}.npy", data)
    files = tuple(fresh if file.name == fresh.name else file for file in entry.files)
    manifest.publish(fs, "store", found.next(segments=(replace(entry, files=files), *others)))


def forge_delta(fs: SimulatedFileSystem, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the newest delta file says, and name it in a new manifest."""
    found = manifest.load(fs, "store")
    assert found is not None
    *others, entry = found.deltas
    content = msgpack.unpackb(fs.read(f"store/deltas/{entry.name}"), raw=False)
    change(content)
    data = msgpack.packb(content)
    fs._file(f"store/deltas/{entry.name}").data[:] = data
    manifest.publish(fs, "store", found.next(deltas=(*others, _entry(entry.name, data))))


def _entry(name: str, data: bytes) -> FileEntry:
    return FileEntry(name, len(data), zlib.crc32(data))
