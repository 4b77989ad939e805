"""The one commit point: a full, versioned, checksummed list of what the store consists of. Never overwritten.

`MANIFEST-<version>` is written beside, synced and then renamed to a name that must not exist. Opening takes
the highest version; if that one is damaged, or a file it names is missing or has another size, the store
refuses to open: there is no silent fall-back to an older state. Files that no manifest names are leftovers of
a crash.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, final

from t4dm.errors import CorruptionError, StoreFormatError, StoreKeyError
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.seal import Seal
from t4dm.t4dx.types import Collection

FORMAT: Final = 2
READER_FLAGS: Final = frozenset({"collections", "columns", "deltas"})
"""Features that a reader must know to answer rightly."""
WRITER_FLAGS: Final = frozenset({"wal-2"})
"""Features that a writer must know to leave the store readable."""
_PREFIX: Final = "MANIFEST-"
SPARE: Final = "SPARE-MANIFEST"
"""A second copy of the newest manifest, for `repair` alone: no store is opened by it."""


@final
@dataclass(frozen=True, slots=True)
class FileEntry:
    """Name, size in bytes and CRC32 of an immutable file."""

    name: str
    size: int
    crc: int


@final
@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment: its files, and the LSN up to which overlays, rules and tombstones are folded into its
    columns.
    """

    id: int
    folded: int
    items: int
    edges: int
    files: tuple[FileEntry, ...]


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a store on disk. `segments` run from new to old, `deltas` from old to new."""

    version: int
    collections: tuple[Collection, ...]
    next_file_id: int
    flushed_lsn: int
    wal_id: int
    wal_salt: str
    segments: tuple[SegmentEntry, ...] = ()
    deltas: tuple[FileEntry, ...] = ()
    edge_types: tuple[str, ...] = ()
    reader_flags: tuple[str, ...] = tuple(sorted(READER_FLAGS))
    writer_flags: tuple[str, ...] = tuple(sorted(WRITER_FLAGS))
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Vector size of the default collection."""
        return self.collections[0].dim

    def next(self, **changes: Any) -> Manifest:
        """The successor, with some fields changed."""
        return replace(self, version=self.version + 1, **changes)


def manifest_name(version: int) -> str:
    """File name of a manifest."""
    return f"{_PREFIX}{version:020d}"


def versions(fs: FileSystem, folder: str) -> list[int]:
    """Versions of the manifests in a folder, oldest first."""
    names = [name for name in fs.listdir(folder) if name.startswith(_PREFIX) and not name.endswith(".tmp")]
    return sorted(int(name.removeprefix(_PREFIX)) for name in names if name.removeprefix(_PREFIX).isdigit())


def encode(manifest: Manifest, seal: Seal | None = None) -> bytes:
    """One head line with format, checksum and (with a key) MAC, then JSON."""
    body = json.dumps(asdict(manifest), sort_keys=True).encode()
    mac = seal.mac(b"%d\n" % FORMAT, body).hex() if seal is not None else ""
    return f"T4DX {FORMAT} {_crc(FORMAT, body, mac):08x} {mac}".rstrip().encode() + b"\n" + body


def decode(data: bytes, path: str, seal: Seal | None = None) -> Manifest:
    """Undo `encode`; raises CorruptionError, StoreKeyError, or StoreFormatError for an intact manifest of
    another format.
    """
    head, _, body = data.partition(b"\n")
    words, mac = head.decode("ascii", "replace").split(" "), ""
    if len(words) == 4:
        mac = words.pop()
    if (
        len(words) != 3
        or words[0] != "T4DX"
        or not words[1].isdecimal()
        or words[2] != f"{_crc(int(words[1]), body, mac):08x}"
    ):
        raise CorruptionError(path, "the manifest is damaged")
    expected = seal.mac(b"%s\n" % words[1].encode(), body).hex() if seal is not None else ""
    if not hmac.compare_digest(mac.encode(), expected.encode()):
        raise StoreKeyError(path.rpartition("/")[0], signed=bool(mac), given=seal is not None)
    if int(words[1]) != FORMAT:
        raise StoreFormatError(path, words[1], f"format {FORMAT}")
    raw = json.loads(body)
    segments = [
        SegmentEntry(**{**s, "files": tuple(FileEntry(**f) for f in s["files"])}) for s in raw["segments"]
    ]
    known: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in raw.items()}
    known["collections"] = tuple(Collection(*row) for row in raw["collections"])
    known |= {"segments": tuple(segments), "deltas": tuple(FileEntry(**d) for d in raw["deltas"])}
    return Manifest(**known)


def check_flags(manifest: Manifest, path: str, *, read_only: bool) -> None:
    """Refuse features that this version does not know."""
    unknown = set(manifest.reader_flags) - READER_FLAGS
    if not read_only:
        unknown |= set(manifest.writer_flags) - WRITER_FLAGS
    if unknown:
        raise StoreFormatError(
            path, f"with {', '.join(sorted(unknown))}", ", ".join(sorted(READER_FLAGS | WRITER_FLAGS))
        )


def load(fs: FileSystem, folder: str, seal: Seal | None = None) -> Manifest | None:
    """The newest manifest, checked against the files it names; None in a folder without any."""
    found = versions(fs, folder) if fs.exists(folder) else []
    if not found:
        return None
    path = f"{folder}/{manifest_name(found[-1])}"
    manifest = decode(fs.read(path), path, seal)
    if manifest.version != found[-1]:
        raise CorruptionError(path, f"it holds version {manifest.version}")
    for name, size in named_files(manifest).items():
        if not fs.exists(f"{folder}/{name}"):
            raise CorruptionError(f"{folder}/{name}", "the manifest names this file, it is missing")
        if fs.size(f"{folder}/{name}") != size:
            raise CorruptionError(
                f"{folder}/{name}", f"it has {fs.size(f'{folder}/{name}')} bytes instead of {size}"
            )
    return manifest


def named_files(manifest: Manifest) -> dict[str, int]:
    """Immutable files and their sizes, by path inside the store."""
    files = {f"{segment_folder(s.id)}/{f.name}": f.size for s in manifest.segments for f in s.files}
    return files | {f"deltas/{delta.name}": delta.size for delta in manifest.deltas}


def segment_folder(segment_id: int) -> str:
    """Folder of a segment inside the store."""
    return f"segments/{segment_id:020d}"


def publish(fs: FileSystem, folder: str, manifest: Manifest, seal: Seal | None = None) -> None:
    """Make a manifest the state of the store: durable before it has its name, its name durable before this
    returns.
    """
    path = f"{folder}/{manifest_name(manifest.version)}"
    if fs.exists(f"{path}.tmp"):
        fs.unlink(f"{path}.tmp")
    data = encode(manifest, seal)
    fs.write_new(f"{path}.tmp", data)
    fs.sync_file(f"{path}.tmp")
    fs.rename(f"{path}.tmp", path)
    fs.sync_dir(folder)
    with contextlib.suppress(OSError):  # the store is complete without it
        if fs.exists(f"{folder}/{SPARE}"):
            fs.unlink(f"{folder}/{SPARE}")
        fs.write_new(f"{folder}/{SPARE}", data)


def _crc(number: int, body: bytes, mac: str = "") -> int:
    return zlib.crc32(body, zlib.crc32(f"{number}{mac}".encode()))
