"""A batch that looks up its ids together leaves what one insert after the other leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t4dm.errors import VectorError
from t4dm.t4dx import T4DX, Item, Options
from t4dm.t4dx.locating import MANY

COLLIDING = "fee72ef6c8dd", "547c1be46ecd"  # two ids with the same hash
FIRST, SECOND, THIRD = (range(start, start + MANY + 10) for start in (0, 40, 25))

Write = Callable[[T4DX, list[Item]], object]


def one_by_one(store: T4DX, items: list[Item]) -> None:
    with store.transaction() as changes:
        for item in items:
            changes.insert(item)


def together(store: T4DX, items: list[Item]) -> None:
    assert len(items) >= MANY
    store.insert_many(items)


def items(numbers: range, content: str) -> list[Item]:
    """Every third without a vector."""
    return [
        Item(
            id=COLLIDING[n - 50] if n in (50, 51) else f"item {n}",
            content=content,
            vector=None if n % 3 == 0 else np.array([n, 1.0], np.float32),
            kappa=n / 256,
        )
        for n in numbers
    ]


def history(folder: Path, write: Write, *, flushed: bool) -> list[list[tuple[object, ...]]]:
    """What is there after three batches that overlap, and what was there after each of them."""
    clock = iter(range(1, 10**6))
    options = Options(durability="os", idle_marker=0, background=False)
    with T4DX.open(folder, dim=2, options=options, clock=lambda: float(next(clock))) as store:
        points = []
        for numbers, content in ((FIRST, "a"), (SECOND, "b"), (THIRD, "c")):
            write(store, items(numbers, content))
            points.append(float(next(clock)))
            if content == "a":
                store.delete("item 45")  # a version that is gone is superseded by none
            if flushed:
                store.flush()
        return [
            [
                (item.id, item.content, item.kappa, item.vector is None, math.isinf(item.record_until))
                for item in store.scan(as_of=point)
            ]
            for point in [*points, next(clock)]
        ]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_batch_supersedes_what_its_single_inserts_would(tmp_path: Path, flushed: bool) -> None:
    single = history(tmp_path / "single", one_by_one, flushed=flushed)
    batch = history(tmp_path / "batch", together, flushed=flushed)
    assert batch == single
    now = {row[0]: row[1] for row in batch[-1]}
    assert len(now) == len(set(FIRST) | set(SECOND) | set(THIRD))
    assert (now["item 0"], now["item 30"], now[COLLIDING[0]], now["item 110"]) == ("a", "c", "c", "b")


def test_every_row_of_a_batch_is_checked_not_only_the_first(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2) as store:
        for wrong, message in (
            (np.array([math.nan, 1.0]), "NaN or infinity"),
            (np.array([1.0, -math.inf]), "NaN or infinity"),
            (np.array([1e-30, 0.0]), "norm 1.0e-30"),
            (np.array([3e25, 3e25]), r"norm 4\.2e\+25"),
        ):
            batch = [Item(id=f"{n}", vector=np.ones(2, np.float32)) for n in range(99)]
            batch.append(Item(id="wrong", vector=wrong))
            with pytest.raises(VectorError, match=rf"wrong.*{message}"):
                store.insert_many(batch)
        assert store.count() == 0
        zeros = [Item(id=f"{n}", vector=np.zeros(2, np.float32)) for n in range(99)]
        store.insert_many(zeros)
        assert store.count() == 99
