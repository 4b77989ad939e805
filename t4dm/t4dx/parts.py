"""Cutting large operations into pieces of bounded size for the log, so that a replay never holds a whole one.

Every piece is an operation of its own over some of the rows. Applied one after the other under one sequence
number they give what the whole gives: the rows of these operations are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from t4dm.t4dx.ops import (
    InsertEdges,
    InsertItems,
    MapEdges,
    MapField,
    Op,
    PatchRows,
    Remember,
    RestoreEdges,
    RestoreItems,
    SetField,
)

_ROW: Final = 64


def weight(op: Op) -> int:
    """About the bytes of a packed operation: exact for vectors and texts, a guess for what is small."""
    weigh = _WEIGHTS.get(type(op))
    return _ROW if weigh is None else weigh(op)


def _items(op: InsertItems) -> int:
    texts = sum(map(len, op.contents)) + sum(map(len, op.metas))
    return texts + op.vectors.nbytes + op.numbers.nbytes + _ROW * len(op.ids)


def _fields(op: SetField) -> int:
    meta = len(op.values[0]) if op.field == "metadata" and op.values else 0
    return (_ROW + meta) * len(op.ids)


_WEIGHTS: Final[dict[type[Any], Callable[[Any], int]]] = {
    InsertItems: _items,
    InsertEdges: lambda op: sum(map(len, op.props)) + op.numbers.nbytes + _ROW * len(op.sources),
    SetField: _fields,
    MapField: lambda op: op.operators.nbytes + _ROW * len(op.ids),
    MapEdges: lambda op: op.operators.nbytes + 2 * _ROW * len(op.sources),
    PatchRows: lambda op: 2 * _ROW * len(op.births),
    RestoreItems: lambda op: weight(op.rows),
    RestoreEdges: lambda op: weight(op.rows),
    Remember: lambda op: _ROW + len(op.inverse),
}


class Group(NamedTuple):
    """What one part of a transaction holds: operations, and how many of them begin here."""

    ops: list[Op]
    begun: int


def groups(batch: list[Op], limit: int) -> Iterator[Group]:
    """A transaction in parts of about `limit` bytes: several small operations, or a piece of a large one."""
    small: list[Op] = []
    room = limit
    for op in batch:
        size = weight(op)
        if small and size > room:
            yield Group(small, len(small))
            small, room = [], limit
        if size > limit:
            for number, piece in enumerate(pieces(op, limit)):
                yield Group([piece], int(number == 0))
        else:
            small.append(op)
            room -= size
    if small:
        yield Group(small, len(small))


def pieces(op: Op, limit: int) -> Iterator[Op]:
    """An operation in pieces of about `limit` bytes, at least one row each; small ones as they are."""
    whole = weight(op)
    if whole <= limit:
        yield op
        return
    match op:
        case InsertItems() | SetField() | MapField():
            count = len(op.ids)
        case InsertEdges() | MapEdges():
            count = len(op.sources)
        case _:
            yield op
            return
    step = max(1, count * limit // whole)
    for start in range(0, count, step):
        yield _cut(op, slice(start, start + step))


def _cut(op: InsertItems | InsertEdges | SetField | MapField | MapEdges, rows: slice) -> Op:
    match op:
        case InsertItems():
            before = int(np.count_nonzero(op.has[: rows.start]))
            inside = int(np.count_nonzero(op.has[rows]))
            return replace(
                op,
                ids=op.ids[rows],
                contents=op.contents[rows],
                types=op.types[rows],
                sessions=op.sessions[rows],
                metas=op.metas[rows],
                numbers=op.numbers[rows],
                has=op.has[rows],
                vectors=op.vectors[before : before + inside],
            )
        case SetField():
            return replace(op, ids=op.ids[rows], values=op.values[rows])
        case MapField():
            return replace(op, ids=op.ids[rows], operators=op.operators[rows])
    ends = {"sources": op.sources[rows], "targets": op.targets[rows], "types": op.types[rows]}
    if isinstance(op, InsertEdges):
        return replace(op, **ends, props=op.props[rows], numbers=op.numbers[rows])
    return replace(op, **ends, operators=op.operators[rows])
