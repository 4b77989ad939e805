"""The mutable end of the store: rows since the last flush, in preallocated blocks that readers may hold.

Rows are only appended. A block that is full is replaced by a larger one, never resized in place, so a view
taken before keeps its arrays. Dicts are looked up by readers and never iterated.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.columns import Array, Column, Metas
from t4dm.t4dx.ops import EDGE_NUMBERS, ITEM_NUMBERS, InsertEdges, InsertItems
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.sources import UNSURE
from t4dm.t4dx.tables import EDGE_COLUMNS, ITEM_COLUMNS, Draft, Part, Ragged, Rows, Source
from t4dm.t4dx.types import ITEM_TYPES, Float32s, Lsn

_TYPE_CODES: Final = {name: code for code, name in enumerate(ITEM_TYPES)}
_FIRST: Final = 256
_RESERVED: Final = 64 * 2**20
"""Bytes of addresses that vectors get when their first block is full: pages that are never touched cost
nothing, while a copy of a large block would hold up its writer.
"""
_ONE: Final = (*ITEM_NUMBERS, "type", "session", "collection", "vec_row", "seq", "inv_norm", "alive")


@final
class Memtable(Source):
    """Ids, texts, vectors and adjacency of the rows; the columns lie in the part of its `Draft`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._blocks: dict[int, Float32s] = {}
        self._used: dict[int, int] = {}
        self.session_names: list[str] = []
        self._sessions: dict[str, int] = {}
        self._names: list[str] = []
        self._codes: dict[str, int] = {}
        self._item_codes, self._ends = array("i"), (array("i"), array("i"))
        self._texts: list[tuple[str, bytes]] = []
        self._props: list[bytes] = []
        self._rows: dict[str, list[int]] = {}
        self._adjacent: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
        self._pairs: dict[tuple[str, str], list[int]] = {}
        self._cells: tuple[Part | None, list[Any]] = (None, [])
        self._room = _FIRST

    def draft(self, *, lsn: Lsn) -> Draft:
        """The writer's side of an empty memtable that begins behind an LSN."""
        items = {name: Column(np.zeros(_FIRST, kind), upto=lsn) for name, kind in ITEM_COLUMNS.items()}
        edges = {name: Column(np.zeros(_FIRST, kind), upto=lsn) for name, kind in EDGE_COLUMNS.items()}
        return Draft(Part(self, items, edges, Metas(upto=lsn), n=0, m=0), folded=lsn)

    def vectors(self, collection: int) -> Float32s:
        block = self._blocks.get(collection)
        if block is None:
            size = self._collections.rows[collection].dim
            block = self._blocks.setdefault(collection, np.empty((_FIRST, size), np.float32))
        return block

    def vector(self, collection: int, place: int) -> Float32s:
        row: Float32s = self._blocks[collection][place]
        return row

    def vectors_at(self, collection: int, places: NDArray[np.int64]) -> Float32s:
        return self._blocks[collection][places]

    def rows_of(self, item_id: str) -> Sequence[int]:
        return self._rows.get(item_id, ())

    def only_rows(self, ids: Sequence[str]) -> Rows:
        rows = self._rows
        if rows.keys().isdisjoint(ids):
            return np.full(len(ids), -1, np.int64)
        found = (rows.get(item_id, ()) for item_id in ids)
        return np.array([-1 if not few else few[0] if len(few) == 1 else UNSURE for few in found], np.int64)

    def id_at(self, row: int) -> str:
        return self._names[self._item_codes[row]]

    def ids_at(self, rows: Rows) -> list[str]:
        names, codes = self._names, self._item_codes
        return [names[codes[row]] for row in rows.tolist()]

    def text_at(self, row: int) -> tuple[str, bytes]:
        return self._texts[row]

    def session_code(self, session: str) -> int:
        return self._sessions.get(session, -1)

    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        return self._adjacent[incoming].get(item_id, ())

    def edges_between(self, source: str, target: str) -> Sequence[int]:
        return self._pairs.get((source, target), ())

    def edge_ends(self, row: int) -> tuple[str, str]:
        return self._names[self._ends[0][row]], self._names[self._ends[1][row]]

    def edge_text(self, row: int) -> bytes:
        return self._props[row]

    def code_of(self, item_id: str) -> int:
        return self._codes.get(item_id, -1)

    def label(self, code: int) -> str:
        return self._names[code]

    def names(self) -> Ragged:
        return ragged([name.encode() for name in self._names[:]])

    def item_codes(self, n: int) -> NDArray[np.int32]:
        return np.frombuffer(self._item_codes[:n], np.int32)

    def edge_codes(self, m: int | None = None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        sources, targets = (np.frombuffer(ends[:m], np.int32) for ends in self._ends)
        return sources, targets

    def texts(self, n: int) -> Ragged:
        return ragged([part for content, meta in self._texts[:n] for part in (content.encode(), meta)])

    def props(self, m: int) -> Ragged:
        return ragged(self._props[:m])

    def add_items(self, draft: Draft, op: InsertItems, *, times: Sequence[float], seq: Lsn) -> None:
        """Append new versions, recorded at `times`; the caller has closed the ones they supersede."""
        start, count, code = draft.n, len(op.ids), self._collections.codes[op.collection]
        if start + count > self._room:
            self._room = _grow(draft, "items", start + count)
        for row, item_id in enumerate(op.ids, start):
            self._item_codes.append(self._code(item_id))
            rows = self._rows.get(item_id)
            if rows is None:
                self._rows[item_id] = [row]
            else:
                rows.append(row)
        self._texts += zip(op.contents, op.metas, strict=True)
        inverse = inverse_norms(op.vectors)
        if count == 1:
            self._one_item(draft, op, times[0], code, seq, inverse[0] if inverse else 0.0)
        else:
            self._item_block(draft, op, times, code, seq, inverse)
        if inverse:
            self._add_vectors(code, op.vectors)
        draft.n = start + count

    def add_edges(
        self, draft: Draft, op: InsertEdges, types: EdgeTypes, *, times: Sequence[float], seq: Lsn
    ) -> None:
        """Append new edge versions, recorded at `times`; the caller has closed the ones they supersede."""
        start, count = draft.m, len(op.sources)
        _grow(draft, "edges", start + count)
        for row, pair in enumerate(zip(op.sources, op.targets, strict=True), start):
            self._pairs.setdefault(pair, []).append(row)
            for side, end in enumerate(pair):
                self._ends[side].append(self._code(end))
                self._adjacent[side].setdefault(end, []).append(row)
        self._props += op.props
        cols, span = draft.part.edges, slice(start, start + count)
        for place, name in enumerate(EDGE_NUMBERS):
            cols[name].base[span] = op.numbers[:, place]
        cols["record_time"].base[span] = times
        cols["seq"].base[span], cols["alive"].base[span] = seq, True
        cols["type"].base[span] = [types.register(name) for name in op.types]
        draft.m = start + count

    def _one_item(
        self, draft: Draft, op: InsertItems, time: float, code: int, seq: Lsn, inverse: float
    ) -> None:
        part, row = draft.part, draft.n
        if self._cells[0] is not part:
            self._cells = part, [part.items[name].cells for name in _ONE]
        kappa, importance, accesses, event, _, since, until, end = op.numbers[0].tolist()
        place = self._used.get(code, 0) if len(op.vectors) else -1
        codes = _TYPE_CODES[op.types[0]], self._session(op.sessions[0]), code, place
        numbers = kappa, importance, int(accesses), event, time, since, until, end
        for cells, value in zip(self._cells[1], (*numbers, *codes, seq, inverse, True), strict=True):
            cells[row] = value

    def _item_block(
        self,
        draft: Draft,
        op: InsertItems,
        times: Sequence[float],
        code: int,
        seq: Lsn,
        inverse: list[float],
    ) -> None:
        cols, span = draft.part.items, slice(draft.n, draft.n + len(op.ids))
        for place, name in enumerate(ITEM_NUMBERS):
            cols[name].base[span] = op.numbers[:, place]
        cols["record_time"].base[span] = times
        cols["seq"].base[span], cols["alive"].base[span] = seq, True
        cols["type"].base[span] = [_TYPE_CODES[name] for name in op.types]
        cols["session"].base[span] = [self._session(name) for name in op.sessions]
        cols["collection"].base[span] = code
        cols["vec_row"].base[span] = np.where(op.has, self._used.get(code, 0) + np.cumsum(op.has) - 1, -1)
        cols["inv_norm"].base[span][op.has] = inverse

    def _code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            self._names.append(name)
            code = self._codes[name] = len(self._names) - 1
        return code

    def _session(self, name: str) -> int:
        code = self._sessions.get(name)
        if code is None:
            self.session_names.append(name)
            code = self._sessions[name] = len(self.session_names) - 1
        return code

    def _add_vectors(self, code: int, vectors: Array) -> None:
        block, start = self.vectors(code), self._used.get(code, 0)
        used = start + len(vectors)
        if used > len(block):
            room = max(used, 2 * len(block), _RESERVED // (4 * block.shape[1]))
            grown = np.empty((room, block.shape[1]), np.float32)
            grown[:start] = block[:start]
            block = self._blocks[code] = grown
        block[start:used] = vectors
        self._used[code] = used


def inverse_norms(vectors: Array) -> list[float]:
    """1/|v| per row in float64, 0 for a zero vector; the same for a row alone and among others."""
    if len(vectors) == 1:
        return [_inverse_norm(vectors[0].astype(np.float64))]
    return [_inverse_norm(row.astype(np.float64)) for row in vectors]


def _inverse_norm(wide: NDArray[np.float64]) -> float:
    square = float(np.dot(wide, wide))
    return 1.0 / math.sqrt(square) if square > 0 else 0.0


def ragged(parts: Sequence[bytes]) -> Ragged:
    """Byte strings as one blob with ends."""
    ends = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return Ragged(np.frombuffer(b"".join(parts), np.uint8), ends)


def _grow(draft: Draft, kind: str, need: int) -> int:
    """Replace the blocks by larger ones where they are full; readers keep the old ones. Returns the rows that
    fit.
    """
    part: Part = draft.part
    cols = part.items if kind == "items" else part.edges
    have = len(cols["seq"].base)
    if need <= have:
        return have
    size, grown = max(need, 2 * have), dict[str, Any]()
    for name, column in cols.items():
        base = np.zeros(size, column.base.dtype)
        base[:have] = column.base
        grown[name] = column.over(base)
    draft.part = part.replace(**{kind: grown})
    return size
