"""What a rebuilt state must not be: out of order, twice the same, or found elsewhere than it lies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from t4dm.t4dx.columns import Array
from t4dm.t4dx.deltas import Content, edge_entries, item_entries
from t4dm.t4dx.state import State, Version
from t4dm.t4dx.tables import View
from t4dm.t4dx.types import ITEM_TYPES

Key = tuple[str, ...]
Span = tuple[float, float, int, str]  # record_time, record_until, sequence number, place


def of_state(state: State) -> list[str]:
    """Every contradiction inside a state."""
    version = state.version()
    problems: list[str] = []
    for number, view in enumerate(version.views):
        where = "the memtable" if number == 0 else f"segment {number} of {len(version.views) - 1}"
        found = [*_columns(view, version), *_order(view), *_lookups(view)]
        problems += [f"{where}: {problem}" for problem in found]
    return problems + _versions(version)


def of_deltas(state: State, contents: Mapping[str, Content]) -> list[str]:
    """Overlays that name a version which no segment holds, though it was neither deleted nor folded in."""
    folded = min((draft.folded for draft in state.segments), default=state.lsn)
    (items, edges), buried_at = _births(state), state.tombstones.newest()
    gone = {
        (source, target, kind, birth)
        for content in contents.values()
        for field, source, target, kind, birth, _, value in edge_entries(content)
        if field == "alive" and not value
    }
    problems: list[str] = []
    for name, content in contents.items():
        for field, item_id, birth, seq, _ in item_entries(content):
            if seq > folded and (item_id, birth) not in items and birth >= buried_at.get(item_id, 0):
                problems.append(f"{name}: {field} of item {item_id!r} of LSN {birth}, which no segment holds")
        for field, *key, birth, seq, _ in edge_entries(content):
            buried = birth < max(buried_at.get(end, 0) for end in key[:2])
            known = (*key, birth) in edges or (*key, birth) in gone or buried
            if seq > folded and not known:
                problems.append(
                    f"{name}: {field} of edge {tuple(key)} of LSN {birth}, which no segment holds"
                )
    return problems


def between(files: Version, live: Version) -> list[str]:
    """Whether the files rebuild the state that is in use."""
    if files.lsn == live.lsn and _digest(files) == _digest(live):
        return []
    return [f"the files rebuild another state (LSN {files.lsn}) than the one in use (LSN {live.lsn})"]


def _columns(view: View, version: Version) -> Iterator[str]:
    """Codes, vector rows, weights and times that cannot be."""
    items, edges, n, m = view.items, view.edges, view.n, view.m
    for name, column, top in (
        ("item type", items["type"][:n], len(ITEM_TYPES)),
        ("session", items["session"][:n], len(view.source.session_names)),
        ("collection", items["collection"][:n], len(version.collections.rows)),
        ("edge type", edges["type"][:m], len(version.types.names)),
    ):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < top:
            yield f"a row has {name} {int(column.max())}, there are {top}"
            return
    used, codes = items["vec_row"][:n], items["collection"][:n]
    for code in np.unique(codes[used >= 0]).tolist():
        rows = used[(codes == code) & (used >= 0)]
        if int(rows.max()) >= len(view.source.vectors(code)):
            yield f"an item points behind the last vector of {version.collections.rows[code].name!r}"
        if len(np.unique(rows)) < len(rows):
            yield f"two items share a vector of {version.collections.rows[code].name!r}"
    if m and not bool(((edges["weight"][:m] >= 0) & (edges["weight"][:m] <= 1)).all()):
        yield "an edge weight lies outside of [0, 1]"
    for cols, count in ((items, n), (edges, m)):
        for start, end in (("valid_from", "valid_until"), ("record_time", "record_until")):
            if not bool((cols[start][:count] <= cols[end][:count]).all()):
                yield f"a row has {end} before {start}"


def _order(view: View) -> Iterator[str]:
    """Items lie in the order of their sequence numbers."""
    seqs = view.items["seq"][: view.n]
    if bool((seqs[1:] < seqs[:-1]).any()):
        yield "its items are not in the order of their LSNs"


def _lookups(view: View) -> Iterator[str]:
    """Every index against a plain scan of the rows."""
    source, rows = view.source, defaultdict[str, list[int]](list)
    for row in range(view.n):
        rows[source.id_at(row)].append(row)
    sides: tuple[dict[str, list[int]], ...] = (defaultdict(list), defaultdict(list))
    pairs = defaultdict[tuple[str, str], list[int]](list)
    for row in range(view.m):
        ends = source.edge_ends(row)
        pairs[ends].append(row)
        for side in (0, 1):
            sides[side][ends[side]].append(row)
    for item_id, wanted in rows.items():
        if _upto(source.rows_of(item_id), view.n) != wanted:
            yield f"item {item_id!r} is not found where it lies"
    for side, nodes in enumerate(sides):
        for item_id, wanted in nodes.items():
            if _upto(source.edge_rows(item_id, incoming=bool(side)), view.m) != wanted:
                way = "incoming" if side else "outgoing"
                yield f"the {way} edges of {item_id!r} are not found where they lie"
    for (one, other), wanted in pairs.items():
        if _upto(source.edges_between(one, other), view.m) != wanted:
            yield f"the edges {one!r} -> {other!r} are not found where they lie"


def _upto(rows: Sequence[int], count: int) -> list[int]:
    return sorted(int(row) for row in rows if row < count)


def _versions(version: Version) -> list[str]:
    """No version twice, none current beside another, no two believed at once."""
    spans = defaultdict[tuple[str, Key], list[Span]](list)
    for number, view in enumerate(version.views):
        for row in np.flatnonzero(view.items["alive"][: view.n]).tolist():
            spans["item", (view.source.id_at(row),)].append(_span(view.items, row, number))
        for row in np.flatnonzero(view.edges["alive"][: view.m]).tolist():
            key = (*view.source.edge_ends(row), version.types.names[view.edges["type"][row]])
            spans["edge", key].append(_span(view.edges, row, number))
    return [
        f"{kind} {key[0] if kind == 'item' else key!r} {problem}"
        for (kind, key), found in spans.items()
        if len(found) > 1
        for problem in _clashes(found)
    ]


def _span(cols: Mapping[str, Array], row: int, number: int) -> Span:
    times = float(cols["record_time"][row]), float(cols["record_until"][row])
    return *times, int(cols["seq"][row]), f"view {number}"


def _clashes(spans: list[Span]) -> Iterator[str]:
    if sum(until == math.inf for _, until, _, _ in spans) > 1:
        yield "has two current versions"
    births = [seq for _, _, seq, _ in spans]
    if len(set(births)) < len(births):
        yield f"of LSN {max(births, key=births.count)} lies in two places"
    spans.sort(key=lambda span: (span[2], span[0]))
    if any(early[1] > late[0] for early, late in pairwise(spans) if early[1] != math.inf):
        yield "has two versions that were believed at once"


def _births(state: State) -> tuple[set[tuple[str, int]], set[tuple[str, str, str, int]]]:
    """(id, LSN) and (source, target, type, LSN) of every row that lies in a segment, living or not."""
    items: set[tuple[str, int]] = set()
    edges: set[tuple[str, str, str, int]] = set()
    for draft in state.segments:
        source, names = draft.source, state.types.names
        items |= {(source.id_at(row), draft.value("items", "seq", row)) for row in range(draft.n)}
        for row in range(draft.m):
            kind = names[draft.value("edges", "type", row)]
            edges.add((*source.edge_ends(row), kind, draft.value("edges", "seq", row)))
    return items, edges


def _digest(version: Version) -> tuple[object, ...]:
    """All living versions and edges, wherever they lie."""
    items = [
        (view.source.id_at(row), int(view.items["seq"][row]), repr(view.item(row, version.collections)))
        for view in version.views
        for row in np.flatnonzero(view.items["alive"][: view.n]).tolist()
    ]
    edges = [
        (int(view.edges["seq"][row]), repr(view.edge(row, version.types)))
        for view in version.views
        for row in np.flatnonzero(view.edges["alive"][: view.m]).tolist()
    ]
    return tuple(sorted(items)), tuple(sorted(edges))
