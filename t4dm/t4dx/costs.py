"""What each way to search a view costs, and which is the cheapest that still finds what it should.

Costs are seconds per unit of work; the defaults are those of one core of an EPYC (Zen 4). `measured` takes
those of this machine once per process, in some ten milliseconds; tests give a table of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np

from t4dm.t4dx.codes import hamming
from t4dm.t4dx.ladders import LADDER
from t4dm.t4dx.scoring import products_at

RECALL: Final = 0.99
"""Of the k best, the share that a search finds unless it is told otherwise."""
LEAST_SHARE: Final = 0.1
"""Share of allowed places below which a walk through a graph loses its way: at 10 % and ef=64 recall is 0.98,
at 1 % it is 0.39.
"""
_ASSUMED: Final = ((0.9, 32), (0.95, 64), (0.98, 96), (0.99, 192), (0.995, 256), (0.998, 384))
_LEAST: Final = ((0.98, 32), (0.995, 64), (1.0, 128))
"""What no sample can argue away."""


class Costs(NamedTuple):
    """Seconds, unless it says otherwise."""

    scan: float = 0.24e-9  # per number of a block that is read front to back
    gather: float = 0.27e-9  # per number of rows that are picked
    sort: float = 20e-9  # per row and query: bounds and a partition of their scores
    signs: float = 1.5e-9  # per word of 64 signs and query
    bounds: float = 12e-9  # per row and query: from signs to a bound
    probe: float = 120e-6  # per query: its code, the first rows scored
    encode: float = 9e-9  # per number of a vector that gets its code
    walk: float = 4e-9  # per step of ef, number of a node and query
    enter: float = 80e-6  # per query: bitmap, re-ranking
    near: float = 0.02  # share of the rows that codes leave to be scored
    small: int = 4096  # vectors of a collection up to which all are scored: a millisecond at most


class Task(NamedTuple):
    """One view, one filter, some queries."""

    matches: int  # rows that pass
    places: int  # vectors of the view
    dim: int
    queries: int
    bits: int  # of a code; 0 where the view has none
    uncoded: int  # vectors that have no code yet
    graphed: int = 0  # matches in the graph
    loose: int = 0  # matches that the graph does not reach
    ef: int = 0
    width: int = 0  # numbers of a node of the graph
    saved: float = 0.0  # seconds that codes would have saved before


class Choice(NamedTuple):
    """A path with its estimated seconds, and of the codes what they would have saved and cost to make."""

    path: str
    reason: str
    seconds: float
    saving: float = 0.0
    making: float = 0.0


def choose(costs: Costs, task: Task, *, recall: float) -> Choice:
    """The cheapest path. Codes that are still to be made are chosen once searches without them have cost as
    much more as making them does: never more than twice the cheapest course.
    """
    exact = exact_seconds(costs, task, task.matches)
    if recall >= 1.0:
        return Choice("exact", "recall=1", exact)
    codes = codes_seconds(costs, task, task.matches) if task.bits else np.inf
    making = costs.encode * task.dim * task.uncoded
    graph = _graph_seconds(costs, task) if task.graphed else np.inf
    best = min(exact, codes, graph)
    if best == graph:
        return Choice("graph", "cheapest", graph)
    if best == codes:
        other = min(exact, graph)
        if making <= task.saved + other - codes or making <= codes:
            return Choice("codes", "cheapest", codes)
        path = "exact" if exact <= graph else "graph"
        return Choice(path, "codes not made yet", other, other - codes, making)
    return Choice("exact", "cheapest" if task.graphed or task.bits else "no codes, no graph", exact)


def exact_seconds(costs: Costs, task: Task, rows: int) -> float:
    """Every row scored."""
    read = (
        min(costs.gather * rows, costs.scan * task.places) if 2 * rows > task.places else costs.gather * rows
    )
    return read * task.dim * (1 + 0.1 * (task.queries - 1)) + costs.sort * rows * task.queries


def codes_seconds(costs: Costs, task: Task, rows: int) -> float:
    """Every code looked at, some rows scored."""
    one = costs.probe + (costs.signs * task.bits / 64 + costs.bounds) * rows
    return task.queries * (one + costs.gather * task.dim * costs.near * rows)


def _graph_seconds(costs: Costs, task: Task) -> float:
    walk = costs.enter + walk_seconds(costs, task.ef, task.width, task.dim)
    loose = exact_seconds(costs, task, task.loose)
    if task.bits:
        loose = min(loose, codes_seconds(costs, task, task.loose))
    return task.queries * walk + (loose if task.loose else 0.0)


def walk_seconds(costs: Costs, ef: int, width: int, dim: int) -> float:
    """A walk over nodes of so many numbers; what a rough one keeps is compared again."""
    again = costs.gather * ef * dim if width < dim else 0.0
    return costs.walk * ef * width + again


def is_worth_shortening(ladder: tuple[float, ...], width: int, dim: int) -> bool:
    """Whether walks over shortened points find enough within twice the time of the shortest that whole points
    can do with.
    """
    sizes = [size for found, size in zip(ladder, LADDER, strict=True) if found >= enough(RECALL)]
    least = next(size for found, size in _LEAST if found >= RECALL)
    usual = Costs()
    limit = 2.0 * walk_seconds(usual, least, dim, dim)
    return bool(sizes) and walk_seconds(usual, sizes[0], width, dim) <= limit


def sureness(recall: float) -> float:
    """How many standard deviations a bound from codes must hold for a recall below 1."""
    return max(0.0, NormalDist().inv_cdf(recall))


def enough(recall: float) -> float:
    """What a walk must find of a sample, which errs, to be trusted with a recall."""
    return 1.0 - 0.75 * (1.0 - recall)


def walk_size(ladder: tuple[float, ...] | None, recall: float, share: float, k: int) -> int:
    """`ef` of a walk where a share of the places is allowed; the ladder says what each size found. 0 where
    even the longest finds too little.
    """
    if ladder is None:
        size = next((size for found, size in _ASSUMED if found >= recall), LADDER[-1])
    elif ladder[-1] < recall:
        return 0
    else:
        least = enough(recall)
        size = next((size for found, size in zip(ladder, LADDER, strict=True) if found >= least), LADDER[-1])
    size = max(size, next(least for found, least in _LEAST if recall <= found))
    return max(int(size / np.sqrt(max(share, LEAST_SHARE))), 2 * k)


@lru_cache(maxsize=1)
def measured() -> Costs:
    """The costs of this machine; what cannot be measured alone is scaled with the rest."""
    usual, rng = Costs(), np.random.default_rng(0)
    block, query = np.ones((8192, 512), np.float32), np.ones(512, np.float32)
    places = rng.permutation(8192)[:1024]
    signs = rng.integers(0, 2**63, (8192, 16), dtype=np.uint64)
    scan = _least(lambda: block @ query) / block.size
    gather = _least(lambda: products_at(block, places, query[:, None])) / (1024 * 512)
    word = _least(lambda: hamming(signs, signs[0])) / signs.size
    scores = rng.standard_normal(8192)
    sort = _least(lambda: np.flatnonzero(scores >= np.partition(scores, 8000)[8000])) / 8192
    pace = gather / usual.gather
    return usual._replace(
        scan=scan,
        gather=gather,
        signs=word,
        sort=2 * sort,
        walk=usual.walk * pace,
        encode=usual.encode * pace,
    )


def _least(work: Callable[[], object]) -> float:
    best = np.inf
    for _ in range(5):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best
