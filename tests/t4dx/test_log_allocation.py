"""The log is allocated ahead: sizes stand still, zeros are an end, a full disk is met before a write."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest
from simulated_fs import SimulatedFileSystem

from t4dm.errors import CorruptionError, StoreFullError, StorePoisonedError
from t4dm.t4dx import T4DX, Item, Options, wal
from t4dm.t4dx.fs import LogFile, OsFileSystem

LOG = "store/wal-00000000000000000001.log"


def opened(fs: SimulatedFileSystem, *, durability: str = "os") -> T4DX:
    options = Options(durability=durability, idle_marker=0)
    return T4DX.open("store", dim=2, options=options, clock=lambda: 5.0, fs=fs)


def ids(fs: SimulatedFileSystem) -> list[str]:
    with opened(fs) as store:
        return sorted(item.id for item in store.scan())


def test_a_record_does_not_change_the_size_of_the_file() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    size, used = fs.size(LOG), store.stats()["wal_bytes"]
    for n in range(20):
        store.insert(Item(id=f"{n}", content="x" * 1000))
    assert fs.size(LOG) == size == 64 * 1024
    assert used == wal.FILE_HEADER
    assert 20_000 < store.stats()["wal_bytes"] < 30_000
    for n in range(60):
        store.insert(Item(id=f"{n}", content="x" * 1000))
    assert fs.size(LOG) >= store.stats()["wal_bytes"] > size
    assert len([step for step in fs.log if step.startswith("allocate")]) == 2


def test_on_a_real_disk_too_and_a_close_gives_the_rest_back(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with T4DX.open(path, dim=2, options=Options(durability="os")) as store:
        log = path / wal.wal_name(1)
        size = log.stat().st_size
        store.insert(Item(id="a"))
        assert log.stat().st_size == size
        assert log.read_bytes()[store.stats()["wal_bytes"] :].strip(b"\0") == b""
    assert wal.FILE_HEADER < log.stat().st_size < 1000


def test_a_zero_tail_is_just_the_end() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    for found in (fs.after_crash("all"), fs.after_crash("all")):
        del found._file(LOG).data[store.stats()["wal_bytes"] + 7 :]
        with opened(found) as again:
            assert again.stats()["torn_bytes"] == 0
            assert again.count() == 1


def test_zeros_over_acknowledged_records_are_corruption() -> None:
    fs = SimulatedFileSystem()
    store, edges = opened(fs, durability="sync"), []
    for name in "abcd":
        edges.append(store.stats()["wal_bytes"])
        store.insert(Item(id=name))
    for start, stop in itertools.pairwise(edges):
        broken = fs.after_crash("all")
        broken._file(LOG).data[start:stop] = bytes(stop - start)
        with pytest.raises(CorruptionError, match=rf"damaged at byte {start}, below LSN 3 that was synced"):
            opened(broken)
    store.close()
    broken = fs.after_crash("all")
    broken._file(LOG).data[edges[-1] : edges[-1] + 20] = bytes(20)
    with pytest.raises(CorruptionError, match="below LSN 4 that was synced"):
        opened(broken)


@pytest.mark.parametrize("durability", ["sync", "os"])
def test_after_a_power_cut_a_prefix_is_there_and_all_that_was_synced(durability: str) -> None:
    fs = SimulatedFileSystem()
    store = opened(fs, durability=durability)
    names = [f"{n:02}" for n in range(12)]
    for name in names:
        store.insert(Item(id=name))
    seen = set()
    for seed in range(40):
        found = ids(fs.after_crash("some", seed=seed))
        assert found == names[: len(found)]
        seen.add(len(found))
    assert seen == {12} if durability == "sync" else len(seen) > 2


def test_a_torn_tail_that_was_cut_does_not_come_back() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    used = store.stats()["wal_bytes"]
    found = fs.after_crash("all")
    found._file(LOG).data[used : used + 500] = b"\x55" * 500
    found = found.after_crash("all")
    assert found.size(LOG) > used
    with opened(found) as again:
        assert again.stats()["torn_bytes"] == 500
        after = found.after_crash("synced")
        assert not after.read(LOG)[used:].strip(b"\0")
    assert ids(found) == ["a"]


def test_a_full_disk_is_met_at_the_allocation_and_nothing_is_written() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.capacity, before, calls = fs.used(), fs.read(LOG), len(fs.log)
    with pytest.raises(StoreFullError):
        store.insert(Item(id="b", content="x" * 70_000))
    assert fs.read(LOG) == before
    assert [step.split()[0] for step in fs.log[calls:]] == ["allocate", "allocate"]
    store.insert(Item(id="c", content="x" * 500))  # what was allocated can be used
    fs.capacity += 20_000
    store.insert(Item(id="d", content="x" * 70_000))  # no room for a whole step, but for the record
    assert ids(fs.after_crash("all")) == ["a", "c", "d"]


def writes(fs: SimulatedFileSystem, since: int) -> list[str]:
    return [
        step.split()[0] for step in fs.log[since:] if step.split()[0] in ("write", "allocate", "fdatasync")
    ]


def test_where_each_write_is_synced_the_blocks_ahead_are_written_too() -> None:
    fs = SimulatedFileSystem()
    store, before = opened(fs, durability="sync"), len(fs.log)
    store.insert(Item(id="a"))
    assert writes(fs, before) == ["write", "fdatasync"]
    before = len(fs.log)
    store.insert(Item(id="b", content="x" * 70_000))
    assert writes(fs, before) == ["allocate", "write", "write", "fdatasync"]  # zeros ahead, then the record
    assert fs.size(LOG) == -(-(store.stats()["wal_bytes"] + 256 * 1024) // 4096) * 4096
    before = len(fs.log)
    store.insert(Item(id="c", content="x" * 200_000))
    assert writes(fs, before) == ["write", "fdatasync"]


def test_zeros_that_find_no_room_do_not_fail_the_write() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs, durability="sync")
    first = fs.calls + 2  # the allocation, then the zeros
    fs.fail_at, fs.error = first, errno.ENOSPC
    store.insert(Item(id="a", content="x" * 70_000))
    assert fs.calls > first
    assert ids(fs.after_crash("synced")) == ["a"]


def test_zeros_that_cannot_be_written_refuse_the_write_and_all_after_it() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs, durability="sync")
    store.insert(Item(id="a"))
    fs.fail_at = fs.calls + 2
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="b", content="x" * 70_000))
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="c"))
    assert ids(fs.after_crash("synced")) == ["a"]


class PlainDisk(OsFileSystem):
    """A file system that cannot allocate ahead."""

    def append_to(self, path: str) -> LogFile:
        log = super().append_to(path)
        log.allocate = lambda size: False  # type: ignore[method-assign]
        return log


def test_where_nothing_can_be_allocated_the_log_grows_record_by_record(tmp_path: Path) -> None:
    path, disk = tmp_path / "store", PlainDisk()
    store = T4DX.open(path, dim=2, options=Options(durability="sync", idle_marker=0), fs=disk)
    for n in range(3):
        store.insert(Item(id=f"{n}"))
        assert (path / wal.wal_name(1)).stat().st_size == store.stats()["wal_bytes"]
    with T4DX.open(path, read_only=True) as reader:
        assert reader.count() == 3
    store.close()
