"""Items, queries and edges of a run: clustered, seeded, the same for every system.

500 Gaussians of uneven size and width on a 64-d latent with a decaying spectrum and a common offset,
projected to D dimensions, plus 30 % isotropic noise, normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

CLUSTERS: Final = 500
LATENT: Final = 64
NOISE: Final = 0.3
DEGREE: Final = 10
START: Final = 1_700_000_000.0  # event time of the first item, seconds
EXTRA: Final = 40_000  # items beyond the loaded ones, for the inserts
_ROWS: Final = 8192  # drawn at once: bounds the memory of a draw


class Row(NamedTuple):
    """One item as plain values."""

    num: int
    id: str
    text: str  # 200 bytes
    kappa: float
    time: float  # seconds
    vector: NDArray[np.float32]  # [D]


@final
@dataclass(frozen=True)
class Data:
    """What every system is given. The first `n` rows are loaded; the others are for inserts."""

    n: int
    vectors: NDArray[np.float32]  # [n + extra, D], unit length
    ids: list[str]  # [n + extra]
    kappas: NDArray[np.float64]  # [n + extra], uniform
    targets: NDArray[np.int64]  # [n, DEGREE]: the edges num -> target
    weights: NDArray[np.float64]  # [n, DEGREE], multiples of 1/1024

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    def row(self, num: int) -> Row:
        text = f"memory {num} ".ljust(200, ".")
        return Row(num, self.ids[num], text, float(self.kappas[num]), START + 60.0 * num, self.vectors[num])

    def rows(self, start: int, stop: int) -> list[Row]:
        return [self.row(num) for num in range(start, stop)]


def make(n: int, dim: int, *, seed: int = 7, extra: int = EXTRA, cache: Path | None = None) -> Data:
    """The data of a run; vectors come from `cache` where an earlier group of the run left them."""
    file = cache / f"vectors-{n}+{extra}x{dim}-{seed}.npy" if cache else None
    if file is not None and file.exists():
        vectors = np.load(file)
    else:
        vectors = draw(n + extra, dim, np.random.default_rng(seed))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, vectors)
    rng = np.random.default_rng(seed + 1)
    ids = [rng.bytes(16).hex() for _ in range(n + extra)]
    kappas = rng.integers(0, 1024, n + extra) / 1024
    targets = (np.arange(n)[:, None] + _distinct(n, rng)) % n
    return Data(n, vectors, ids, kappas, targets, rng.integers(256, 1024, targets.shape) / 1024)


def draw(n: int, dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors [n, D] of the mixture."""
    spectrum = (1.0 + np.arange(LATENT)) ** -0.5
    centres = rng.normal(size=(CLUSTERS, LATENT)) * spectrum
    widths = rng.uniform(0.3, 0.7, CLUSTERS)
    shares = rng.pareto(1.5, CLUSTERS) + 0.2
    offset = rng.normal(size=LATENT) * spectrum * 0.6
    projection = np.linalg.qr(rng.normal(size=(max(dim, LATENT), LATENT)))[0][:dim]
    out = np.empty((n, dim), np.float32)
    for start in range(0, n, _ROWS):
        size = min(_ROWS, n - start)
        chosen = rng.choice(CLUSTERS, size, p=shares / shares.sum())
        latent = centres[chosen] + offset + rng.normal(size=(size, LATENT)) * spectrum * widths[chosen, None]
        signal = latent @ projection.T
        whole = _unit(signal) + NOISE * _unit(rng.normal(size=(size, dim)))
        out[start : start + size] = _unit(whole)
    return out


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _distinct(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Ten different steps from 1 to n - 1 for each of n rows."""
    steps = np.sort(rng.integers(1, n, (n, DEGREE)), axis=1)
    while (twice := np.flatnonzero((np.diff(steps, axis=1) == 0).any(axis=1))).size:
        steps[twice] = np.sort(rng.integers(1, n, (twice.size, DEGREE)), axis=1)
    return steps


def nearest(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[int]:
    """The exact answer: row numbers by descending cosine."""
    scores = vectors @ query
    return [int(row) for row in np.argsort(-scores, kind="stable")[:k]]


def statistics(data: Data, *, sample: int = 200) -> dict[str, float]:
    """Mean cosine of pairs and of the nearest neighbour, to compare with embeddings."""
    vectors = data.vectors[: data.n]
    rows = np.linspace(0, data.n - 1, min(sample, data.n)).astype(int)
    scores = vectors[rows] @ vectors.T
    pairs = float(scores.mean())
    scores[np.arange(len(rows)), rows] = -1.0
    return {"mean_pair_cosine": round(pairs, 3), "nearest_cosine": round(float(np.median(scores.max(1))), 3)}
