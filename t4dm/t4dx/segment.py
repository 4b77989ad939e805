"""Immutable columnar segments: one .npy file per column, written once, checked by size and CRC32.

An id dictionary sorted by hash gives every id a code; items and edges hold codes. Item rows lie in order of
insertion, edge rows sorted by (source, target), so the edges of a node are one slice; a permutation gives
those that come in. Texts are one byte blob with offsets. All files are mapped at open, so that a reader keeps
them when a compaction unlinks them; checksums are compared when a column is first touched, those of vectors
and texts block by block.

A column that changed is written again as a new generation, `item_kappa.g17.npy`; the manifest says which
files count.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx import blobs
from t4dm.t4dx.ann import Graph
from t4dm.t4dx.blobs import Blob
from t4dm.t4dx.columns import Array, Column, Metas
from t4dm.t4dx.fs import FileSystem
from t4dm.t4dx.manifest import SegmentEntry, segment_folder
from t4dm.t4dx.packed_ids import PackedIds
from t4dm.t4dx.sources import UNSURE
from t4dm.t4dx.tables import EDGE_COLUMNS, ITEM_COLUMNS, Draft, Part, Ragged, Rows, Source
from t4dm.t4dx.types import Float32s

VECTORS: Final = "vectors_"
REMEMBERED: Final = 1 << 17
"""Ids whose codes a segment keeps at hand."""
LARGE: Final = ("texts", "props")
"""Columns with a table of checksums beside them, `<name>_sums`; vectors as well."""
_NO_VECTORS: Final = np.zeros((0, 0), np.float32)


def id_hash(name: bytes) -> int:
    """The hash by which ids are sorted; equal ones lie side by side, so a lookup compares the id itself."""
    return zlib.crc32(name)


def column_of(file: str) -> str:
    """The column that a file holds, whatever its generation."""
    return file.split(".", 1)[0]


def is_large(column: str) -> bool:
    """Whether a column is checked block by block."""
    return column in LARGE or (column.startswith(VECTORS) and not column.endswith("_sums"))


@final
class Segment(Source):
    """A segment as opened.

    Args:
        entry: what the manifest says of it.
        column: reads and checks a column.
        large: the columns that are checked block by block.

    Attributes:
        graphs: over the vectors of collections, by code; None where there is none.
        finder: looks for one that `graphs` does not say.
    """

    def __init__(self, entry: SegmentEntry, column: Callable[[str], Array], large: dict[str, Blob]) -> None:
        self.entry = entry
        self.codes: dict[str, int] = {}
        self.graphs: dict[int, Graph | None] = {}
        self.finder: Callable[[Segment, int], Graph | None] | None = None
        self._column, self._large = column, large

    @cached_property
    def session_names(self) -> list[str]:  # type: ignore[override]
        names: list[str] = msgpack.unpackb(self._column("sessions").tobytes(), raw=False)
        return names

    @cached_property
    def _sessions(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.session_names)}

    @cached_property
    def _hashes(self) -> Any:
        return self._column("id_hash").data

    @cached_property
    def _id_ends(self) -> Any:
        return self._column("id_ends").data

    @cached_property
    def _id_bytes(self) -> Any:
        return self._column("ids").data

    @cached_property
    def _item_ids(self) -> Any:
        return self._column("item_id").data

    @cached_property
    def _id_rows(self) -> tuple[Any, Any]:
        return self._column("id_starts").data, self._column("id_rows").data

    @cached_property
    def _ends(self) -> tuple[Any, Any]:
        return self._column("source").data, self._column("target").data

    @cached_property
    def _out_starts(self) -> Any:
        return self._column("out_starts").data

    @cached_property
    def _in(self) -> tuple[Any, Any]:
        return self._column("in_starts").data, self._column("in_rows").data

    @cached_property
    def _text_ends(self) -> Any:
        return self._column("text_ends").data

    @cached_property
    def _prop_ends(self) -> Any:
        return self._column("prop_ends").data

    def vectors(self, collection: int) -> Float32s:
        blob = self._large.get(f"{VECTORS}{collection}")
        return _NO_VECTORS if blob is None else blob.whole()

    def vector(self, collection: int, place: int) -> Float32s:
        row: Float32s = self._large[f"{VECTORS}{collection}"].row(place)
        return row

    def vectors_at(self, collection: int, places: NDArray[np.int64]) -> Float32s:
        rows: Float32s = self._large[f"{VECTORS}{collection}"].rows_at(places)
        return rows

    def vector_counts(self) -> dict[int, int]:
        """How many vectors there are of each collection, by code."""
        names = [name for name in self._large if name.startswith(VECTORS)]
        return {int(name.removeprefix(VECTORS)): len(self._large[name]) for name in names}

    def graph(self, collection: int) -> Graph | None:
        if collection in self.graphs:
            return self.graphs[collection]
        return None if self.finder is None else self.finder(self, collection)

    def code_of(self, item_id: str) -> int:
        """The code of an id, -1 where it does not occur; the last ones looked up are remembered."""
        known = self.codes.get(item_id)
        if known is not None:
            return known
        name = item_id.encode()
        mark = zlib.crc32(name)
        buckets, shift = self._buckets
        place = buckets[mark >> shift]
        code = self._find(name, mark, place) if place >= 0 else -1
        if code >= 0:
            if len(self.codes) >= REMEMBERED:
                self.codes.clear()
            self.codes[item_id] = code
        return code

    @cached_property
    def _buckets(self) -> tuple[Any, int]:
        """Where the hashes with a prefix begin, -1 for none, by prefix, and the bits to shift away: two to
        four buckets an id, so most absent ids end here and the others find their place at once.
        """
        hashes: NDArray[np.uint32] = np.asarray(self._hashes)
        bits = min(max(8, (2 * len(hashes)).bit_length()), 24)
        prefixes, places = np.unique(hashes >> np.uint32(32 - bits), return_index=True)
        starts = np.full(1 << bits, -1, np.int32)
        starts[prefixes] = places
        return starts.data, 32 - bits

    def _find(self, name: bytes, mark: int, place: int) -> int:
        """The place of an id at or behind one in the same bucket."""
        hashes, ends = self._hashes, self._id_ends
        size = len(hashes)
        while place < size and (found := hashes[place]) <= mark:
            if found == mark and self._id_bytes[ends[place] : ends[place + 1]] == name:
                return place
            place += 1
        return -1

    def label(self, code: int) -> str:
        return str(self._id_bytes[self._id_ends[code] : self._id_ends[code + 1]], "utf-8")

    def rows_of(self, item_id: str) -> Sequence[int]:
        code = self.code_of(item_id)
        if code < 0:
            return ()
        starts, rows = self._id_rows
        lo, hi = starts[code], starts[code + 1]
        return (rows[lo],) if hi == lo + 1 else tuple(rows[lo:hi])

    def only_rows(self, ids: Sequence[str]) -> Rows:
        codes = self._codes_of([item_id.encode() for item_id in ids])
        starts, rows = (np.asarray(part) for part in self._id_rows)
        known = codes >= 0
        firsts = starts[codes[known]]
        single = starts[codes[known] + 1] == firsts + 1
        codes[known] = np.where(single, rows[np.where(single, firsts, 0)], UNSURE)
        return codes

    def _codes_of(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        """Codes of many ids, -1 for unknown ones and UNSURE where another id has the same hash."""
        codes = np.full(len(names), -1, np.int64)
        marks = np.fromiter(map(zlib.crc32, names), np.uint32, len(names))
        hashes, ends = np.asarray(self._hashes), np.asarray(self._id_ends)
        if not len(hashes):
            return codes
        order = np.argsort(marks)  # a search in ascending order stays in the cache
        firsts = np.empty(len(names), np.int64)
        firsts[order] = np.searchsorted(hashes, marks[order])
        near = np.flatnonzero(hashes[np.minimum(firsts, len(hashes) - 1)] == marks)
        firsts = firsts[near]
        again = hashes[np.minimum(firsts + 1, len(hashes) - 1)] == marks[near]
        codes[near[again & (firsts + 1 < len(hashes))]] = UNSURE
        sizes = np.fromiter(map(len, names), np.int64, len(names))[near]
        fits = (codes[near] != UNSURE) & (ends[firsts + 1] - ends[firsts] == sizes)
        near, firsts, sizes = near[fits], firsts[fits], sizes[fits]
        if len(near):
            chosen = names if len(near) == len(names) else [names[place] for place in near.tolist()]
            wanted = np.frombuffer(b"".join(chosen), np.uint8)
            offsets = np.cumsum(sizes) - sizes
            places = np.repeat(ends[firsts] - offsets, sizes) + np.arange(len(wanted))
            equal = np.logical_and.reduceat(np.asarray(self._id_bytes)[places] == wanted, offsets)
            codes[near[equal]] = firsts[equal]
        return codes

    def id_at(self, row: int) -> str:
        return self.label(self._item_ids[row])

    def packed_ids(self, rows: Rows) -> PackedIds | None:
        """The ids of some item rows, at least one, without a string; None where they differ in length."""
        even = self._even(np.asarray(self._item_ids)[rows])
        return None if even is None else PackedIds(even)

    def ids_at(self, rows: Rows) -> list[str]:
        return self.labels(np.asarray(self._item_ids)[rows]) if len(rows) else []

    def labels(self, codes: NDArray[np.integer[Any]]) -> list[str]:
        """The ids of some codes, at least one, read together."""
        if (even := self._even(codes)) is not None:
            joined = np.zeros((len(even), even.shape[1] + 1), np.uint8)
            joined[:, :-1] = even
            text = joined.reshape(-1)
        else:
            ends = np.asarray(self._id_ends)
            sizes = ends[codes + 1] - ends[codes] + 1
            stops = np.cumsum(sizes)
            places = np.repeat(ends[codes] - (stops - sizes), sizes) + np.arange(stops[-1])
            places[stops - 1] = 0  # any place that there is: a separator takes it
            text = np.asarray(self._id_bytes)[places]
            text[stops - 1] = 0
        names = text[:-1].tobytes().decode().split("\0")
        return names if len(names) == len(codes) else [self.label(code) for code in codes.tolist()]

    def _even(self, codes: NDArray[np.integer[Any]]) -> NDArray[np.uint8] | None:
        """The ids of some codes as octets [n, size]; None where they differ in length."""
        ends, octets = np.asarray(self._id_ends), np.asarray(self._id_bytes)
        starts, stops = ends[codes], ends[codes + 1]
        size = int(stops[0] - starts[0])
        if not size or not (stops - starts == size).all():
            return None
        windows = np.ndarray((len(octets) - size + 1, size), np.uint8, octets, strides=(1, 1))
        return windows[starts]

    def text_at(self, row: int) -> tuple[str, bytes]:
        ends, first = self._text_ends, 2 * row
        lo, mid, hi = ends[first], ends[first + 1], ends[first + 2]
        if lo == hi:
            return "", b""
        text = self._large["texts"].octets(lo, hi)
        if mid == hi:
            return str(text, "utf-8"), b""
        return str(text[: mid - lo], "utf-8"), bytes(text[mid - lo :])

    def session_code(self, session: str) -> int:
        return self._sessions.get(session, -1)

    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        code = self.code_of(item_id)
        if code < 0:
            return ()
        if not incoming:
            return range(self._out_starts[code], self._out_starts[code + 1])
        starts, rows = self._in
        return tuple(rows[starts[code] : starts[code + 1]])

    def edges_between(self, source: str, target: str) -> Sequence[int]:
        if not self.entry.edges or (code := self.code_of(source)) < 0:
            return ()
        lo, hi = self._out_starts[code], self._out_starts[code + 1]
        if lo == hi or (other := self.code_of(target)) < 0:
            return ()
        targets = self._ends[1]
        first = bisect_left(targets, other, lo, hi)
        last = first
        while last < hi and targets[last] == other:
            last += 1
        return range(first, last)

    def outgoing(self) -> tuple[Any, Any]:
        """Where the edge rows of each code start, with one end more, and the target of each row."""
        return self._out_starts, self._ends[1]

    def incoming(self) -> tuple[Any, Any, Any]:
        """Where each code's part of the edge rows sorted by target starts, those rows, and all sources."""
        return (*self._in, self._ends[0])

    def edge_ends(self, row: int) -> tuple[str, str]:
        return self.label(self._ends[0][row]), self.label(self._ends[1][row])

    def edge_text(self, row: int) -> bytes:
        lo, hi = self._prop_ends[row], self._prop_ends[row + 1]
        return b"" if lo == hi else self._large["props"].rows(lo, hi).tobytes()

    def names(self) -> Ragged:
        return Ragged(self._column("ids"), self._column("id_ends"))

    def hashes(self) -> NDArray[np.uint32]:
        """The hash of each id, in the order of their codes."""
        return self._column("id_hash")

    def item_codes(self, n: int) -> NDArray[np.int32]:
        return self._column("item_id")[:n]

    def edge_codes(self, m: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        return self._column("source")[:m], self._column("target")[:m]

    def texts(self, n: int) -> Ragged:
        return Ragged(self._large["texts"].whole(), self._column("text_ends"))

    def props(self, m: int) -> Ragged:
        return Ragged(self._large["props"].whole(), self._column("prop_ends"))


def load(fs: FileSystem, folder: str, entry: SegmentEntry, *, fresh: bool = False) -> Draft:
    """Map a segment; a file that is not what was written raises CorruptionError when it is first touched.

    With `fresh` nothing is checked: whoever has just written the files computed their checksums from the same
    bytes, and a reader would wait for hundreds of megabytes to be read again.
    """
    root = f"{folder}/{segment_folder(entry.id)}"
    files = {column_of(file.name): file for file in entry.files}
    mapped = {name: fs.map_bytes(f"{root}/{file.name}") for name, file in files.items()}
    kept: dict[str, Array] = {}

    def column(name: str) -> Array:
        if name not in kept:
            file = files[name]
            kept[name] = (
                blobs.parse(mapped[name].data)[0]
                if fresh
                else blobs.checked(mapped[name], f"{root}/{file.name}", file.crc)
            )
        return kept[name]

    def lazy(name: str, count: int, *, flags: bool = False) -> Array | Callable[[], Array]:
        if flags and name not in files:
            return np.ones(count, bool)  # no row is dead
        return lambda: column(name)

    large = {
        name: Blob(
            f"{root}/{files[name].name}",
            mapped[name],
            lambda name=name: column(f"{name}_sums"),  # type: ignore[misc]
            fresh=fresh,
        )
        for name in files
        if is_large(name)
    }
    folded = entry.folded
    items = {
        name: Column(lazy(f"item_{name}", entry.items, flags=name == "alive"), upto=folded)
        for name in ITEM_COLUMNS
    }
    edges = {
        name: Column(lazy(f"edge_{name}", entry.edges, flags=name == "alive"), upto=folded)
        for name in EDGE_COLUMNS
    }
    metas = Metas(upto=folded)
    if "metas" in files:
        pairs = msgpack.unpackb(column("metas").tobytes(), raw=False)
        metas = Metas(upto=folded, taken={row: (meta, folded) for row, meta in pairs})
    part = Part(Segment(entry, column, large), items, edges, metas, n=entry.items, m=entry.edges)
    return Draft(part, folded=folded)
