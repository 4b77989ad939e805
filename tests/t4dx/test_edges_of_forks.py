"""A forked child of a process whose store has threads, and of one that only reads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from t4dm.errors import StoreClosedError
from t4dm.t4dx import T4DX, Item, Options

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def in_a_child(check: Callable[[], bool]) -> bool:
    """Whether a check holds in a forked child of this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: that is what is tested
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def is_dead(store: T4DX) -> bool:
    try:
        store.count()
    except StoreClosedError as error:
        store.close()
        return "dead in this fork" in str(error)
    return False


def test_the_threads_of_a_store_stay_with_the_parent(tmp_path: Path) -> None:
    options = Options(durability="interval", sync_interval=0.001, idle_marker=0.001, memtable_items=5)
    with T4DX.open(tmp_path / "s", dim=2, options=options) as store:
        store.insert(Item(id="a"))
        assert in_a_child(lambda: is_dead(store))
        for n in range(20):
            store.insert(Item(id=f"{n}"))
    with T4DX.open(tmp_path / "s") as again:
        assert again.count() == 21
        assert again.verify("deep").ok


def test_a_reader_is_dead_in_a_fork_and_one_that_the_child_opens_is_not(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2) as store:
        store.insert(Item(id="a"))
        reader = T4DX.open(tmp_path / "s", read_only=True)
        assert in_a_child(lambda: is_dead(reader))
        assert in_a_child(lambda: T4DX.open(tmp_path / "s", read_only=True).count() == 1)
        assert reader.count() == 1
