"""What a log may meet besides records: another store's log, a torn transaction, a disk that fails once."""

from __future__ import annotations

import errno

import msgpack
import pytest
from disks_with_events import FailingDisk
from simulated_fs import SimulatedFileSystem

from t4dm.errors import CorruptionError, StoreFullError, StorePoisonedError
from t4dm.t4dx import T4DX, Item, Options, backup_store, manifest, ops, verify_store, wal
from t4dm.t4dx.journal import Journal
from t4dm.t4dx.logread import LogChain
from t4dm.t4dx.wal import Record

LOG = "store/wal-00000000000000000001.log"


def opened(fs: SimulatedFileSystem, **options: object) -> T4DX:
    chosen = Options(**{"durability": "os", "idle_marker": 0, **options})
    return T4DX.open("store", dim=2, options=chosen, clock=lambda: 5.0, fs=fs)


def journal(store: T4DX) -> Journal:
    assert store._journal is not None
    return store._journal


def ids(store: T4DX) -> str:
    return "".join(sorted(item.id for item in store.scan()))


def test_the_first_log_of_another_store_is_refused() -> None:
    fs, other = SimulatedFileSystem(), SimulatedFileSystem()
    other.tokens.seed(9)
    for disk, name in ((fs, "a"), (other, "b")):
        with opened(disk) as store:
            store.insert(Item(id=name))
    fs._file(LOG).data[:] = other.read(LOG)
    with pytest.raises(CorruptionError, match=r"wal-0+1\.log: this log belongs to another state"):
        opened(fs)


def test_a_log_that_begins_behind_a_hole_is_refused() -> None:
    fs = SimulatedFileSystem()
    with opened(fs) as store:
        store.insert_many([Item(id="a"), Item(id="b")])
        store.flush()
    found = manifest.load(fs, "store")
    assert found is not None
    assert found.flushed_lsn == 1
    manifest.publish(fs, "store", found.next(flushed_lsn=0))
    with pytest.raises(CorruptionError, match=r"wal-0+2\.log: this log belongs to another state"):
        opened(fs)


def torn_transaction() -> SimulatedFileSystem:
    """a was inserted; a transaction of b, c and d lost its COMMIT."""
    fs = SimulatedFileSystem()
    store = opened(fs, txn_part_bytes=100)
    store.insert(Item(id="a"))
    with store.transaction() as tx:
        for name in "bcd":
            tx.insert(Item(id=name, content="x" * 60))
    used = store.stats()["wal_bytes"]
    found = fs.after_crash("all")
    del found._file(LOG).data[used - wal.RECORD_OVERHEAD :]
    return found


def test_a_torn_transaction_is_no_damage_and_is_not_in_a_backup() -> None:
    fs = torn_transaction()
    assert verify_store(fs, "store", "full").problems == ()
    assert backup_store("store", "copy", fs=fs) == 1
    with T4DX.open("copy", fs=fs) as copy:
        assert ids(copy) == "a"
        assert copy.verify("deep").ok


LARGE = Item(id="b", content="x" * 300_000)  # more than was allocated ahead


def test_a_log_that_cannot_grow_takes_no_more_writes() -> None:
    fs = FailingDisk(error=errno.EIO)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "allocate"
    with pytest.raises(StorePoisonedError, match="injected"):
        store.insert(LARGE)
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="c"))
    assert ids(store) == "a"
    assert ids(opened(fs.after_crash("all"))) == "a"


def test_a_log_that_cannot_grow_by_a_whole_step_takes_what_there_is_room_for() -> None:
    fs = FailingDisk(error=errno.ENOSPC)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "allocate"
    store.insert(LARGE)
    assert fs.fails == ""
    assert fs.size(LOG) == store.stats()["wal_bytes"], "nothing ahead"
    assert ids(opened(fs.after_crash("all"))) == "ab"


def test_the_next_log_cannot_be_made_on_a_full_disk_and_can_be_when_there_is_room() -> None:
    fs = FailingDisk(error=errno.ENOSPC)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "create"
    with pytest.raises(StoreFullError):
        journal(store).prepare()
    store.insert(Item(id="b"))
    journal(store).prepare()
    assert journal(store).rotate().first_lsn == 3
    store.insert(Item(id="c"))
    assert ids(opened(fs.after_crash("all"))) == "abc"


def test_the_next_log_cannot_be_made_on_a_broken_disk_and_no_write_goes_on() -> None:
    fs = FailingDisk(error=errno.EIO)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "create"
    with pytest.raises(StorePoisonedError):
        journal(store).prepare()
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="b"))
    assert ids(store) == "a"
    assert ids(opened(fs.after_crash("all"))) == "a"


def test_a_marker_that_cannot_be_written_is_left_out_and_tried_again() -> None:
    fs = FailingDisk(error=errno.ENOSPC)
    store = opened(fs)
    store.insert(Item(id="a"))
    journal(store).sync()
    used = store.stats()["wal_bytes"]
    fs.fails = "write"
    journal(store).mark()
    assert fs.fails == ""
    assert store.stats()["wal_bytes"] == used
    journal(store).mark()
    assert store.stats()["wal_bytes"] == used + wal.RECORD_OVERHEAD
    store.insert(Item(id="b"))
    assert ids(opened(fs.after_crash("all"))) == "ab"


def test_a_large_update_is_logged_in_parts_and_replayed_whole() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs, txn_part_bytes=300)
    store.insert_many([Item(id=f"i{n}") for n in range(20)])
    before, used = store.lsn, store.stats()["wal_bytes"]
    store.update_many([f"i{n}" for n in range(0, 20, 2)], importance=0.25)
    assert store.lsn == before + 1, "one operation, whatever its number of parts"
    kinds = [record.kind for record in wal_records(fs, used)]
    assert kinds == [wal.Kind.BEGIN, *[wal.Kind.PART] * 3, wal.Kind.COMMIT]  # of 64 bytes a row, 4 in each
    with opened(fs.after_crash("all")) as again:
        assert again.lsn == store.lsn
        assert {item.id for item in again.scan() if item.importance == 0.25} == {
            f"i{n}" for n in range(0, 20, 2)
        }


def wal_records(fs: SimulatedFileSystem, start: int) -> list[Record]:
    """The records of the first log that begin at or behind an offset."""
    chain, found = LogChain(fs, "store", 1), []
    while (record := chain.next()) is not None:
        found.append(record)
    return [record for record in found if record.start >= start]


@pytest.mark.parametrize("inner", [[7, ["a"]], [9, ["a"], ["b"], ["CAUSES"]]])
def test_a_restore_of_what_is_no_insert_is_refused(inner: list[object]) -> None:
    with pytest.raises(CorruptionError, match="unknown operation"):
        ops.unpack(msgpack.packb([[11, [1], inner]]), path="log")


def test_what_undoes_a_transaction_is_refused_where_it_cannot_be_read() -> None:
    fs = SimulatedFileSystem()
    journal(opened(fs)).append([ops.Remember("night", 0, 3, 1.0, b"no zlib")], first=1)
    with pytest.raises(CorruptionError, match="what undoes a transaction cannot be read"):
        opened(fs.after_crash("all"))
