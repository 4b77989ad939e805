"""Vectors that are easy and hard to search, and stores whose segments have graphs."""

from __future__ import annotations

import numpy as np
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import T4DX, Item, Options
from t4dm.t4dx.ann import Backend, Builder, Exact, Graph, Space
from t4dm.t4dx.graph_audit import unreached
from t4dm.t4dx.graph_building import extent
from t4dm.t4dx.segment import Segment


def clusters(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Easy: Gaussians around a tenth as many centres as there are dimensions squared."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))
    return (centres[rng.integers(0, 20, count)] + 0.4 * rng.normal(size=(count, dim))).astype(np.float32)


def isotropic(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Hard: no structure at all, every distance much like the next."""
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def of_many_lengths(count: int, dim: int, seed: int = 0) -> np.ndarray:
    """Directions at random, norms over two orders of magnitude."""
    rng = np.random.default_rng(seed)
    return (isotropic(count, dim, seed) * rng.lognormal(0.0, 1.0, (count, 1))).astype(np.float32)


def build(backend: Backend, vectors: np.ndarray, metric: str, *, threads: int = 1) -> tuple[Builder, Space]:
    """A graph over some vectors, as the store builds it."""
    space = Space(metric, vectors.shape[1])
    bounds = extent(vectors, space, lambda: None)
    builder = backend.start(
        space, lows=bounds.lows, highs=bounds.highs, sample=bounds.sample, threads=threads
    )
    for start in range(0, len(vectors), 512):
        builder.add(space.points(vectors[start : start + 512]))
    return builder, space


def body(builder: Builder) -> np.ndarray:
    """The bytes of a graph."""
    pieces: list[bytes] = []
    builder.write(pieces.append)
    return np.frombuffer(b"".join(pieces), np.uint8)


def loaded(backend: Backend, vectors: np.ndarray, metric: str) -> Graph:
    """A graph as a reader has it, audited."""
    builder, space = build(backend, vectors, metric)
    graph = backend.load(body(builder), space, lambda: vectors, nodes=len(vectors))
    assert graph is not None
    graph.unreached = unreached(builder.links())
    return graph


def recall(graph: Graph, vectors: np.ndarray, metric: str, queries: np.ndarray, **how: object) -> float:
    """Recall@10 of 32 candidates re-ranked, and the places that are always scanned, against `Exact`."""
    allowed, hits, wanted = how.pop("allowed", None), 0, 0
    truth = Exact(vectors, metric)
    _, best = truth.search(queries, 10, allowed=allowed)
    _, found = graph.search(queries, 32, allowed=allowed, **how)
    for row in range(len(queries)):
        mask = np.zeros(len(vectors), bool)
        mask[found[row][found[row] >= 0]] = True
        mask[graph.unreached] = True
        if allowed is not None:
            mask &= np.unpackbits(allowed, bitorder="little", count=len(vectors)).astype(bool)
        bits = np.packbits(mask, bitorder="little")
        _, mine = truth.search(queries[row : row + 1], 10, allowed=bits)
        right = best[row][best[row] >= 0]
        hits, wanted = hits + len(np.intersect1d(mine[0], right)), wanted + len(right)
    return hits / wanted


def options(**chosen: object) -> Options:
    """Options with a graph for 50 vectors already, and nothing in the background."""
    return Options(**{"durability": "os", "index_rows": 50, "background": False, **chosen})


def opened(disk: SimulatedFileSystem, *, dim: int = 4, read_only: bool = False, **chosen: object) -> T4DX:
    """A store on a simulated disk."""
    return T4DX.open(
        "store", dim=None if read_only else dim, options=options(**chosen), fs=disk, read_only=read_only
    )


def fill(store: T4DX, vectors: np.ndarray, first: int = 0, **more: object) -> None:
    """Insert items named by numbers, and flush them to a segment of their own."""
    store.insert_many(
        [Item(id=f"{first + n:05d}", vector=vector, **more) for n, vector in enumerate(vectors)]
    )
    store.flush()


def segments(store: T4DX) -> list[Segment]:
    """The segments of a store, from new to old."""
    return [view.source for view in store._read().views if isinstance(view.source, Segment)]


def graph_files(disk: SimulatedFileSystem) -> list[str]:
    """The names of the files of graphs."""
    return disk.listdir("store/graphs") if disk.exists("store/graphs") else []


def bits(graph: Graph, places: object) -> np.ndarray:
    """A bitmap of some places."""
    mask = np.zeros(graph.rows, bool)
    mask[places] = True
    return np.packbits(mask, bitorder="little")
