"""How many rows one-bit codes leave to be scored for a recall@10 of 0.99, and what fixed depths find.

python -m experiments.one_bit.measure --data ../shared/data
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.one_bit.vectors import Set, Vectors, harder, mixture, outliers, sentences
from t4dm.t4dx.codes import CodedColumn, Probe, hamming
from t4dm.t4dx.costs import sureness

K = 10
DEPTHS = (50, 100, 200, 500)
Order = Callable[[int], NDArray[Any]]


def main() -> None:
    """Print one table of recalls by fixed depth, and one of what the bound leaves to be scored."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("outputs/one_bit"))
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="*", default=[5_000, 20_000, 100_000])
    parser.add_argument("--only", nargs="*", default=["MiniLM", "easy", "harder", "outliers"])
    args = parser.parse_args()
    sets: list[Callable[[], Set]] = []
    if "MiniLM" in args.only:
        sets.append(lambda: sentences(args.data, args.cache, queries=args.queries))
    for make in (mixture, harder, outliers):
        name = {"mixture": "easy"}.get(make.__name__, make.__name__)
        for dim in (384, 1024) if name in args.only else ():
            sets += [partial(make, n, dim, queries=args.queries) for n in args.rows]
    print(f"| vectors | N | D | nearest | codes | {' | '.join(f'{d} scored' for d in DEPTHS)} |")
    print(f"{'|---' * (5 + len(DEPTHS))}|")
    for make_set in sets:
        report(make_set())


def report(data: Set) -> None:
    """One line per kind of code."""
    truth, scores = exact(data)
    n, dim = data.vectors.shape
    head = f"| {data.name} | {n} | {dim} | {np.median(scores.max(axis=1)):.2f}"
    mean = data.vectors.mean(axis=0)
    for name, centre in (("as they are", np.zeros_like(mean)), ("centred", mean)):
        order = by_signs(signs(data.vectors - centre), signs(data.queries - centre))
        line(head, name, [recall(truth, order, depth) for depth in DEPTHS])
    column = CodedColumn(dim)
    codes = column.codes(data.vectors, n)
    probe = Probe(column, data.queries)

    def turned(sure: float) -> Order:
        return lambda q: -probe.ceilings(codes, q, sure)

    line(head, "turned, centred", [recall(truth, turned(0.0), depth) for depth in DEPTHS])
    for asked_for in (0.9, 0.99, 0.999):
        found = bound(truth, scores, turned(sureness(asked_for)))
        said = f"recall {found[0]:.4f} | scored {found[1]:.0f} | 95th percentile {found[2]:.0f}"
        print(f"{head} | bound, {asked_for} | {said} | |", flush=True)
    near = eight_bits(data)
    line(head, "8 bits", [recall(truth, lambda q: -near[q], depth) for depth in DEPTHS])


def line(head: str, name: str, found: list[float]) -> None:
    """One row of the table."""
    print(f"{head} | {name} | {' | '.join(f'{one:.3f}' for one in found)} |", flush=True)


def by_signs(rows: NDArray[np.uint64], asked: NDArray[np.uint64]) -> Order:
    """Rows by how many signs differ."""
    return lambda q: hamming(rows, asked[q]).astype(np.int64)


def eight_bits(data: Set) -> Vectors:
    """Scores [Q, N] of vectors whose coordinates were rounded to 255 steps each."""
    step = np.abs(data.vectors).max(axis=0) / 127
    rounded = np.rint(data.vectors / np.where(step > 0, step, 1))
    scores: Vectors = (data.queries * step) @ rounded.T
    return scores


def exact(data: Set) -> tuple[NDArray[np.int64], Vectors]:
    """The 10 nearest of each query, and all scores [Q, N]."""
    scores = data.queries @ data.vectors.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :K], scores


def signs(rows: Vectors) -> NDArray[np.uint64]:
    """The signs of the coordinates as they stand."""
    size = -rows.shape[1] % 512
    packed = np.packbits(np.pad(rows > 0, ((0, 0), (0, size))), axis=1)
    return packed.view(np.uint64)


def recall(truth: NDArray[np.int64], order: Order, depth: int) -> float:
    """The share of the 10 nearest among the first rows of an order."""
    shares = []
    for number, best in enumerate(truth):
        first = np.argpartition(order(number), depth)[:depth]
        shares.append(np.isin(best, first).mean())
    return float(np.mean(shares))


def bound(truth: NDArray[np.int64], scores: Vectors, ceilings: Order) -> tuple[float, float, float]:
    """Recall of the rows that may reach the edge, how many they are on average, and in one search of 20."""
    shares, counts = [], []
    for number, best in enumerate(truth):
        high = -ceilings(number)
        first = np.argpartition(-high, 32)[:32]
        edge = np.partition(scores[number, first], 32 - K)[32 - K]
        keep = high >= edge
        keep[first] = True
        counts.append(int(keep.sum()))
        shares.append(keep[best].mean())
    return float(np.mean(shares)), float(np.mean(counts)), float(np.percentile(counts, 95))


if __name__ == "__main__":
    main()
