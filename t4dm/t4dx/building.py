"""The files of a new segment, from the living rows of some views: patched values folded in, nothing logical
changed. The same rows always give the same files.

Numbers, texts and vectors are moved as whole arrays. Vectors come in chunks, so that a merge needs no memory
for all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, final

import msgpack
import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.columns import Array, Rows
from t4dm.t4dx.segment import VECTORS, Segment
from t4dm.t4dx.tables import EDGE_COLUMNS, ITEM_COLUMNS, Ragged, View

_CHUNK: Final = 4 << 20  # bytes of vectors in memory at once
_STEP: Final = 1 << 18  # bytes of text moved at once
Codes = NDArray[np.int32]


@final
class Chunks:
    """A two-dimensional array that is made piece by piece: rows of the vectors of some views."""

    def __init__(self, pieces: Sequence[tuple[View, int, Rows]], shape: tuple[int, int]) -> None:
        self.pieces, self.shape = pieces, shape
        self.dtype = np.dtype(np.float32)

    def __iter__(self) -> Iterator[Array]:
        step = max(1, _CHUNK // (4 * self.shape[1]))
        for view, code, places in self.pieces:
            block = view.source.vectors(code)
            for start in range(0, len(places), step):
                yield np.take(block, places[start : start + step], axis=0)


Files = dict[str, Array | Chunks]


class _Living(NamedTuple):
    """The living rows of a view, and the new code of each of its ids."""

    view: View
    items: Rows
    edges: Rows
    codes: Codes


def build(views: Sequence[View]) -> Files:
    """The columns of a segment with the living rows of some views, newest view first."""
    rows = [
        (v, np.flatnonzero(v.items["alive"][: v.n]), np.flatnonzero(v.edges["alive"][: v.m]))
        for v in reversed(views)
    ]
    files, codes = _id_files(rows)
    parts = [_Living(view, items, edges, new) for (view, items, edges), new in zip(rows, codes, strict=True)]
    size = files["id_hash"].shape[0]
    return {**files, **_item_files(parts, size), **_edge_files(parts, size)}


def concat(arrays: list[Array], kind: Any) -> Array:
    """Arrays one after the other; none gives an empty one."""
    return np.concatenate([np.zeros(0, kind), *arrays]).astype(kind, copy=False)


def gather(source: Ragged, rows: Rows) -> Ragged:
    """Some of the strings, in a new order."""
    return _windows(source.blob, source.ends[:-1][rows], np.diff(source.ends)[rows])


def joined(parts: list[Ragged]) -> Ragged:
    """Strings one after the other."""
    starts = np.cumsum([0, *[len(part.blob) for part in parts]])
    ends = [np.zeros(1, np.int64)]
    ends += [part.ends[1:] + start for part, start in zip(parts, starts[:-1].tolist(), strict=True)]
    return Ragged(concat([part.blob for part in parts], np.uint8), np.concatenate(ends))


def grouped(keys: Array, size: int) -> tuple[Codes, Codes]:
    """For each key below `size` where its rows start in the second array, which lists rows by key."""
    rows = np.argsort(keys, kind="stable").astype(np.int32)
    starts = np.zeros(size + 1, np.int32)
    np.cumsum(np.bincount(keys, minlength=size), out=starts[1:])
    return starts, rows


def _id_files(rows: list[tuple[View, Rows, Rows]]) -> tuple[Files, list[Codes]]:
    """The dictionary of all ids in use, sorted by hash, and the new code of each old one (-1: unused)."""
    tables, hashes, used = [], [], []
    for view, items, edges in rows:
        table = view.source.names()
        mask = np.zeros(len(table.ends) - 1, bool)
        mask[view.source.item_codes(view.n)[items]] = True
        for ends in view.source.edge_codes(view.m):
            mask[ends[edges]] = True
        chosen = np.flatnonzero(mask)
        tables.append(gather(table, chosen))
        hashes.append(_hashes(view, table, chosen))
        used.append((chosen, len(mask)))
    every, marks = joined(tables), concat(hashes, np.uint32)
    first, code = _distinct(every, marks)
    names = gather(every, first)
    start, codes = 0, []
    for chosen, size in used:
        new = np.full(size, -1, np.int32)
        new[chosen] = code[start : start + len(chosen)]
        codes.append(new)
        start += len(chosen)
    return {"ids": names.blob, "id_ends": names.ends, "id_hash": marks[first]}, codes


def _hashes(view: View, table: Ragged, chosen: Rows) -> Array:
    if isinstance(view.source, Segment):
        return view.source.hashes()[chosen]
    blob, ends = table.blob.tobytes(), table.ends.tolist()
    return np.array([zlib.crc32(blob[ends[row] : ends[row + 1]]) for row in chosen.tolist()], np.uint32)


def _distinct(names: Ragged, marks: Array) -> tuple[Rows, Codes]:
    """Where each distinct name stands first, by hash and then by bytes; and the number of each name."""
    lengths = np.diff(names.ends)
    order = np.lexsort((lengths, marks))
    same = np.zeros(len(order), bool)
    same[1:] = (marks[order][1:] == marks[order][:-1]) & (lengths[order][1:] == lengths[order][:-1])
    begins = np.flatnonzero(~same)
    blob, ends = names.blob.tobytes(), names.ends
    if len(begins) < len(order):  # names of one hash and length: mostly equal, but only their bytes can tell
        runs = np.diff(np.append(begins, len(order)))
        for begin, run in zip(begins[runs > 1].tolist(), runs[runs > 1].tolist(), strict=True):
            rows = order[begin : begin + run].tolist()
            texts = [blob[ends[row] : ends[row + 1]] for row in rows]
            if any(text != texts[0] for text in texts):
                ranked = sorted(zip(texts, rows, strict=True))
                order[begin : begin + run] = [row for _, row in ranked]
                texts = [text for text, _ in ranked]
            same[begin + 1 : begin + run] = [a == b for a, b in pairwise(texts)]
    codes = np.empty(len(order), np.int32)
    codes[order] = np.cumsum(~same) - 1
    return order[~same], codes


def _item_files(parts: list[_Living], size: int) -> Files:
    seqs = concat([part.view.items["seq"][part.items] for part in parts], np.uint64)
    order = np.argsort(seqs, kind="stable")
    ids = concat([part.codes[part.view.source.item_codes(part.view.n)[part.items]] for part in parts], "i4")
    files: Files = {"item_id": ids[order]}
    files["id_starts"], files["id_rows"] = grouped(ids[order], size)
    for name, kind in ITEM_COLUMNS.items():
        if name not in ("alive", "session", "vec_row"):
            files[f"item_{name}"] = _moved(parts, "items", name, kind, order)
    files |= _session_files(parts, order)
    files |= _vector_files(parts, order)
    texts = [_texts(part.view, part.items) for part in parts]
    both = gather(joined(texts), np.stack((2 * order, 2 * order + 1), axis=1).ravel())
    return {**files, "texts": both.blob, "text_ends": both.ends}


def _moved(parts: list[_Living], kind: str, name: str, dtype: str, order: Rows) -> Array:
    chosen = [part.view.array(kind, name)[part.items if kind == "items" else part.edges] for part in parts]
    moved: Array = concat(chosen, dtype)[order]
    return moved


def _texts(view: View, rows: Rows) -> Ragged:
    """Content and metadata of some rows, replaced metadata in its place."""
    pairs = np.stack((2 * rows, 2 * rows + 1), axis=1).ravel()
    texts, metas = gather(view.source.texts(view.n), pairs), view.metas
    changed = (
        [(place, metas[row]) for place, row in enumerate(rows.tolist()) if row in metas] if metas else []
    )
    if not changed:
        return texts
    fresh = b"".join(meta for _, meta in changed)
    ends = np.cumsum([len(texts.blob), *[len(meta) for _, meta in changed]])
    starts, lengths = texts.ends[:-1].copy(), np.diff(texts.ends)
    places = np.array([2 * place + 1 for place, _ in changed])
    starts[places], lengths[places] = ends[:-1], np.diff(ends)
    return _windows(np.concatenate((texts.blob, np.frombuffer(fresh, np.uint8))), starts, lengths)


def _windows(blob: NDArray[np.uint8], starts: Array, lengths: Array) -> Ragged:
    """Slices of a blob one after the other, moved in steps, so that no other thread waits for long."""
    ends = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    total, moved = int(ends[-1]), np.empty(int(ends[-1]), np.uint8)
    if len(starts) and bool((starts[1:] == starts[:-1] + lengths[:-1]).all()):
        moved[:] = blob[starts[0] : starts[0] + total]
        return Ragged(moved, ends)
    shift = starts - ends[:-1]
    cuts = np.unique(np.append(np.searchsorted(ends, np.arange(0, total, _STEP)), len(starts))).tolist()
    for first, last in pairwise([0, *cuts]):
        lo, hi = int(ends[first]), int(ends[last])
        places = np.repeat(shift[first:last], lengths[first:last])
        places += np.arange(lo, hi)
        np.take(blob, places, out=moved[lo:hi], mode="clip")  # all are in range: no copy to be checked
    return Ragged(moved, ends)


def _session_files(parts: list[_Living], order: Rows) -> Files:
    names: dict[str, int] = {}
    columns = []
    for part in parts:
        old = part.view.items["session"][part.items]
        table = np.zeros(max(1, len(part.view.source.session_names)), np.int32)
        for code in np.unique(old).tolist():
            table[code] = names.setdefault(part.view.source.session_names[code], len(names))
        columns.append(table[old])
    packed = np.frombuffer(msgpack.packb(list(names)), np.uint8)
    return {"item_session": concat(columns, np.int32)[order], "sessions": packed}


def _vector_files(parts: list[_Living], order: Rows) -> Files:
    """The vectors of the largest part first, each part's in their old order: what a graph over that part
    knows stays true. The rows point into them.
    """
    old = [part.view.items["vec_row"][part.items] for part in parts]
    codes = [part.view.items["collection"][part.items] for part in parts]
    places, every = np.full(len(order), -1, np.int32), concat(codes, np.uint16)
    files: Files = {}
    for code in np.unique(every[concat(old, np.int32) >= 0]).tolist():
        mine = [(rows >= 0) & (own == code) for rows, own in zip(old, codes, strict=True)]
        kept = [np.sort(rows[chosen]).astype(np.int64) for rows, chosen in zip(old, mine, strict=True)]
        ranking = sorted(range(len(parts)), key=lambda number: -len(kept[number]))
        starts = dict(zip(ranking, np.cumsum([0, *(len(kept[number]) for number in ranking)]), strict=False))
        places[np.concatenate(mine)] = concat(
            [starts[n] + np.searchsorted(kept[n], rows[mine[n]]) for n, rows in enumerate(old)], np.int32
        )
        pieces = [(parts[number].view, code, kept[number]) for number in ranking]
        dim = next(view.source.vectors(code).shape[1] for view, _, rows in pieces if len(rows))
        files[f"{VECTORS}{code}"] = Chunks(pieces, (sum(map(len, kept)), dim))
    files["item_vec_row"] = places[order]
    return files


def _edge_files(parts: list[_Living], size: int) -> Files:
    ends = [part.view.source.edge_codes(part.view.m) for part in parts]
    sources, targets = (
        concat([part.codes[pair[side][part.edges]] for part, pair in zip(parts, ends, strict=True)], "i4")
        for side in (0, 1)
    )
    seqs = concat([part.view.edges["seq"][part.edges] for part in parts], np.uint64)
    order = np.lexsort((seqs, targets, sources))
    files: Files = {"source": sources[order], "target": targets[order]}
    files["out_starts"] = grouped(files["source"], size)[0]  # type: ignore[arg-type]
    files["in_starts"], files["in_rows"] = grouped(files["target"], size)  # type: ignore[arg-type]
    for name, kind in EDGE_COLUMNS.items():
        if name != "alive":
            files[f"edge_{name}"] = _moved(parts, "edges", name, kind, order)
    props = joined([gather(part.view.source.props(part.view.m), part.edges) for part in parts])
    sorted_props = gather(props, order)
    return {**files, "props": sorted_props.blob, "prop_ends": sorted_props.ends}


def columns_that_changed(view: View, folded: int) -> Mapping[str, Array]:
    """The columns of a segment that its files do not hold as they are now."""
    part, changed = view.part, dict[str, Array]()
    for kind, columns in (("item", part.items), ("edge", part.edges)):
        for name, column in columns.items():
            size = view.n if kind == "item" else view.m
            values = view.items[name] if kind == "item" else view.edges[name]
            if column.patched(folded, view.lsn) or (
                name == "weight" and (values is not column.base or column.upto > folded)
            ):
                changed[f"{kind}_{name}"] = np.ascontiguousarray(values[:size])
    if part.metas.patched(folded, view.lsn):
        pairs = sorted(view.metas.items())
        changed["metas"] = np.frombuffer(msgpack.packb(pairs, use_bin_type=True), np.uint8)
    return changed
