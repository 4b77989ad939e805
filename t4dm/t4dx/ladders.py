"""What walks of several sizes through a graph find of the nearest: how long one must be, or that none will
do.

The questions must be no easier than those of users. A stored vector is: it finds itself, and its neighbours
are linked to it. So each one of a sample is moved in a random direction, as far as its nearest neighbour is,
and lies as far from all others as they lie from each other. The truth is counted over all vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.ann import Graph, Places, Scores, Space
from t4dm.t4dx.types import Float32s

LADDER: Final = (32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sizes `ef` of a walk through a graph that are tried."""
_SAMPLE: Final = 64
_TRUTH: Final = 10
_WANTED: Final = 32  # candidates that a search scores at least
_CHUNK: Final = 4096
_SEED: Final = 0x7434646C
_TIE: Final = 1e-6  # scores this close are as good


def ladder_of(
    graph: Graph, vectors: Float32s, metric: str, *, pulse: Callable[[], None] = lambda: None
) -> tuple[float, ...]:
    """Of the ten nearest the share that each size of LADDER finds, with the places that no walk reaches.

    Args:
        graph: over the first of the vectors.
        vectors: [N, D]. metric: of the collection.
        pulse: called between two steps; may raise to give up.
    """
    held, space = vectors[: graph.rows], Space(metric, vectors.shape[1])
    places = np.linspace(0, graph.rows - 1, min(_SAMPLE, graph.rows)).astype(np.int64)
    asked = _moved(space, held, places, pulse)
    truth = _nearest(space, held, asked, pulse)
    least = [_exact(space, held, query, best).min() for query, best in zip(asked, truth, strict=True)]
    rough = graph.width < space.dim
    lonely = [best[np.isin(best, graph.unreached)] for best in truth]
    shares: list[float] = []
    for size in LADDER:
        pulse()
        got = graph.search(asked, size if rough else _WANTED, ef=size)[1]
        found = [
            _count(space, held, query, np.union1d(line[line >= 0], other), edge) / len(best)
            for query, line, other, edge, best in zip(asked, got, lonely, least, truth, strict=True)
        ]
        shares.append(float(np.mean(found)))
        if shares[-1] == 1.0:
            break
    return (*shares, *[1.0] * (len(LADDER) - len(shares)))


def _moved(space: Space, vectors: Float32s, places: Places, pulse: Callable[[], None]) -> Float32s:
    """Points that are stored, each as far away from itself as its nearest neighbour is."""
    own = space.points(vectors[places]).astype(np.float64)
    square, nearest = np.square(own).sum(axis=1), np.full(len(own), np.inf)
    for start, points in _chunks(space, vectors, pulse):
        gaps = square[:, None] + np.square(points).sum(axis=1) - 2 * (own.astype(np.float32) @ points.T)
        inside = np.flatnonzero((places >= start) & (places < start + len(points)))
        gaps[inside, places[inside] - start] = np.inf
        nearest = np.minimum(nearest, gaps.min(axis=1))
    far = np.sqrt(np.where(nearest > _TIE * square, nearest, 0.0), where=nearest < np.inf, out=0.0 * square)
    steps = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(own.shape)
    steps *= (far / np.sqrt(np.square(steps).sum(axis=1)))[:, None]
    return (own + steps).astype(np.float32)


def _nearest(space: Space, vectors: Float32s, asked: Float32s, pulse: Callable[[], None]) -> Places:
    """For each query the places of the nearest."""
    scores = np.zeros((len(asked), 0), np.float32)
    places = np.zeros((len(asked), 0), np.int64)
    for start, points in _chunks(space, vectors, pulse):
        fresh = np.arange(start, start + len(points))
        scores = np.hstack((scores, _scores(space, asked, points)))
        places = np.hstack((places, np.broadcast_to(fresh, (len(asked), len(fresh)))))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :_TRUTH]
        scores = np.take_along_axis(scores, best, axis=1)
        places = np.take_along_axis(places, best, axis=1)
    return places


def _count(space: Space, vectors: Float32s, query: Float32s, places: Places, least: float) -> int:
    """How many of these places are among the nearest, by their score."""
    scores = _exact(space, vectors, query, places)
    return min(_TRUTH, len(vectors), int((scores >= least - _TIE * max(1.0, abs(least))).sum()))


def _exact(space: Space, vectors: Float32s, query: Float32s, places: Places) -> NDArray[np.float64]:
    """The scores of a query with the vectors at some places, without the rounding that tells equals apart."""
    points, asked = space.points(vectors[places]).astype(np.float64), query.astype(np.float64)
    if space.inner:
        return np.asarray(points @ asked)
    found: NDArray[np.float64] = -np.square(points - asked).sum(axis=1)
    return found


def _scores(space: Space, asked: Float32s, points: Float32s) -> Scores:
    """Of queries with points [Q, N]; for one query as good as those of the metric."""
    products = asked @ points.T
    found: Scores = products if space.inner else 2 * products - np.square(points).sum(axis=1)
    return found


def _chunks(space: Space, vectors: Float32s, pulse: Callable[[], None]) -> Iterator[tuple[int, Float32s]]:
    for start in range(0, len(vectors), _CHUNK):
        pulse()
        yield start, space.points(vectors[start : start + _CHUNK])
