"""Search by cosine, dot product and distance agrees with float64 over all rows, near-ties included."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import VectorError
from t4dm.t4dx import T4DX, Filter, Item, Options
from t4dm.t4dx.metrics import Query

METRICS = ("cosine", "dot", "l2")


def store_with(metric: str, vectors: NDArray[np.float32], *, flush_at: int = 0) -> T4DX:
    store = T4DX.open(
        "store", dim=3, options=Options(durability="os"), clock=Ticks(0.0), fs=SimulatedFileSystem()
    )
    store.create_collection("c", dim=vectors.shape[1], metric=metric)
    items = [Item(id=f"{n:05d}", vector=v, collection="c") for n, v in enumerate(vectors)]
    store.insert_many([*items[:flush_at], Item(id="other", vector=np.ones(3, np.float32))])
    store.flush()
    store.insert_many(items[flush_at:])
    return store


def ranked(metric: str, query: NDArray[np.float32], vectors: NDArray[np.float32]) -> list[tuple[float, str]]:
    """Scores in float64, rounded to float32, ties by id: the contract, by a plain loop."""
    q, found = query.astype(np.float64), []
    for n, row in enumerate(vectors.astype(np.float64)):
        if metric == "dot":
            score = float(row @ q)
        elif metric == "l2":
            score = -float(np.sqrt(((row - q) ** 2).sum()))
        else:
            norms = float(np.linalg.norm(row) * np.linalg.norm(q))
            score = float(row @ q) / norms if norms else 0.0
        found.append((-np.float32(score), f"{n:05d}"))
    return [(-score, name) for score, name in sorted(found)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spread", ["normal", "near", "scales"])
def test_a_search_equals_float64_over_all_rows(metric: str, spread: str) -> None:
    rng = np.random.default_rng(5)
    base = rng.standard_normal(24)
    if spread == "normal":
        rows = rng.standard_normal((400, 24))
    elif spread == "near":  # differences far below what float32 products resolve
        rows = base + rng.standard_normal((400, 24)) * 1e-6
    else:  # norms over twelve decades: a slack for the mean row would lose the small ones
        rows = rng.standard_normal((400, 24)) * 10.0 ** rng.integers(-6, 6, (400, 1))
    vectors = rows.astype(np.float32)
    vectors[200] = vectors[17]
    vectors[3] = 0.0
    store = store_with(metric, vectors, flush_at=150)
    for query in (base.astype(np.float32), vectors[17], rng.standard_normal(24).astype(np.float32)):
        expected = ranked(metric, query, vectors)
        for k in (1, 10, 60, 500):
            hits = store.search(query, k, collection="c")
            assert len(hits) == min(k, 400)
            assert [hit.score for hit in hits] == pytest.approx(
                [s for s, _ in expected[:k]], rel=2e-7, abs=1e-12
            )
            if spread == "normal":
                assert hits.ids == [name for _, name in expected[:k]]
        both = store.search(np.stack([query, -query]), 10, collection="c")
        assert both[0].ids == store.search(query, 10, collection="c").ids


@pytest.mark.parametrize("metric", METRICS)
def test_the_shortlist_never_loses_one_of_the_best(metric: str) -> None:
    """The long way (a shortlist) and the short way (every row in float64) give the same list, to the bit."""
    rng = np.random.default_rng(9)
    for scale in (1e-7, 1e-3, 1.0):
        vectors = (rng.standard_normal(16) + rng.standard_normal((300, 16)) * scale).astype(np.float32)
        store = store_with(metric, vectors)
        query = vectors[0] + np.float32(scale) * rng.standard_normal(16).astype(np.float32)
        long = store.search(query, 20, collection="c")
        short: list[tuple[float, str]] = []
        for start in range(0, 300, 100):
            where = Filter(ids=tuple(f"{n:05d}" for n in range(start, start + 100)))
            short += [(hit.score, hit.id) for hit in store.search(query, 100, where, collection="c")]
        short.sort(key=lambda one: (-one[0], one[1]))
        assert [(hit.score, hit.id) for hit in long] == short[:20]


def test_scores_are_worked_out_by_hand() -> None:
    vectors = np.array([[3, 4], [0, 0], [-3, -4], [6, 8]], np.float32)
    found = {m: store_with(m, vectors).search([3.0, 4.0], 4, collection="c") for m in METRICS}
    assert [(h.id, h.score) for h in found["dot"]] == [
        ("00003", 50.0), ("00000", 25.0), ("00001", 0.0), ("00002", -25.0)
    ]  # fmt: skip
    assert [(h.id, h.score) for h in found["l2"]] == [
        ("00000", 0.0), ("00001", -5.0), ("00003", -5.0), ("00002", -10.0)
    ]  # fmt: skip
    assert [(h.id, h.score) for h in found["cosine"]] == [
        ("00000", 1.0), ("00003", 1.0), ("00001", 0.0), ("00002", -1.0)
    ]  # fmt: skip


def test_a_query_that_cannot_be_compared_is_refused() -> None:
    vectors = np.eye(2, dtype=np.float32)
    for metric in METRICS:
        store = store_with(metric, vectors)
        for bad in (np.nan, np.inf):
            with pytest.raises(VectorError, match="the query holds NaN or infinity; drop it or repair it"):
                store.search([bad, 1.0], 1, collection="c")
        with pytest.raises(VectorError, match=r"the query has shape \[3\]; pass \[2\] or \[Q, 2\]"):
            store.search([1.0, 1.0, 1.0], 1, collection="c")
    with pytest.raises(VectorError, match=r"the query has norm 2\.0e\+30; bring it between 1e-18 and 1e18"):
        Query(np.array([[2e30, 0]], np.float32), "dot")
    assert store_with("cosine", vectors).search([2e30, 0.0], 1, collection="c").ids == ["00000"]


@pytest.mark.parametrize("metric", METRICS)
def test_the_ceiling_at_the_true_cosine_is_the_score_and_rises_with_the_cosine(metric: str) -> None:
    rng = np.random.default_rng(3)
    vectors = (rng.standard_normal((200, 16)) * rng.lognormal(size=(200, 1))).astype(np.float32)
    query = Query((rng.standard_normal((2, 16)) * [[1.0], [4.0]]).astype(np.float32), metric)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for place in range(2):
        own = query.raw[place].astype(np.float64)
        cosines = vectors.astype(np.float64) @ own / (norms * np.linalg.norm(own))
        scores = query.exact(vectors, 1.0 / norms, place)
        at = query.ceiling(cosines, 1.0 / norms, place)
        np.testing.assert_allclose(at, scores, rtol=1e-5, atol=1e-6)
        assert np.all(query.ceiling(np.minimum(cosines + 0.01, 1.0), 1.0 / norms, place) >= at)
