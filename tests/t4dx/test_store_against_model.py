"""Random operations on a tiny store and on plain dicts give the same answers, also after flush, reopen and
crash.
"""

from __future__ import annotations

import random

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import DIM, Model, Ticks, assert_same, write_step

from t4dm.t4dx import T4DX, Options

TINY = Options(durability="os", memtable_items=9, max_deltas=2, max_segments=3, txn_part_bytes=300)


def run(seed: int, steps: int) -> None:
    rng, clock, model, fs = random.Random(seed), Ticks(), Model(), SimulatedFileSystem(seed=seed)
    store = T4DX.open("store", dim=DIM, options=TINY, clock=clock, fs=fs)
    for _ in range(steps):
        move = rng.random()
        if move < 0.80:
            write_step(rng, store, model, clock)
        elif move < 0.86:
            with store.transaction() as tx:
                for _ in range(rng.randrange(1, 8)):
                    write_step(rng, tx, model, clock)
        elif move < 0.90:
            store.flush()
        elif move < 0.93:
            store.compact(full=rng.random() < 0.5)
        elif move < 0.97:
            store.close()
            store = T4DX.open("store", options=TINY, clock=clock, fs=fs)
        else:  # a killed process: nothing is flushed, nothing closed; the kernel keeps what was written
            fs = fs.after_crash("all")
            store = T4DX.open("store", options=TINY, clock=clock, fs=fs)
        assert_same(store, model, rng, clock)
    report = store.verify("deep")
    assert report.ok, report.problems


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_agree_with_dicts(seed: int) -> None:
    run(seed, 80)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_long_random_operations_agree_with_dicts(seed: int) -> None:
    run(seed, 1500)
