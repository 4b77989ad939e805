"""What is measured of a graph: how much walks find for questions that are not stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graph_data import build, clusters, isotropic
from numpy.typing import NDArray

from t4dm.t4dx.ann import Exact
from t4dm.t4dx.ann_faiss import FaissBackend
from t4dm.t4dx.ladders import LADDER, ladder_of

Vectors = NDArray[np.float32]


class Half(Exact):
    """Finds no odd place, and remembers what it was asked."""

    asked: Vectors

    def search(self, queries: Vectors, k: int, *, ef: int = 0, allowed: Any = None) -> Any:
        self.asked = queries
        even = np.packbits(np.arange(self.rows) % 2 == 0, bitorder="little")
        return super().search(queries, k, allowed=even)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_a_graph_without_half_of_its_places_finds_half_of_the_nearest(metric: str) -> None:
    vectors = isotropic(5000, 16)
    shares = ladder_of(Half(vectors, metric), vectors, metric)
    assert shares == (shares[0],) * len(LADDER)
    assert shares[0] == pytest.approx(0.5, abs=0.06)  # 640 answers
    half = Half(vectors, metric)
    half.unreached = np.arange(1, 5000, 2)  # searched beside each walk
    assert ladder_of(half, vectors, metric) == (1.0,) * len(LADDER)


def test_a_question_is_as_far_away_as_the_nearest_neighbour() -> None:
    """Corners at 3 on each axis lie 3 times the root of 2 apart."""
    vectors = 3 * np.eye(16, dtype=np.float32)
    graph = Half(vectors, "l2")
    ladder_of(graph, vectors, "l2")
    assert np.linalg.norm(graph.asked - vectors, axis=1) == pytest.approx([18**0.5] * 16, rel=1e-5)
    ladder_of(graph, 7 * vectors, "cosine")
    assert np.linalg.norm(graph.asked - vectors / 3, axis=1) == pytest.approx([2**0.5] * 16, rel=1e-5)


def test_vectors_that_are_all_equal_are_all_found() -> None:
    vectors = np.ones((40, 8), np.float32)
    assert ladder_of(Half(vectors, "cosine"), vectors, "cosine") == (1.0,) * len(LADDER)
    assert ladder_of(Exact(vectors[:1], "l2"), vectors[:1], "l2") == (1.0,) * len(LADDER)


def test_a_ladder_tells_what_questions_of_users_find() -> None:
    """Isotropic vectors are hard, and stored ones would find twice as much as others do."""
    for vectors, queries, slack in (
        (isotropic(3000, 96), isotropic(100, 96, seed=9), 0.15),
        (clusters(2000, 32), clusters(100, 32, seed=0)[:100] + np.float32(0.02), 0.06),
    ):
        graph = build(FaissBackend(), vectors, "cosine")[0].graph()
        best = Exact(vectors, "cosine").search(queries, 10)[1]
        told = ladder_of(graph, vectors, "cosine")
        for size, share in zip(LADDER, told, strict=True):
            found = graph.search(queries, 32, ef=size)[1]
            both = zip(found, best, strict=True)
            assert share == pytest.approx(np.mean([np.isin(b, f).mean() for f, b in both]), abs=slack)


def test_measuring_can_be_given_up() -> None:
    vectors = clusters(30, 8)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        ladder_of(Exact(vectors, "dot"), vectors, "dot", pulse=stop)
