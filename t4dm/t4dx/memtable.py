"""The mutable end of the store: rows since the last flush, in preallocated blocks that readers may hold.

Rows are only appended. A block that is full is replaced by a larger one, never resized in place, so a view
taken before keeps its arrays. Dicts are looked up by readers and never iterated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import numpy as np

from t4dm.t4dx.ops import EDGE_NUMBERS, ITEM_NUMBERS, InsertEdges, InsertItems
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.tables import EDGE_COLUMNS, ITEM_COLUMNS, Array, Draft, Source
from t4dm.t4dx.types import ITEM_TYPES, Float32s

_TYPE_CODES: Final = {name: code for code, name in enumerate(ITEM_TYPES)}
_FIRST: Final = 256


@final
class Memtable(Source):
    """Ids, texts and adjacency of the rows; the columns live in its `Draft`."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._blocks: dict[int, Float32s] = {}
        self.session_names: list[str] = []
        self._sessions: dict[str, int] = {}
        self._ids: list[str] = []
        self._texts: list[tuple[str, bytes]] = []
        self._rows: dict[str, list[int]] = {}
        self._ends: list[tuple[str, str]] = []
        self._props: list[bytes] = []
        self._out: dict[str, list[int]] = {}
        self._in: dict[str, list[int]] = {}
        self._pairs: dict[tuple[str, str], list[int]] = {}
        self._used: dict[int, int] = {}

    def draft(self) -> Draft:
        """The writer's side of an empty memtable."""
        items = {name: np.zeros(_FIRST, kind) for name, kind in ITEM_COLUMNS.items()}
        edges = {name: np.zeros(_FIRST, kind) for name, kind in EDGE_COLUMNS.items()}
        return Draft(self, items, edges, 0, 0, folded=0)

    def vectors(self, collection: int) -> Float32s:
        block = self._blocks.get(collection)
        if block is None:
            size = self._collections.rows[collection].dim
            block = self._blocks.setdefault(collection, np.empty((_FIRST, size), np.float32))
        return block

    def rows_of(self, item_id: str) -> Sequence[int]:
        return self._rows.get(item_id, ())

    def id_at(self, row: int) -> str:
        return self._ids[row]

    def text_at(self, row: int) -> tuple[str, bytes]:
        return self._texts[row]

    def session_code(self, session: str) -> int:
        return self._sessions.get(session, -1)

    def edge_rows(self, item_id: str, *, incoming: bool) -> Sequence[int]:
        return (self._in if incoming else self._out).get(item_id, ())

    def edges_between(self, source: str, target: str) -> Sequence[int]:
        return self._pairs.get((source, target), ())

    def edge_ends(self, row: int) -> tuple[str, str]:
        return self._ends[row]

    def edge_text(self, row: int) -> bytes:
        return self._props[row]

    def add_items(self, draft: Draft, op: InsertItems, *, seq: int) -> None:
        """Append new versions; the caller has closed the ones they supersede."""
        start, count = draft.n, len(op.ids)
        cols = _room(draft.items, start + count)
        span = slice(start, start + count)
        for place, name in enumerate(ITEM_NUMBERS):
            cols[name][span] = op.numbers[:, place]
        cols["seq"][span], cols["alive"][span] = seq, True
        cols["type"][span] = [_TYPE_CODES[name] for name in op.types]
        cols["session"][span] = [self._session(name) for name in op.sessions]
        code = cols["collection"][span] = self._collections.codes[op.collection]
        cols["vec_row"][span] = np.where(op.has, self._used.get(code, 0) + np.cumsum(op.has) - 1, -1)
        cols["inv_norm"][span] = 0.0
        cols["inv_norm"][span][op.has] = self._add_vectors(code, op.vectors)
        self._ids += op.ids
        self._texts += zip(op.contents, op.metas, strict=True)
        for row, item_id in enumerate(op.ids, start):
            self._rows.setdefault(item_id, []).append(row)
        draft.items, draft.n = cols, start + count

    def add_edges(self, draft: Draft, op: InsertEdges, types: EdgeTypes, *, seq: int) -> None:
        """Append new edge versions; the caller has closed the ones they supersede."""
        start, count = draft.m, len(op.sources)
        cols = _room(draft.edges, start + count)
        span = slice(start, start + count)
        for place, name in enumerate(EDGE_NUMBERS):
            cols[name][span] = op.numbers[:, place]
        cols["seq"][span], cols["alive"][span] = seq, True
        cols["type"][span] = [types.register(name) for name in op.types]
        self._ends += zip(op.sources, op.targets, strict=True)
        self._props += op.props
        for row in range(start, start + count):
            source, target = self._ends[row]
            self._out.setdefault(source, []).append(row)
            self._in.setdefault(target, []).append(row)
            self._pairs.setdefault((source, target), []).append(row)
        draft.edges, draft.m = cols, start + count

    def _session(self, name: str) -> int:
        code = self._sessions.get(name)
        if code is None:
            self.session_names.append(name)
            code = self._sessions[name] = len(self.session_names) - 1
        return code

    def _add_vectors(self, code: int, vectors: Array) -> Array:
        block, start = self.vectors(code), self._used.get(code, 0)
        used = start + len(vectors)
        if used > len(block):
            grown = np.empty((max(used, 2 * len(block)), block.shape[1]), np.float32)
            grown[:start] = block[:start]
            block = self._blocks[code] = grown
        block[start:used] = vectors
        self._used[code] = used
        return inverse_norms(vectors)


def inverse_norms(vectors: Array) -> Array:
    """1/|v| per row in float64, 0 for a zero vector."""
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    inverse: Array = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse


def _room(cols: dict[str, Array], need: int) -> dict[str, Array]:
    have = len(cols["seq"])
    if need <= have:
        return cols
    size = max(need, 2 * have)
    grown = {name: np.zeros(size, column.dtype) for name, column in cols.items()}
    for name, column in cols.items():
        grown[name][:have] = column
    return grown
