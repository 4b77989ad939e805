"""One fsync for all who appended before it, and none repeated after a failure."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest
from simulated_fs import SimulatedFileSystem

from t4dm.errors import StorePoisonedError
from t4dm.t4dx import T4DX, Item, Options, wal

SECONDS = 20.0  # only a deadlock takes as long


class GroupDisk(SimulatedFileSystem):
    """A disk whose fdatasync of a log calls back before it happens, when it is armed."""

    before: Callable[[], None] | None = None
    syncs = 0

    def _step(self, what, *, torn=None):
        if what.startswith("fdatasync") and self.before is not None:
            self.syncs += 1
            self.before()
        super()._step(what, torn=torn)


def opened(fs: SimulatedFileSystem, **options: object) -> T4DX:
    chosen = Options(**{"durability": "sync", "idle_marker": 0, **options})
    return T4DX.open("store", dim=2, options=chosen, clock=lambda: 5.0, fs=fs)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.001)


def insert_together(store: T4DX, count: int) -> list[BaseException | int]:
    """Insert one item from each of so many threads; what each of them got."""
    results: list[BaseException | int] = []

    def insert(n: int) -> None:
        try:
            results.append(store.insert(Item(id=f"{n}")))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=insert, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    return results


def test_writers_that_wait_share_one_fsync() -> None:
    fs = GroupDisk()
    store = opened(fs)
    fs.before = lambda: until(lambda: store.lsn == 8)  # the disk takes its time, and the others append
    assert sorted(insert_together(store, 8)) == list(range(1, 9))
    assert fs.syncs == 2, "the first for the first writer, the second for the other seven"
    assert store.stats()["durable_lsn"] == 8
    assert len(list(opened(fs.after_crash("synced")).scan())) == 8


def test_a_writer_alone_pays_one_fsync_each_time() -> None:
    fs = GroupDisk()
    store = opened(fs)
    fs.before = lambda: None
    for n in range(3):
        store.insert(Item(id=f"{n}"))
    assert fs.syncs == 3


def test_a_failed_fsync_fails_all_who_wait_for_it_and_is_never_repeated() -> None:
    fs = GroupDisk()
    store = opened(fs)

    def fail() -> None:
        until(lambda: store.lsn == 4)
        raise OSError(errno.EIO, "the disk is gone")

    fs.before = fail
    results = insert_together(store, 4)
    assert [type(result) for result in results] == [StorePoisonedError] * 4
    assert "the disk is gone" in str(results[0])
    with pytest.raises(StorePoisonedError):
        store.flush()
    store.close()
    assert fs.syncs == 1


def test_the_interval_level_syncs_within_its_interval_without_being_asked() -> None:
    fs = GroupDisk()
    store = opened(fs, durability="interval", sync_interval=0.01)
    fs.before = lambda: None
    for n in range(20):
        store.insert(Item(id=f"{n}"))
    until(lambda: store.stats()["durable_lsn"] == 20)
    assert 1 <= fs.syncs <= 20
    store.close()


def test_an_idle_log_is_marked_so_that_rot_in_its_last_batch_is_seen() -> None:
    for durability in ("sync", "interval"):
        fs = GroupDisk()
        store = opened(fs, durability=durability, sync_interval=0.001, idle_marker=0.02)
        store.insert(Item(id="a"))
        used = store.stats()["wal_bytes"]
        until(lambda store=store, used=used: store.stats()["wal_bytes"] == used + wal.RECORD_OVERHEAD)
        time.sleep(0.05)
        assert store.stats()["wal_bytes"] == used + wal.RECORD_OVERHEAD, "once is enough"
        store.insert(Item(id="b"))
        store.close()
        with opened(fs.after_crash("all")) as again:
            assert again.count() == 2


def test_the_os_level_never_syncs_and_a_poisoned_thread_does_not_go_on() -> None:
    fs = GroupDisk()
    store = opened(fs, durability="os", idle_marker=0.001)
    fs.before = lambda: None
    store.insert(Item(id="a"))
    time.sleep(0.02)
    assert fs.syncs == 0
    fs = GroupDisk()
    store = opened(fs, durability="interval", sync_interval=0.001, idle_marker=0.002)

    def fail() -> None:
        raise OSError(errno.EIO, "the disk is gone")

    fs.before = fail
    store.insert(Item(id="a"))
    until(lambda: store.stats()["poisoned"] != "")
    time.sleep(0.02)
    assert fs.syncs == 1
    with pytest.raises(StorePoisonedError, match="the disk is gone"):
        store.insert(Item(id="b"))
