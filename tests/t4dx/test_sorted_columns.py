"""Columns in order: the same rows as a comparison finds, made only once that is worth while."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, AsOf, Filter, Item, Options
from t4dm.t4dx.sorted_columns import FEWEST, NARROW, OFTEN, rows_within
from t4dm.t4dx.tables import View

N = FEWEST + 500


def store_with(kappas: Any) -> T4DX:
    options = Options(durability="os", memtable_items=10**6, memtable_bytes=2**40)
    store = T4DX.open("store", dim=4, options=options, clock=Ticks(0.0), fs=SimulatedFileSystem())
    items = [Item(id=f"i{n:05d}", vector=np.eye(4)[n % 4], kappa=float(k)) for n, k in enumerate(kappas)]
    store.insert_many(items)
    store.flush()
    return store


def segment_of(store: T4DX) -> View:
    return next(view for view in store.snapshot()._read().views if view.n == N)


def known(store: T4DX, name: str = "kappa") -> None:
    view = segment_of(store)
    for _ in range(OFTEN):
        rows_within(view, name, (0.0, 0.0), closed=True)


def test_an_order_is_made_once_it_was_asked_for_often() -> None:
    store = store_with(np.arange(N) / N)
    view = segment_of(store)
    for _ in range(OFTEN - 1):
        assert rows_within(view, "kappa", (0.0, 0.0), closed=True) is None
    assert rows_within(view, "kappa", (0.0, 0.0), closed=True) == [0]


@pytest.mark.parametrize("closed", [True, False])
def test_the_rows_are_those_of_a_comparison(closed: bool) -> None:
    rng = np.random.default_rng(0)
    kappas = rng.choice(np.linspace(0, 1, 3000), N)
    store = store_with(kappas)
    known(store)
    view = segment_of(store)
    for lo, hi in ((0.2, 0.201), (0.5, 0.5), (-np.inf, 0.003), (0.999, np.inf), (0.7, 0.6)):
        passing = (kappas >= lo) & ((kappas <= hi) if closed or hi == np.inf else (kappas < hi))
        found = rows_within(view, "kappa", (lo, hi), closed=closed)
        assert found is not None
        assert np.array_equal(found, np.flatnonzero(passing))


def test_where_many_pass_it_says_nothing() -> None:
    store = store_with(np.arange(N) / N)
    known(store)
    most = int(NARROW * N)
    view = segment_of(store)
    assert len(rows_within(view, "kappa", (0.0, (most - 1) / N), closed=True)) == most  # type: ignore[arg-type]
    assert rows_within(view, "kappa", (0.0, most / N), closed=True) is None


def test_an_update_is_seen_at_once() -> None:
    store = store_with(np.arange(N) / N)
    known(store)
    few = Filter(kappa=(0.9999, None))
    assert store.count(few) == 0
    store.update_fields("i00007", kappa=1.0)
    assert [item.id for item in store.scan(few)] == ["i00007"]
    known(store)
    assert [item.id for item in store.scan(few)] == ["i00007"]


def test_what_is_gone_is_not_found_and_what_was_is() -> None:
    store = store_with(np.arange(N) / N)
    known(store)
    before = store.get("i00001").record_time  # type: ignore[union-attr]
    few = Filter(kappa=(None, 3 / N))
    store.delete("i00001")
    store.insert(Item(id="i00002", vector=np.eye(4)[2], kappa=0.5))
    assert [item.id for item in store.scan(few)] == ["i00000", "i00003"]
    assert len(store.search(np.ones(4), 10, few)) == 2
    assert len(list(store.scan(few, as_of=AsOf(record=before)))) == 3  # a deletion is for all times


def test_further_fields_hold_too() -> None:
    store = store_with(np.arange(N) / N)
    known(store)
    low = Filter(kappa=(None, 9 / N), ids=("i00003", "i00005", "i00100"))
    assert [item.id for item in store.scan(low)] == ["i00003", "i00005"]
    assert store.count(Filter(kappa=(None, 9 / N), importance=(0.6, None))) == 0
    assert store.count(Filter(kappa=(None, 9 / N), importance=(0.5, None), type="episodic")) == 10
