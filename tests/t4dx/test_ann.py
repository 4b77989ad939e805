"""The port to approximate search (`ann`) and its back-ends: recall against the exact reference, bitmaps,
nodes without a way in, spaces of the metrics, numbers that could lead C++ astray.
"""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from graph_data import bits, body, build, clusters, isotropic, loaded, of_many_lengths, recall

from t4dm.t4dx.ann import Backend, Exact, Links
from t4dm.t4dx.ann_faiss import LINKS, FaissBackend, blur, sound
from t4dm.t4dx.ann_placed import after_merge
from t4dm.t4dx.graph_audit import unreached

try:
    from t4dm.t4dx.ann_hnswlib import HnswlibBackend
except ImportError:  # an extra without wheels
    HnswlibBackend = None

BACKENDS = [FaissBackend, *([HnswlibBackend] if HnswlibBackend else [])]


@pytest.fixture(params=BACKENDS, ids=lambda one: one.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.param()


@pytest.mark.parametrize(
    ("make", "metric", "ef", "least"),
    [
        (clusters, "cosine", 32, 0.93),
        (clusters, "cosine", 128, 0.99),
        (clusters, "l2", 128, 0.99),
        (clusters, "dot", 128, 0.93),
        (clusters, "dot", 256, 0.97),
        (isotropic, "cosine", 32, 0.90),
        (isotropic, "cosine", 128, 0.99),
        (isotropic, "l2", 128, 0.99),
        (isotropic, "dot", 128, 0.99),
        (of_many_lengths, "dot", 128, 0.97),
        (of_many_lengths, "l2", 128, 0.95),
    ],
)
def test_a_graph_finds_nearly_all_of_what_is_nearest(
    backend: Backend, make: object, metric: str, ef: int, least: float
) -> None:
    vectors = make(1500, 16)
    graph = loaded(backend, vectors, metric)
    assert graph.rows == 1500
    assert recall(graph, vectors, metric, make(40, 16, seed=1), ef=ef) >= least


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_only_allowed_places_come_back(backend: Backend, share: float) -> None:
    vectors, queries = clusters(1500, 16), clusters(30, 16, seed=1)
    graph = loaded(backend, vectors, "cosine")
    chosen = np.flatnonzero(np.random.default_rng(0).random(1500) < share)
    allowed = bits(graph, chosen)
    _, found = graph.search(queries, 32, ef=256, allowed=allowed)
    assert np.isin(found[found >= 0], chosen).all()
    assert recall(graph, vectors, "cosine", queries, ef=256, allowed=allowed) >= 0.98


def test_fewer_than_k_leave_places_of_minus_one_behind(backend: Backend) -> None:
    graph = loaded(backend, clusters(100, 8), "l2")
    scores, found = graph.search(clusters(3, 8, seed=1), 5, ef=200, allowed=bits(graph, [7, 90]))
    assert scores.shape == found.shape == (3, 5)
    assert (np.sort(found[:, :2], axis=1) == [7, 90]).all()
    assert (found[:, 2:] == -1).all()
    _, none = graph.search(clusters(1, 8), 5, ef=20, allowed=bits(graph, []))
    assert (none == -1).all()
    _, every = loaded(backend, clusters(3, 8), "l2").search(clusters(1, 8), 5, ef=20)
    assert sorted(every[0].tolist()) == [-1, -1, 0, 1, 2]


def test_scores_fall_from_left_to_right(backend: Backend) -> None:
    for metric in ("cosine", "dot", "l2"):
        scores, _ = loaded(backend, clusters(300, 8), metric).search(clusters(5, 8, seed=1), 10, ef=64)
        assert (np.diff(scores, axis=1) <= 0).all()


def test_the_length_of_a_query_does_not_matter_to_cosine_and_dot(backend: Backend) -> None:
    vectors, queries = of_many_lengths(600, 8), isotropic(5, 8, seed=1)
    for metric in ("cosine", "dot"):
        graph = loaded(backend, vectors, metric)
        _, small = graph.search(1e-9 * queries, 10, ef=64)
        _, large = graph.search(1e9 * queries, 10, ef=64)
        assert (small == large).all()


def test_a_zero_vector_is_nobodys_neighbour_by_cosine(backend: Backend) -> None:
    vectors = np.abs(isotropic(300, 8)) + 0.1
    vectors[5] = 0.0
    graph = loaded(backend, vectors, "cosine")
    _, found = graph.search(vectors[:20] * 1.0 + 0.01, 10, ef=300)
    assert 5 not in found


def test_the_same_vectors_give_the_same_bytes(backend: Backend) -> None:
    vectors = clusters(700, 8)
    assert np.array_equal(body(build(backend, vectors, "dot")[0]), body(build(backend, vectors, "dot")[0]))


def test_exact_agrees_with_hand_computed_scores() -> None:
    vectors = np.array([[3, 4], [0, 0], [-1, 0]], np.float32)
    query = np.array([[2, 0]], np.float32)
    scores, places = Exact(vectors, "dot").search(query, 2)
    assert (scores.tolist(), places.tolist()) == ([[6.0, 0.0]], [[0, 1]])
    scores, places = Exact(vectors, "l2").search(query, 3)
    assert (scores.tolist(), places.tolist()) == ([[-4.0, -9.0, -17.0]], [[1, 2, 0]])
    scores, places = Exact(vectors, "cosine").search(query, 4, allowed=bits(Exact(vectors, "dot"), [0, 2]))
    np.testing.assert_allclose(scores[0, :2], [1.2, -2.0], rtol=1e-6)
    assert places.tolist() == [[0, 2, -1, -1]]


def test_a_node_without_a_way_in_is_found_by_the_audit() -> None:
    near = np.array([[1, 2], [0, -1], [1, -1], [0, 1]], np.int32)  # nobody leads to 3
    assert unreached(Links(4, 0, lambda rows: near[rows])).tolist() == [3]
    assert unreached(Links(4, 3, lambda rows: near[rows])).tolist() == []


def test_a_row_that_the_graph_lost_is_unreached_and_no_search_finds_it() -> None:
    vectors = clusters(400, 8)
    builder, space = build(FaissBackend(), vectors, "l2")
    hnsw = builder._index.hnsw
    links = faiss.vector_to_array(hnsw.neighbors)
    levels, starts = faiss.vector_to_array(hnsw.levels), faiss.vector_to_array(hnsw.offsets)
    lost = int(np.flatnonzero(levels == 1)[-1])
    for node in range(400):  # cut all ways to it, and close the gap that each leaves
        lo = int(starts[node])
        near = [one for one in links[lo : lo + 2 * LINKS].tolist() if one not in (lost, -1)]
        links[lo : lo + 2 * LINKS] = near + [-1] * (2 * LINKS - len(near))
    faiss.copy_array_to_vector(links, hnsw.neighbors)
    assert unreached(builder.links()).tolist() == [lost]
    graph = FaissBackend().load(body(builder), space, lambda: vectors, nodes=400)
    assert lost not in graph.search(vectors[lost : lost + 1], 10, ef=400)[1]
    graph.unreached = unreached(builder.links())
    assert recall(graph, vectors, "l2", vectors[lost : lost + 1], ef=400) == 1.0


@pytest.mark.parametrize("change", range(7))
def test_no_contradiction_reaches_faiss(change: int) -> None:
    builder, space = build(FaissBackend(), clusters(400, 8), "cosine")
    index = builder._index
    hnsw = index.hnsw
    assert sound(index, space, 400)
    assert not sound(index, space, 399)
    links, levels = faiss.vector_to_array(hnsw.neighbors), faiss.vector_to_array(hnsw.levels)
    starts = faiss.vector_to_array(hnsw.offsets)
    above = int(np.flatnonzero(levels > 1)[0])
    if change == 0:
        links[77] = 400
    elif change == 1:
        links[77] = -2
    elif change == 2:
        levels[above] += 1
    elif change == 3:
        starts[9] += 1
    elif change == 4:
        hnsw.entry_point = 400
    elif change == 5:
        hnsw.max_level += 1
    else:
        links[starts[above] + 2 * LINKS] = int(np.flatnonzero(levels == 1)[0])  # a way to where nothing is
    faiss.copy_array_to_vector(links, hnsw.neighbors)
    faiss.copy_array_to_vector(levels, hnsw.levels)
    faiss.copy_array_to_vector(starts, hnsw.offsets)
    assert not sound(index, space, 400)


def test_beside_an_outlier_a_graph_holds_floats() -> None:
    vectors = isotropic(600, 8)
    assert blur(vectors.min(axis=0), vectors.max(axis=0), vectors) < 0.01
    vectors[3] *= 1e6
    assert blur(vectors.min(axis=0), vectors.max(axis=0), vectors) > 0.01
    graph = loaded(FaissBackend(), vectors, "l2")
    assert recall(graph, vectors, "l2", isotropic(40, 8, seed=1), ef=128) >= 0.98


def test_a_graph_is_extended_as_if_it_had_held_all_from_the_start() -> None:
    vectors = clusters(1500, 16)
    builder, space = build(FaissBackend(), vectors[:1000], "cosine")
    nodes = space.points(vectors)
    more = FaissBackend().resume(
        body(builder), space, lows=nodes.min(axis=0), highs=nodes.max(axis=0), threads=1
    )
    more.add(nodes[1000:])
    graph = FaissBackend().load(body(more), space, lambda: vectors, nodes=1500)
    assert recall(graph, vectors, "cosine", clusters(40, 16, seed=1), ef=64) >= 0.98


def test_codes_are_not_extended_far_beyond_what_they_were_made_for() -> None:
    vectors = clusters(600, 8)
    builder, space = build(FaissBackend(), vectors, "l2")
    data, lows, highs = body(builder), vectors.min(axis=0), vectors.max(axis=0)
    span = highs - lows
    resume = FaissBackend().resume
    assert resume(data, space, lows=lows - 0.05 * span, highs=highs + 0.05 * span, threads=1) is not None
    assert resume(data, space, lows=lows, highs=highs + 0.2 * span, threads=1) is None
    assert resume(data, space, lows=lows - 0.2 * span, highs=highs, threads=1) is None


def test_after_a_merge_dropped_rows_stay_as_stones_and_never_come_back() -> None:
    vectors, queries = clusters(800, 16), clusters(30, 16, seed=1)
    graph = loaded(FaissBackend(), vectors, "cosine")
    kept = np.flatnonzero(np.random.default_rng(0).random(800) < 0.8)
    left = after_merge(graph, kept)
    assert (left.rows, len(left.places)) == (len(kept), 800)
    assert recall(left, vectors[kept], "cosine", queries, ef=128) >= 0.98
    assert (left.search(queries, 32, ef=128)[1] >= 0).all()
    half = bits(left, range(0, left.rows, 2))
    assert recall(left, vectors[kept], "cosine", queries, ef=256, allowed=half) >= 0.98
    again = after_merge(left, np.arange(10, left.rows))
    assert again.rows == left.rows - 10
    assert recall(again, vectors[kept][10:], "cosine", queries, ef=128) >= 0.98


def test_what_a_graph_did_not_hold_stays_outside_of_it_after_a_merge() -> None:
    graph = loaded(FaissBackend(), clusters(100, 8), "l2")
    assert after_merge(graph, np.array([0, 5, 99, 100, 130])).rows == 3


def test_what_no_query_reaches_stays_known_through_merges() -> None:
    graph = loaded(FaissBackend(), clusters(5, 8), "l2")
    graph.unreached = np.array([0, 1, 4])
    once = after_merge(graph, np.array([0, 2, 3, 4]))
    assert once.unreached.tolist() == [0, 3]
    assert after_merge(once, np.array([1, 3])).unreached.tolist() == [1]
