"""Every version of items and edges, past ones included, in the order in which they were written."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from t4dm.t4dx.reader import Reader
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Array
from t4dm.t4dx.types import Edge, EdgeType, Item, Lsn

Place = tuple[int, int, int]  # sequence number, view, row


def all_items(reader: Reader, *, past: bool = False) -> Iterator[Item]:
    """Current items, with `past` all versions ever recorded, oldest write first; one at a time."""
    version = reader._read()
    for _, view, row in _in_order(version, "items", past=past):
        yield version.views[view].item(row, version.collections)


def all_edges(reader: Reader, *, past: bool = False) -> Iterator[Edge]:
    """Current edges, with `past` all versions ever recorded, oldest write first; one at a time."""
    version = reader._read()
    for _, view, row in _in_order(version, "edges", past=past):
        yield version.views[view].edge(row, version.types)


def edge_versions(
    reader: Reader, source: str, target: str, edge_type: EdgeType | str | None = None
) -> list[Edge]:
    """All versions of the edges from one id to another, oldest first; of one type or of all."""
    version = reader._read()
    found = [
        (int(view.edges["seq"][row]), view.edge(row, version.types))
        for view in version.views
        for row in view.source.edges_between(source, target)
        if row < view.m and view.edges["alive"][row]
    ]
    ordered = sorted(found, key=lambda pair: (pair[1].record_time, pair[0]))
    return [edge for _, edge in ordered if edge_type is None or str(edge.type) == str(edge_type)]


class Written(NamedTuple):
    """A version and the LSN of the write that made it."""

    lsn: Lsn
    version: Item | Edge


def life_of(reader: Reader, item_id: str) -> list[Written]:
    """All versions of an item and of the edges that start or end at it, in the order of their writes."""
    version, found = reader._read(), list[Written]()
    for view in version.views:
        for row in view.source.rows_of(item_id):
            if row < view.n and view.items["alive"][row]:
                found.append(Written(int(view.items["seq"][row]), view.item(row, version.collections)))
        ends = (view.source.edge_rows(item_id, incoming=incoming) for incoming in (False, True))
        for row in sorted({row for side in ends for row in side}):
            if row < view.m and view.edges["alive"][row]:
                found.append(Written(int(view.edges["seq"][row]), view.edge(row, version.types)))
    return sorted(found, key=lambda written: written.lsn)


def _in_order(version: Version, kind: str, *, past: bool) -> Iterator[Place]:
    """Places of the living rows of all views, merged by sequence number."""
    return heapq.merge(*(_places(version, number, kind, past=past) for number in range(len(version.views))))


def _places(version: Version, number: int, kind: str, *, past: bool) -> Iterator[Place]:
    view = version.views[number]
    cols, count = (view.items, view.n) if kind == "items" else (view.edges, view.m)
    mask = np.array(cols["alive"][:count])
    if not past:
        mask &= cols["record_until"][:count] == math.inf
    rows: Array = np.flatnonzero(mask)
    rows = rows[np.argsort(cols["seq"][rows], kind="stable")]
    for row in rows:
        yield int(cols["seq"][row]), number, int(row)
