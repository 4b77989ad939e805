"""What the default search finds of the ten nearest, on easy and hard vectors behind wide and narrow filters.

A store of one shape of vectors goes through ten merges, damage to its graphs, a reopening, deletions of three
rows in ten, changed fields; at the end three segments are unmerged and the memtable is not empty. Its twin is
numpy. What comes back must be alive, pass the filter, have the right score, and be min(k, matches) in number.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from reliability import disk
from reliability.model import Ticks
from reliability.options import options
from reliability.rows import Runner, Wrong
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import T4DX, Filter, Hits, Item
from t4dm.t4dx.costs import Costs
from t4dm.t4dx.graph_files import read_foot

FOLDER: Final = "store"
DIM: Final = 192
"""The narrowest vectors that have codes."""
K: Final = 10
GOAL: Final = 0.99
MERGES: Final = 10
PARTS: Final = MERGES + 5  # the last three stay segments of their own, and one is in the memtable
DELETED: Final = 0.3
SHAPES: Final = ("random", "clustered", "near-duplicate", "filter-correlated")
SHARES: Final = (1.0, 0.5, 0.1, 0.05, 0.01, 0.001, 0.0001)
LAST: Final = 1 << 20
Vectors = NDArray[np.float32]


class World(NamedTuple):
    """A store and what it should hold: of each row whether it lives, its kappa, and its cosine with each
    query.
    """

    store: T4DX
    alive: NDArray[np.bool_]
    kappas: NDArray[np.float64]
    queries: Vectors
    cosines: NDArray[np.float64]

    def where(self, share: float) -> tuple[Filter, NDArray[np.bool_]]:
        """A filter that lets a share of the living rows pass, one at least, and those rows."""
        if share == 1.0:
            return Filter(), self.alive
        kappas = np.sort(self.kappas[self.alive])
        count = max(1, round(share * len(kappas)))
        limit = float(kappas[count - 1 : count + 1].mean())  # between two of them: they are stored as float32
        return Filter(kappa=(None, limit)), self.alive & (self.kappas < limit)


def drawn(shape: str, rows: int, rng: np.random.Generator) -> tuple[Vectors, NDArray[np.float64]]:
    """Vectors [rows, DIM] and their kappas, each another one."""
    kappas = rng.permutation(rows) / rows
    noise = rng.standard_normal((rows, DIM))
    if shape == "random":
        return noise.astype(np.float32), kappas
    groups = max(4, rows // 20) if shape == "near-duplicate" else 40
    group = rng.integers(0, groups, rows)
    spread = 0.01 if shape == "near-duplicate" else 0.5
    centres = rng.standard_normal((groups, DIM)) + 2 * rng.standard_normal(
        DIM
    )  # all on one side, as of texts
    vectors = centres[group] + spread * noise
    if shape == "filter-correlated":  # few clusters pass, and most queries come from others
        kappas = np.argsort(np.argsort(group + rng.random(rows))) / rows
    return vectors.astype(np.float32), kappas


def ways(rows: int) -> dict[str, Costs]:
    """What the default search does here by the costs of a usual machine, and where codes or graphs are cheap
    for once, for which of the three is the cheapest is a matter of the machine.
    """
    small = min(Costs().small, rows // 15)
    return {
        "usual": Costs(small=small),
        "codes": Costs(small=small, scan=1.0, gather=1.0, walk=1.0, enter=1.0, encode=0.0),
        "graph": Costs(small=small, scan=1.0, gather=1.0, signs=1.0, probe=1e9, walk=0.0, enter=0.0),
    }


@functools.lru_cache(maxsize=1)
def world_of(seed: int, shape: str, rows: int) -> World:
    """A store after all of it."""
    rng = np.random.default_rng([seed, SHAPES.index(shape)])
    asked = min(100, rows // 150)
    vectors, kappas = drawn(shape, rows + asked, rng)
    vectors, queries, kappas = vectors[:rows], vectors[rows:], kappas[:rows]
    order = rng.permutation(rows)  # by which rows are deleted, in the order in which they come
    doomed = order < DELETED * rows
    alive = np.zeros(rows, bool)
    store, bounds = opened(SimulatedFileSystem(), rows), np.linspace(0, rows, PARTS + 1).astype(int)
    for part in range(PARTS):
        first, last = bounds[part], bounds[part + 1]
        if part == MERGES - 2:
            store = with_damaged_graphs(store, rows)
        fresh = range(first, last)
        store.insert_many([Item(id=str(n), vector=vectors[n], kappa=float(kappas[n])) for n in fresh])
        alive[fresh] = True
        store.search(queries[0], K)  # what it remembers of the rows must not outlive them
        dead = np.flatnonzero(alive & doomed & (order % (PARTS + 1) <= part))
        with store.transaction() as tx:
            tx.delete_many([str(n) for n in dead])
        alive[dead] = False
        if part < PARTS - 1:
            store.flush()
        if 0 < part <= MERGES:
            store.compact()
            if part % 2:
                store.build_graphs()  # else the graph of before the merge does
    changed = np.flatnonzero(alive)[::50]
    kappas[changed] = kappas[changed[::-1]]
    with store.transaction() as tx:
        for n in changed.tolist():
            tx.update_fields(str(n), kappa=float(kappas[n]))
    left = np.flatnonzero(alive & doomed)
    with store.transaction() as tx:
        tx.delete_many([str(n) for n in left])
    alive[left] = False
    return World(store, alive, kappas, queries, cosines_of(vectors, queries))


def cosines_of(vectors: Vectors, queries: Vectors) -> NDArray[np.float64]:
    """Of each query with each row [Q, N]."""
    rows, asked = vectors.astype(np.float64), queries.astype(np.float64)
    lengths = np.sqrt((asked**2).sum(axis=1))[:, None] * np.sqrt((rows**2).sum(axis=1))
    found: NDArray[np.float64] = asked @ rows.T / lengths
    return found


def opened(fs: SimulatedFileSystem, rows: int) -> T4DX:
    """A store in which a quarter of the rows are worth a graph."""
    chosen = options(durability="os", index_rows=rows // 4, memtable_items=10**9, memtable_bytes=2**60)
    return T4DX.open(FOLDER, dim=DIM, options=chosen, clock=Ticks(), fs=fs)


def with_damaged_graphs(store: T4DX, rows: int) -> T4DX:
    """Opened again, with other bytes where the graphs hold what they compute distances from."""
    store.build_graphs()
    fs = store._fs
    store.close()
    for path in disk.files(fs.root):
        if "/graphs/" in path:
            file = disk.file_at(fs.root, path)
            foot = read_foot(np.frombuffer(bytes(file.data), np.uint8))
            assert foot is not None
            last = min(foot.size, foot.structure + LAST)
            file.data[foot.structure : last] = bytes(last - foot.structure)
    store = opened(SimulatedFileSystem(disk.copy(fs.root)), rows)
    if (found := store.stats()["graphs"])["ready"] or not found["missing"]:
        raise Wrong(f"a damaged graph is used: {found}")
    return store


def found_by(world: World, share: float, costs: Costs) -> float:
    """Recall@10 over all queries; raises Wrong where an answer holds what it must not, or lacks a hit."""
    where, passing = world.where(share)
    matches, shares = np.flatnonzero(passing), list[float]()
    world.store.costs = costs
    for query, cosines in zip(world.queries, world.cosines, strict=True):
        hits = world.store.search(query, K, where)
        count = min(K, len(matches))
        check_answer(hits, passing, cosines, count)
        least = np.sort(cosines[matches])[-count] - 1e-12
        shares.append(float(np.mean([cosines[int(name)] >= least for name in hits.ids])))
    return float(np.mean(shares))


def check_answer(hits: Hits, passing: NDArray[np.bool_], cosines: NDArray[np.float64], count: int) -> None:
    """So many hits, each once, alive, within the filter, with its score, best first."""
    ids, scores = [int(name) for name in hits.ids], [hit.score for hit in hits]
    if len(ids) != count or len(set(ids)) != count:
        raise Wrong(f"{len(set(ids))} of {count} hits")
    if not passing[ids].all():
        raise Wrong(f"{int((~passing[ids]).sum())} of {count} hits are dead or filtered out")
    if np.abs(cosines[ids] - scores).max() > 1e-5 or scores != sorted(scores, reverse=True):
        raise Wrong(f"scores {scores[:3]}, not {cosines[ids][:3].tolist()}")


def cases(seed: int, size: int) -> list[str]:
    """Every share of every shape, in stores of `size` rows."""
    return [f"{seed},{shape},{share},{size}" for shape in SHAPES for share in SHARES]


def check(case: str) -> int:
    """Case seed,shape,share,rows: all queries, each in three ways; holds how many were asked."""
    seed, shape, share, rows = case.split(",")
    world, tried = world_of(int(seed), shape, int(rows)), 0
    for way, costs in ways(int(rows)).items():
        found = found_by(world, float(share), costs)
        if found < GOAL:
            raise Wrong(f"{found:.4f} of the nearest are found ({way}), {GOAL} are promised")
        tried += len(world.queries)
    return tried


RUNNER = Runner("recall", cases, check, {"pr": 2000, "nightly": 80_000})
