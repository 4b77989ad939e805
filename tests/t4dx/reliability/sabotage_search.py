"""Faults in searches: in graphs, in one-bit codes, in what decides between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from reliability.sabotage import GAMES, Bench, mutant

from t4dm.t4dx import (
    ann_placed,
    costs,
    graph_building,
    graph_files,
    planner,
    proposals,
    scoring,
    sorted_columns,
)
from t4dm.t4dx.codes import CodedColumn, Probe
from t4dm.t4dx.tables import View

ALL = ("recall", "1,random,1.0,2000")
HALF = ("recall", "1,clustered,0.5,2000")
SOME = ("recall", "1,filter-correlated,0.1,2000")


@mutant(ALL)
def the_checksums_of_a_graph_are_not_compared(bench: Bench) -> None:
    bench.wrap(graph_files, "intact", lambda original: lambda *args, **more: True)


@mutant(HALF)
def a_walk_may_return_what_was_deleted_or_filtered_out(bench: Bench) -> None:
    """Its bitmap holds all rows that the graph does."""

    def make(original: Any) -> Any:
        def by_graph(part: Any, column: Any, graph: Any, reach: Any, *rest: Any, **more: Any) -> Any:
            every = reach._replace(mask=np.ones(graph.rows, bool), allowed=None)
            return original(part, column, graph, every, *rest, **more)

        return by_graph

    bench.wrap(planner, "by_graph", make)


@mutant(ALL, HALF)
def a_bound_has_no_margin(bench: Bench) -> None:
    bench.wrap(costs, "sureness", lambda original: lambda recall: 0.0)


@mutant(HALF, SOME)
def a_bound_forgets_the_centre(bench: Bench) -> None:
    """The angle between what is left of two directions is taken for that between the directions."""

    def make(original: Any) -> Any:
        def ceilings(self: Probe, codes: Any, place: int, sureness: float) -> Any:
            return original(self, codes._replace(lean=0 * codes.lean), place, sureness)

        return ceilings

    bench.wrap(Probe, "ceilings", make)


@mutant(ALL)
def a_merge_hands_on_a_graph_with_the_old_places(bench: Bench) -> None:
    def make(original: Any) -> Any:
        return lambda graph, kept: original(graph, np.arange(len(kept)))

    bench.wrap(ann_placed, "after_merge", make)
    bench.wrap(graph_building, "after_merge", make)


@mutant(ALL)
def rows_that_a_graph_does_not_hold_or_reach_are_left_out(bench: Bench) -> None:
    def make(original: Any) -> Any:
        def reach_of(*args: Any) -> Any:
            found = original(*args)
            return found._replace(loose=found.loose[:0])

        return reach_of

    bench.wrap(planner, "reach_of", make)


@mutant(*GAMES)
def the_last_of_the_best_is_one_too_early(bench: Bench) -> None:
    """What is better than the last of k, and worse than the one before it, does not enter."""

    def make(original: Any) -> Any:
        def edge(self: Any, place: int) -> float:
            ranked = self.ranked[place]
            return -ranked[max(0, self.k - 2)][0] if len(ranked) >= self.k else -np.inf

        return edge

    bench.wrap(scoring.Best, "edge", make)


@mutant(ALL)
def a_walk_that_lost_its_way_is_believed(bench: Bench) -> None:
    """A graph of which nothing is known is walked in three steps, and nobody looks how much came back."""

    def by_graph(original: Any) -> Any:
        return lambda *args, **more: original(*args, **more)._replace(short=[])

    bench.wrap(planner, "by_graph", by_graph)
    bench.wrap(proposals, "_FIRST", lambda original: 1)
    bench.wrap(costs, "walk_size", lambda original: lambda *args: 3)


@mutant(ALL)
def a_code_is_that_of_the_row_before(bench: Bench) -> None:
    """Codes that are made for fresh rows land one place too early."""

    def make(original: Any) -> Any:
        def extend(self: CodedColumn, vectors: Any, n: int) -> None:
            original(self, np.roll(vectors, 1, axis=0), n)

        return extend

    bench.wrap(CodedColumn, "_extend", make)


@mutant(ALL)
def rows_are_remembered_after_their_deletion(bench: Bench) -> None:
    bench.wrap(scoring, "LIFE", lambda original: ())


@mutant(*GAMES)
def an_order_outlives_its_column(bench: Bench) -> None:
    """A range is looked up in the order that a column had before it was patched."""

    def make(original: Any) -> Any:
        kept: dict[Any, Any] = {}

        def order(source: Any, name: str, column: Any, n: int) -> Any:
            found, key = original(source, name, column, n), (id(source), name, n)
            return kept.get(key) if found is None else kept.setdefault(key, found)

        return order

    bench.wrap(sorted_columns, "_order", make)


@mutant(*GAMES)
def a_mask_forgets_what_has_ended(bench: Bench) -> None:
    """A filter on columns lets rows pass that were deleted or superseded."""

    def make(original: Any) -> Any:
        return lambda self, as_of: None if as_of is None else original(self, as_of)

    bench.wrap(View, "visible", make)
