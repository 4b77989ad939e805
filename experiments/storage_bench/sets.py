"""The vectors that searches are judged on: the easy mixture, a harder one, sentences, and easy ones by size.

Each is a `Data` whose first `n` rows are loaded, whose next ones are the fresh rows of the group `fresh`, and
whose last ones are the queries: none of them is ever stored.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.one_bit.vectors import harder, sentences
from experiments.storage_bench.data import DEGREE, Data, draw

QUERIES: Final = 400
"""Half of them to tune on, half to measure."""
FRESH_PARTS: Final = 4
"""Three segments and the memtable, of a tenth of the loaded rows each."""
SHARED: Final = Path(__file__).resolve().parents[3] / "shared" / "data"
_STEPS: Final = 8192  # of kappa
Vectors = NDArray[np.float32]


class Sides(NamedTuple):
    """What to tune on and what to measure: queries [Q, D] of each."""

    tuning: Vectors
    judged: Vectors


def make(name: str, n: int, dim: int, *, cache: Path) -> Data:
    """The set `easy`, `harder`, `minilm`, or one like "10000x128": easy, of that size."""
    if name == "minilm":
        if not (cache / "minilm" / "asked.npy").exists():
            # not used, and the builds that come with other benches may not fit this torch
            for package in ("torchvision", "torchaudio"):
                sys.modules.setdefault(package, None)  # type: ignore[arg-type]
        held = sentences(SHARED, cache / "minilm", queries=QUERIES)
        return _data(len(held.vectors), np.concatenate([held.vectors, held.queries]))
    if name not in ("easy", "harder"):
        n, dim = map(int, name.split("x"))
    extra = fresh(n) if name == "easy" else 0
    file = cache / f"search-{name}-{n}+{extra}x{dim}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, _drawn(name, n + extra, dim))
    return _data(n, np.load(file))


def fresh(n: int) -> int:
    """Rows that come behind the loaded ones."""
    return FRESH_PARTS * (n // 10)


def sides(data: Data) -> Sides:
    """The queries of a set."""
    queries = data.vectors[-QUERIES:]
    return Sides(queries[::2], queries[1::2])


def below(share: float) -> float:
    """The kappa that about this share of the rows have at most; it is uniform."""
    return (round(share * _STEPS) - 1) / _STEPS


def truth(data: Data, queries: Vectors, k: int, chosen: NDArray[np.int64] | None = None) -> list[set[str]]:
    """The ids of the k nearest of the chosen rows, of the loaded ones by default."""
    rows = np.arange(data.n) if chosen is None else chosen
    best, size = np.full((len(queries), 0), 0, np.int64), np.full((len(queries), 0), 0.0, np.float32)
    for start in range(0, len(rows), 1 << 16):
        part = rows[start : start + (1 << 16)]
        scores = np.concatenate([size, queries @ data.vectors[part].T], axis=1)
        held = np.concatenate([best, np.broadcast_to(part, (len(queries), len(part)))], axis=1)
        top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, size = np.take_along_axis(held, top, axis=1), np.take_along_axis(scores, top, axis=1)
    return [{data.ids[row] for row in line} for line in best.tolist()]


def _drawn(name: str, n: int, dim: int) -> Vectors:
    if name == "harder":
        held = harder(n, dim, queries=QUERIES)
        return np.concatenate([held.vectors, held.queries])
    return draw(n + QUERIES, dim, np.random.default_rng(7))


def _data(n: int, vectors: Vectors) -> Data:
    rng = np.random.default_rng(8)
    ids = [rng.bytes(16).hex() for _ in range(len(vectors))]
    kappas = np.floor(rng.permutation(len(vectors)) * (_STEPS / len(vectors))) / _STEPS
    return Data(n, vectors, ids, kappas, np.zeros((n, DEGREE), np.int64), np.zeros((n, DEGREE)))
