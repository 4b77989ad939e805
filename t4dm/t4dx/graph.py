"""Which edge rows of a version pass a filter: columns first, conditions on the properties on what is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from t4dm.t4dx import metadata_columns
from t4dm.t4dx.filters import EdgeFilter, selects
from t4dm.t4dx.matching import in_span, names_of
from t4dm.t4dx.predicates import Predicate
from t4dm.t4dx.registry import EdgeTypes
from t4dm.t4dx.state import Version
from t4dm.t4dx.tables import Rows, View
from t4dm.t4dx.types import AsOf, Edge


def edges(version: Version, where: EdgeFilter, as_of: AsOf | None) -> Iterator[Edge]:
    """Visible edges that pass a filter, in no particular order."""
    for view, row in edge_places(version, where, as_of):
        yield view.edge(row, version.types)


def edge_places(version: Version, where: EdgeFilter, as_of: AsOf | None) -> Iterator[tuple[View, int]]:
    """Where the visible edges that pass a filter lie."""
    for view in version.views:
        for row in match_edges(view, where, as_of, version.types).tolist():
            yield view, row


def count_edges(version: Version, where: EdgeFilter, as_of: AsOf | None) -> int:
    """How many visible edges pass a filter."""
    return sum(len(match_edges(view, where, as_of, version.types)) for view in version.views)


def match_edges(view: View, where: EdgeFilter, as_of: AsOf | None, types: EdgeTypes) -> Rows:
    """Edge rows of a view that pass a filter."""
    cols, rows = view.edges, _candidates(view, where, as_of)
    for name in ("weight", "record_time", "valid_from", "valid_until"):
        if (span := getattr(where, name)) is not None and len(rows):
            rows = rows[in_span(cols[name][rows], span, closed=name == "weight")]
    if where.valid_at is not None and len(rows):
        since, until = cols["valid_from"][rows], cols["valid_until"][rows]
        rows = rows[(since <= where.valid_at) & (where.valid_at < until)]
    if where.lsn is not None and len(rows):
        rows = rows[cols["seq"][rows] <= where.lsn]
    if where.type is not None and len(rows):
        codes = [types.codes[name] for name in names_of(where.type) if name in types.codes]
        rows = rows[np.isin(cols["type"][rows], codes)]
    if where.source is not None and where.target is not None:
        ends = map(view.source.edge_ends, rows.tolist())
        rows = rows[np.array([selects(where.target, target) for _, target in ends], bool)]
    if where.where is not None and len(rows):
        found, condition = rows, cast(Predicate, where.where)  # the filter has parsed it
        every = np.ones(len(rows), bool)
        rows = rows[
            condition.mask(lambda test: metadata_columns.passing(view, test, found, edges=True), every)
        ]
    return rows


def _candidates(view: View, where: EdgeFilter, as_of: AsOf | None) -> Rows:
    for names, incoming in ((where.source, False), (where.target, True)):
        if names is not None:
            wanted = dict.fromkeys(names_of(names))
            rows = [row for name in wanted for row in view.edge_rows(name, as_of, incoming=incoming)]
            return np.array(rows, np.int64)
    return view.visible_edges(as_of)
