"""Graphs of principal coordinates: what shortened points keep, and when whole ones are better."""

from __future__ import annotations

import numpy as np
import pytest
from graph_data import fill, isotropic, opened, options, segments
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import T4DX
from t4dm.t4dx.ann import Space
from t4dm.t4dx.costs import Costs
from t4dm.t4dx.graph_shelf import Shelf
from t4dm.t4dx.shortening import KEPT, NARROWEST, basis_of, shortened

DIM = NARROWEST
WALKS = Costs(small=0, scan=1.0, gather=1.0, signs=1.0, probe=1.0, walk=0.0, enter=0.0)
METRICS = ("cosine", "dot", "l2")


def flat(count: int, seed: int = 0, *, dim: int = DIM, plane: int = 0) -> np.ndarray:
    """Points near a space of 12 dimensions, of many lengths; another `plane`, another space."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99 + plane).normal(size=(12, dim))
    points = rng.normal(size=(count, 12)) @ directions + 0.2 * rng.normal(size=(count, dim))
    return (points * rng.lognormal(0.0, 0.3, (count, 1))).astype(np.float32)


def width(store: T4DX, number: int = 0) -> int:
    graph = segments(store)[number].graph(0)
    assert graph is not None
    return graph.width


@pytest.mark.parametrize("count", [30, 400])
def test_a_basis_spans_what_a_singular_value_decomposition_finds(count: int) -> None:
    """With fewer points than dimensions, and with more."""
    points = flat(count, dim=60)
    basis = basis_of(points, 12).astype(np.float64)
    wanted = np.linalg.svd(points.astype(np.float64), full_matrices=False)[2][:12].T
    np.testing.assert_allclose(basis.T @ basis, np.eye(12), atol=1e-6)
    np.testing.assert_allclose(basis @ basis.T, wanted @ wanted.T, atol=1e-5)


def test_points_that_are_all_alike_still_have_a_basis() -> None:
    for count in (5, 300):
        basis = basis_of(np.ones((count, 60), np.float32), 12).astype(np.float64)
        np.testing.assert_allclose(basis.T @ basis, np.eye(min(12, count)), atol=1e-6)
        np.testing.assert_allclose(np.abs(np.ones(60) @ basis)[0], np.sqrt(60), rtol=1e-6)


def test_a_shortened_point_keeps_its_length_and_lies_no_farther() -> None:
    points = flat(80).astype(np.float32)
    short = shortened(points, basis_of(points, 5))
    assert short.shape == (80, 6)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), np.linalg.norm(points, axis=1), rtol=1e-5)
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    assert (np.linalg.norm(short[:, None] - short, axis=2) <= apart + 1e-3).all()


def test_a_point_in_the_basis_leaves_nothing_over() -> None:
    basis = np.eye(4, 2, dtype=np.float32)
    points = np.array([[3, 4, 0, 0], [0, 0, 3, 4], [1, 0, 2, 2], [0, 0, 0, 0]], np.float32)
    assert shortened(points, basis).tolist() == [
        [3, 4, 0],
        [0, 0, 5],
        [1, 0, np.sqrt(8, dtype=np.float32)],
        [0] * 3,
    ]
    assert shortened(points, basis, rest=False)[:, 2].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_a_query_of_any_length_is_as_near_as_in_the_basis(metric: str) -> None:
    points, query = flat(80), flat(1, seed=5)
    space = Space(metric, DIM, basis_of(points, KEPT))
    assert (space.width, space.points(points).shape) == (KEPT + 1, (80, KEPT + 1))
    assert space.aimed(query)[0, -1] == (0.0 if metric != "l2" else pytest.approx(space.points(query)[0, -1]))
    if metric != "l2":
        near, far = (np.argsort(space.aimed(query * length) @ space.points(points).T) for length in (1, 100))
        assert near.tolist() == far.tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_near_a_small_space_get_a_narrow_graph_and_the_same_answers(metric: str) -> None:
    disk, vectors = SimulatedFileSystem(), flat(600)
    vectors[3] = 0.0
    store = T4DX.open("store", dim=DIM, metric=metric, options=options(), fs=disk)
    fill(store, vectors)
    store.build_graphs()
    assert width(store) == KEPT + 1
    queries = flat(40, seed=1)
    wanted = [store.search(query, 10, recall=1.0).ids for query in queries]
    for again in (store, None):
        if again is None:
            store.close()
            again = opened(disk, dim=DIM)
            assert (width(again), again.stats()["graphs"]["built"]) == (KEPT + 1, 0)
        again.costs, paths, found = WALKS, set(), 0
        for query, best in zip(queries, wanted, strict=True):
            hits = again.search(query, 10, ef=64, explain=True)
            paths |= {line["path"] for line in hits.plan}  # type: ignore[union-attr]
            found += len(set(hits.ids) & set(best))
        assert "graph" in paths
        assert found >= 0.99 * 400


def test_vectors_without_such_a_space_get_a_whole_graph() -> None:
    store = opened(SimulatedFileSystem(), dim=DIM)
    fill(store, isotropic(3000, DIM))
    store.build_graphs()
    assert width(store) == store.stats()["graphs"]["segments"][0]["width"] == DIM
    assert store.stats()["graphs"]["built"] == 1


def test_narrow_vectors_are_left_whole() -> None:
    store = opened(SimulatedFileSystem(), dim=DIM - 1)
    fill(store, flat(300, dim=DIM - 1))
    store.build_graphs()
    assert width(store) == DIM - 1


def test_a_merge_extends_a_narrow_graph_in_its_own_basis() -> None:
    store, vectors = opened(SimulatedFileSystem(), dim=DIM), flat(500)
    fill(store, vectors)
    store.build_graphs()
    later = vectors[:60] + 0.01 * isotropic(60, DIM)
    fill(store, later, 500)
    store.compact(graphs=True)
    assert (width(store), store.stats()["graphs"]["extended"]) == (KEPT + 1, 1)
    assert store.search(later[7], 1).ids == ["00507"]


def test_a_narrow_graph_that_no_longer_fits_is_built_anew() -> None:
    """What comes later lies in spaces that the basis does not know."""
    store = opened(SimulatedFileSystem(), dim=DIM)
    fill(store, flat(1500))
    store.build_graphs()
    assert width(store) == KEPT + 1
    fill(store, isotropic(1400, DIM), 1500)
    store.compact(graphs=True)
    assert (width(store), store.stats()["graphs"]["extended"]) == (DIM, 0)


def test_a_foot_with_half_a_basis_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimulatedFileSystem()
    with opened(disk, dim=DIM) as store:
        fill(store, flat(300))
        store.build_graphs()
    read = Shelf._map

    def cut(self: Shelf, key: tuple[int, int]) -> object:
        found = read(self, key)
        assert found is not None
        found.foot.__class__.basis.__set__(found.foot, found.foot.basis[:-4])
        return found

    monkeypatch.setattr(Shelf, "_map", cut)
    with opened(disk, dim=DIM) as store:
        assert segments(store)[0].graph(0) is None
        assert store.search(flat(300)[7], 1).ids == ["00007"]
