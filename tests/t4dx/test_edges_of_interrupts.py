"""Ctrl-C, or an allocation that fails, in the middle of a write: the program goes on with the same handle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from reliability.io_errors import Memory
from reliability.options import options
from simulated_fs import SimulatedFileSystem
from store_model import Ticks, digest

from t4dm.errors import StoreError, TransactionError
from t4dm.t4dx import T4DX, Item, manifest

Act = Callable[[T4DX], object]
Check = Callable[[T4DX, SimulatedFileSystem], None]


class InterruptedDisk(SimulatedFileSystem):
    """Ctrl-C comes while one of the next fdatasyncs is under way: it is done, then the interrupt rises."""

    left = 0

    def _step(self, what, *, torn=None):
        super()._step(what, torn=torn)
        if what.startswith("fdatasync") and self.left:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def opened(fs: SimulatedFileSystem, durability: str = "os") -> T4DX:
    return T4DX.open("s", dim=2, options=options(durability=durability), clock=Ticks(), fs=fs)


def insert(store: T4DX, name: str) -> str:
    """The name, if the write was acknowledged."""
    try:
        store.insert(Item(id=name))
    except StoreError:
        return ""
    return name


def ids(store: T4DX) -> str:
    return "".join(sorted(item.id for item in store.scan()))


@pytest.mark.parametrize("durability", ["os", "sync"])
@pytest.mark.parametrize("sync", [1, 2, 3])
def test_a_flush_that_was_interrupted_loses_nothing_that_is_acknowledged_later(
    durability: str, sync: int
) -> None:
    fs = InterruptedDisk()
    store = opened(fs, durability)
    store.insert(Item(id="a"))
    fs.left = sync
    with contextlib.suppress(KeyboardInterrupt):
        store.flush()
    fs.left = 0
    acknowledged = "a" + insert(store, "b") + insert(store, "c")
    assert ids(opened(fs.after_crash("all"))) == acknowledged


def failing_at_each_call(act: Act, check: Check) -> int:
    """Let each call of the engine inside of `act` fail, and check the handle and its disk afterwards."""
    for at in range(1, 1000):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="a"))
        try:
            with Memory(at):
                act(store)
            return at
        except (MemoryError, StoreError):
            check(store, fs)
    raise AssertionError("it never passed")


def test_no_write_is_acknowledged_behind_one_that_was_logged_and_not_applied() -> None:
    def check(store: T4DX, fs: SimulatedFileSystem) -> None:
        acknowledged = {"a", insert(store, "c"), insert(store, "d")} - {""}
        assert acknowledged <= set(ids(opened(fs.after_crash("all"))))

    assert failing_at_each_call(lambda store: store.insert(Item(id="b")), check) > 30


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a generator that closes
def test_a_flush_that_failed_in_memory_leaves_a_store_that_answers() -> None:
    def check(store: T4DX, fs: SimulatedFileSystem) -> None:
        acknowledged = "a" + insert(store, "b")
        assert ids(store) == acknowledged
        assert ids(opened(fs.after_crash("all"))) == acknowledged

    assert failing_at_each_call(lambda store: store.flush(), check) > 100


def test_a_collection_whose_making_failed_is_made_once_by_the_next_try() -> None:
    def check(store: T4DX, fs: SimulatedFileSystem) -> None:
        try:
            store.create_collection("images", dim=3)
            store.create_collection("sounds", dim=4)
        except StoreError:
            return
        found = manifest.load(fs, "s")
        assert found is not None
        assert [row.name for row in found.collections] == ["default", "images", "sounds"]

    assert failing_at_each_call(lambda store: store.create_collection("images", dim=3), check) > 15


@pytest.mark.parametrize("undo", [False, True])
def test_an_undo_is_a_write_of_its_own(undo: bool) -> None:
    """What comes behind it would be checked against a state that is gone, and nothing could undo it."""
    store = opened(SimulatedFileSystem())
    with store.transaction(id="first", undo=True) as tx:
        tx.insert(Item(id="b"))
    before = digest(store)
    head = {"id": "second", "undo": True} if undo else {}

    def second() -> None:
        with store.transaction(**head) as tx:
            tx.undo("first")
            tx.update_fields("b", kappa=1.0)

    with pytest.raises(TransactionError, match="an undo is a write of its own"):
        second()
    assert digest(store) == before


def test_an_interrupt_of_whoever_has_the_turn_at_the_log_leaves_the_turn_to_the_next() -> None:
    """Every call inside of the engine during a sync fails once: the close comes to an end all the same."""
    for at in range(1, 30):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="a"))
        journal = store._journal
        with contextlib.suppress(MemoryError, StoreError), Memory(at):
            journal.sync()
        assert not journal._syncing, f"call {at} kept the turn"
        with contextlib.suppress(StoreError):
            store.close()
