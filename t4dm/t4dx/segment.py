"""Immutable columnar segments: one .npy file per column, written once, checked by size and CRC32.

An id dictionary sorted by hash gives every id a code; items and edges hold codes. Item rows lie in order of
insertion, edge rows sorted by (source, target), so the edges of a node are one slice. Texts are one byte blob
with offsets. Vectors and texts are mapped at open, so that a reader keeps them when a compaction unlinks the
files; their checksums are compared when they are first touched. All other files are checked at open.
"""

from __future__ import annotations

import io
import math
import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Final, final

import msgpack
import numpy as np

from t4dm.errors import CorruptionError
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import FileEntry, SegmentEntry, segment_folder
from t4dm.t4dx.tables import EDGE_COLUMNS, ITEM_COLUMNS, Array, Draft, Source, View
from t4dm.t4dx.types import Float32s

_HEADER: Final = 512  # bytes that surely hold the header of a .npy file with a plain dtype
_LAZY: Final = ("texts.npy", "props.npy")
_VECTORS: Final = "vectors_"


def id_hash(item_id: str) -> int:
    """The 64-bit hash by which ids are sorted."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "little")


@final
class Segment(Source):
    """A segment as opened."""

    def __init__(
        self, entry: SegmentEntry, load: Callable[[str], Array], blobs: dict[str, Callable[[], Array]]
    ) -> None:
        self.entry = entry
        self._blobs = blobs
        self._vectors: dict[int, Float32s] = {}
        self.session_names = msgpack.unpackb(load("sessions.npy").tobytes(), raw=False)
        self._sessions = {name: code for code, name in enumerate(self.session_names)}
        self._hashes, self._id_ends = load("id_hash.npy").data, load("id_ends.npy").data
        self._id_bytes = load("ids.npy").tobytes()
        self._item_ids, self._text_ends = load("item_id.npy"), load("text_ends.npy")
        self._sources, self._targets = load("source.npy"), load("target.npy")
        self._prop_ends = load("prop_ends.npy")

    def vectors(self, collection: int) -> Float32s:
        block = self._vectors.get(collection)
        if block is None:
            blob = self._blobs.get(f"{_VECTORS}{collection}.npy")
            block = self._vectors.setdefault(
                collection, np.zeros((0, 0), np.float32) if blob is None else blob()
            )
        return block

    @cached_property
    def _texts(self) -> Array:
        return self._blobs["texts.npy"]()

    @cached_property
    def _props(self) -> Array:
        return self._blobs["props.npy"]()

    @cached_property
    def _by_id(self) -> tuple[Array, Array]:
        rows = np.argsort(self._item_ids, kind="stable")
        return rows, self._item_ids[rows]

    @cached_property
    def _by_target(self) -> tuple[Array, Array]:
        rows = np.argsort(self._targets, kind="stable")
        return rows, self._targets[rows]

    def code_of(self, item_id: str) -> int:
        """Code of an id, -1 where the segment does not know it."""
        mark = id_hash(item_id)
        place = bisect_left(self._hashes, mark)
        while place < len(self._hashes) and self._hashes[place] == mark:
            if self.label(place) == item_id:
                return place
            place += 1
        return -1

    def label(self, code: int) -> str:
        """The id behind a code."""
        return self._id_bytes[self._id_ends[code] : self._id_ends[code + 1]].decode()

    def rows_of(self, item_id: str) -> Sequence[int]:
        code = self.code_of(item_id)
        return _run(*self._by_id, code) if code >= 0 else ()

    def id_at(self, row: int) -> str:
        return self.label(int(self._item_ids[row]))

    def text_at(self, row: int) -> tuple[str, bytes]:
        content, meta = (bytes(_slice(self._texts, self._text_ends, 2 * row + part)) for part in (0, 1))
        return content.decode(), meta

    def session_code(self, session: str) -> int:
        return self._sessions.get(session, -1)

    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        code = self.code_of(item_id)
        if code < 0:
            return ()
        if incoming:
            return _run(*self._by_target, code)
        lo, hi = np.searchsorted(self._sources, (code, code + 1))
        return range(int(lo), int(hi))

    def edges_between(self, source: str, target: str) -> Sequence[int]:
        run, code = self.edge_rows(source, incoming=False), self.code_of(target)
        if code < 0 or not run:
            return ()
        lo, hi = np.searchsorted(self._targets[run[0] : run[-1] + 1], (code, code + 1)) + run[0]
        return range(int(lo), int(hi))

    def edge_codes(self) -> tuple[Array, Array]:
        """Codes of the sources [m], rising, and of the targets [m] of all edge rows."""
        return self._sources, self._targets

    def edge_ends(self, row: int) -> tuple[str, str]:
        return self.label(int(self._sources[row])), self.label(int(self._targets[row]))

    def edge_text(self, row: int) -> bytes:
        return bytes(_slice(self._props, self._prop_ends, row))


def build(views: Sequence[View]) -> dict[str, Array]:
    """The columns of a segment with the living rows of some views, patched values folded in. Changes nothing
    logical.

    Items keep the order of their sequence numbers, so the same rows always give the same files.
    """
    items = [(view, row) for view in views for row in np.flatnonzero(view.items["alive"][: view.n]).tolist()]
    items.sort(key=lambda place: (int(place[0].items["seq"][place[1]]), place[0].source.id_at(place[1])))
    edges = [(view, row) for view in views for row in np.flatnonzero(view.edges["alive"][: view.m]).tolist()]
    ids = [view.source.id_at(row) for view, row in items]
    ends = [view.source.edge_ends(row) for view, row in edges]
    codes = _codes({*ids, *(end for pair in ends for end in pair)})
    files = _id_files(codes)
    files["item_id.npy"] = np.array([codes[name] for name in ids], np.int32)
    files |= _item_files(items)
    return files | _edge_files(edges, ends, codes)


def write(
    fs: FileSystem, folder: str, segment_id: int, files: dict[str, Array], *, folded: int
) -> SegmentEntry:
    """Write a segment beside, sync every file, then give the folder its name. It exists once a manifest names
    it.
    """
    parent, final_path = f"{folder}/segments", f"{folder}/{segment_folder(segment_id)}"
    temporary = f"{parent}/.tmp-{segment_id}"
    fs.mkdir(temporary)
    entries = []
    for name, column in sorted(files.items()):
        data = npy_bytes(column)
        fs.write_new(f"{temporary}/{name}", data)
        fs.sync_file(f"{temporary}/{name}")
        entries.append(FileEntry(name, len(data), zlib.crc32(data)))
    fs.sync_dir(temporary)
    fs.rename(temporary, final_path)
    fs.sync_dir(parent)
    counts = len(files["item_id.npy"]), len(files["source.npy"])
    return SegmentEntry(segment_id, folded, *counts, tuple(entries))


def load(fs: FileSystem, folder: str, entry: SegmentEntry) -> Draft:
    """Open a segment; raises CorruptionError where a file is not what was written."""
    root = f"{folder}/{segment_folder(entry.id)}"
    crcs = {file.name: file.crc for file in entry.files}

    def column(name: str) -> Array:
        return parse(memoryview(fs.read(f"{root}/{name}")), f"{root}/{name}", crcs.get(name))

    def blob(name: str) -> Callable[[], Array]:
        mapped = fs.map_bytes(f"{root}/{name}")
        return lambda: parse(mapped.data, f"{root}/{name}", crcs.get(name))

    source = Segment(
        entry, column, {name: blob(name) for name in crcs if name in _LAZY or name.startswith(_VECTORS)}
    )
    items = {name: column(f"item_{name}.npy") for name in ITEM_COLUMNS if name != "alive"}
    edges = {name: column(f"edge_{name}.npy") for name in EDGE_COLUMNS if name != "alive"}
    items["alive"], edges["alive"] = np.ones(entry.items, bool), np.ones(entry.edges, bool)
    return Draft(source, items, edges, entry.items, entry.edges, folded=entry.folded)


def npy_bytes(column: Array) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, column, allow_pickle=False)
    return buffer.getvalue()


def parse(data: memoryview, path: str, crc: int | None) -> Array:
    """The array in the bytes of a .npy file, sharing them; raises CorruptionError for a wrong checksum."""
    if zlib.crc32(data) != crc:
        raise CorruptionError(path, "its checksum is wrong")
    head = io.BytesIO(bytes(data[:_HEADER]))
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    return np.frombuffer(data, dtype, count=math.prod(shape), offset=head.tell()).reshape(shape)


def _codes(names: set[str]) -> dict[str, int]:
    return {name: code for code, (_, name) in enumerate(sorted((id_hash(name), name) for name in names))}


def _id_files(codes: dict[str, int]) -> dict[str, Array]:
    blob, ends = _blob([name.encode() for name in codes])
    hashes = np.array([id_hash(name) for name in codes], np.uint64)
    return {"ids.npy": blob, "id_ends.npy": ends, "id_hash.npy": hashes}


def _item_files(places: list[tuple[View, int]]) -> dict[str, Array]:
    files: dict[str, Array] = {}
    for name, kind in ITEM_COLUMNS.items():
        if name not in ("alive", "session", "vec_row"):
            files[f"item_{name}.npy"] = np.array([view.items[name][row] for view, row in places], kind)
    names = [view.source.session_names[view.items["session"][row]] for view, row in places]
    sessions = {name: code for code, name in enumerate(dict.fromkeys(names))}
    files["item_session.npy"] = np.array([sessions[name] for name in names], np.int32)
    files["sessions.npy"] = np.frombuffer(msgpack.packb(list(sessions)), np.uint8)
    files |= _vector_files(places, files["item_collection.npy"])
    files["texts.npy"], files["text_ends.npy"] = _blob([part for place in places for part in _text(*place)])
    return files


def _vector_files(places: list[tuple[View, int]], codes: Array) -> dict[str, Array]:
    old = np.array([view.items["vec_row"][row] for view, row in places], np.int32)
    files: dict[str, Array] = {"item_vec_row.npy": np.full(len(old), -1, np.int32)}
    for code in np.unique(codes[old >= 0]).tolist():
        chosen = np.flatnonzero((old >= 0) & (codes == code)).tolist()
        files["item_vec_row.npy"][chosen] = np.arange(len(chosen))
        rows = [places[place][0].source.vectors(code)[old[place]] for place in chosen]
        files[f"{_VECTORS}{code}.npy"] = np.stack(rows)
    return files


def _edge_files(
    places: list[tuple[View, int]], ends: list[tuple[str, str]], codes: dict[str, int]
) -> dict[str, Array]:
    keys = np.array([(codes[a], codes[b]) for a, b in ends], np.int32).reshape(-1, 2)
    seqs = np.array([view.edges["seq"][row] for view, row in places], np.uint64)
    order = np.lexsort((seqs, keys[:, 1], keys[:, 0]))
    files: dict[str, Array] = {"source.npy": keys[order, 0], "target.npy": keys[order, 1]}
    for name, kind in EDGE_COLUMNS.items():
        if name != "alive":
            values = np.array([view.edges[name][row] for view, row in places], kind)
            files[f"edge_{name}.npy"] = values[order]
    chosen = [places[place] for place in order.tolist()]
    files["props.npy"], files["prop_ends.npy"] = _blob([view.source.edge_text(row) for view, row in chosen])
    return files


def _text(view: View, row: int) -> tuple[bytes, bytes]:
    content, meta = view.source.text_at(row)
    return content.encode(), view.metas.get(row, meta)


def _blob(parts: list[bytes]) -> tuple[Array, Array]:
    ends = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), ends


def _slice(blob: Array, ends: Array, place: int) -> Array:
    return blob[ends[place] : ends[place + 1]]


def _run(rows: Array, keys: Array, key: int) -> list[int]:
    lo, hi = np.searchsorted(keys, (key, key + 1))
    run: list[int] = rows[lo:hi].tolist()
    return run
