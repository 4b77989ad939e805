"""Several log files: rotation, what recovery reads, and what it refuses."""

from __future__ import annotations

import errno
import threading

import pytest
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.errors import CorruptionError, StoreFullError, StorePoisonedError
from t4dm.t4dx import T4DX, Item, Options, wal
from t4dm.t4dx.journal import Journal


def opened(fs: SimulatedFileSystem, *, durability: str = "os") -> T4DX:
    options = Options(durability=durability, idle_marker=0)
    return T4DX.open("store", dim=2, options=options, clock=lambda: 5.0, fs=fs)


def journal(store: T4DX) -> Journal:
    assert store._journal is not None
    return store._journal


def log(number: int) -> str:
    return f"store/{wal.wal_name(number)}"


def logs(fs: SimulatedFileSystem) -> list[int]:
    return [number for name in fs.listdir("store") if (number := wal.wal_id(name)) is not None]


def ids(fs: SimulatedFileSystem) -> str:
    with opened(fs) as store:
        assert store.verify("deep").ok
        return "".join(sorted(item.id for item in store.scan()))


def three_logs() -> SimulatedFileSystem:
    """a and b in the first log, c in the second, d in the third."""
    fs = SimulatedFileSystem()
    store = opened(fs)
    for name in "ab-c-d":
        if name == "-":
            journal(store).rotate()
        else:
            store.insert(Item(id=name))
    return fs.after_crash("all")


def test_recovery_reads_the_whole_chain() -> None:
    fs = three_logs()
    assert logs(fs) == [1, 2, 3]
    with opened(fs) as store:
        assert sorted(item.id for item in store.scan()) == ["a", "b", "c", "d"]
        assert store.lsn == 4
        assert list(journal(store).logs()) == [wal.wal_name(n) for n in (1, 2, 3)]
        assert store.stats()["wal_bytes"] == sum(journal(store).logs().values())
    assert ids(fs) == "abcd"


def test_each_header_names_its_predecessor_and_first_lsn() -> None:
    fs = three_logs()
    first, second, third = (wal.read_header(fs.read(log(n))[: wal.FILE_HEADER], "log") for n in (1, 2, 3))
    assert [(info.file_id, info.predecessor, info.first_lsn) for info in (first, second, third)] == [
        (1, 0, 1),
        (2, 1, 3),
        (3, 2, 4),
    ]
    assert (second.predecessor_salt, third.predecessor_salt) == (first.salt, second.salt)


def test_the_old_log_is_synced_and_the_new_one_durable_before_it_takes_a_record() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    start = len(fs.log)
    journal(store).rotate()
    store.insert(Item(id="b"))
    steps = [step for step in fs.log[start:] if "allocate" not in step]
    assert steps == [
        f"fdatasync {log(1)}",
        f"create {log(2)}",
        f"write {log(2)}",  # empty yet
        f"fsync {log(2)}",
        "fsync dir store",
        f"write {log(2)}",  # its header
        f"fdatasync {log(2)}",
        f"write {log(1)}",  # END, which names it
        f"fdatasync {log(1)}",
        f"write {log(2)}",  # b
    ]


def test_prepare_leaves_two_small_syncs_for_the_writers_lock() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    journal(store).prepare()
    start = len(fs.log)
    info = journal(store).rotate()
    assert (info.file_id, info.first_lsn) == (2, 2)
    assert [step.split()[0] for step in fs.log[start:]] == ["write", "fdatasync", "write", "fdatasync"]
    assert journal(store).rotate() == info, "a log without a record is not rotated again"
    store.insert(Item(id="b"))
    journal(store).prepare()
    assert logs(fs) == [1, 2, 3]
    store.close()
    assert logs(fs) == [1, 2], "a file that was made for nothing"
    assert ids(fs) == "ab"


@pytest.mark.parametrize("mode", ["all", "synced", "some"])
def test_a_power_cut_at_any_step_of_a_rotation_loses_nothing_that_was_synced(mode: str) -> None:
    tried = 0
    for step in range(1, 40):
        fs = SimulatedFileSystem()
        store = opened(fs, durability="sync")
        store.insert(Item(id="a"))
        fs.crash_at = fs.calls + step
        acknowledged = "a"
        try:
            for name in "bcd":
                journal(store).prepare()
                journal(store).rotate()
                store.insert(Item(id=name))
                acknowledged += name
            store.flush()
            break
        except Crash:
            pass
        tried += 1
        for seed in range(4 if mode == "some" else 1):
            found = fs.after_crash(mode, seed=seed)
            got = ids(found)
            assert got in (acknowledged, acknowledged + "abcd"[len(acknowledged) : len(acknowledged) + 1])
            with opened(found) as again:  # and the store goes on
                again.insert(Item(id="z"))
                journal(again).rotate()
                again.insert(Item(id="y"))
            assert ids(found) == "".join(sorted(f"{got}yz"))
    assert tried > 25


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_missing_log_is_seen_wherever_it_was(gone: int) -> None:
    fs = three_logs()
    fs.unlink(log(gone))
    with pytest.raises(CorruptionError, match=rf"wal-0+{gone}\.log: .* missing"):
        opened(fs)


def test_swapped_and_replaced_logs_are_seen() -> None:
    fs = three_logs()
    second, third = fs.read(log(2)), fs.read(log(3))
    fs._file(log(2)).data[:], fs._file(log(3)).data[:] = third, second
    with pytest.raises(CorruptionError, match="belongs to another state of the store"):
        opened(fs)
    other = SimulatedFileSystem()
    other.tokens.seed(9)
    with opened(other) as store:
        for name in "xyz":
            store.insert(Item(id=name))
            journal(store).rotate()
    fs = three_logs()
    fs._file(log(2)).data[:] = other.read(log(2))
    with pytest.raises(CorruptionError, match="does not follow the one before it"):
        opened(fs)


@pytest.mark.parametrize("number", [1, 2])
def test_an_older_log_that_was_cut_at_a_record_boundary_is_refused(number: int) -> None:
    fs = three_logs()
    del fs._file(log(number)).data[wal.FILE_HEADER :]
    words = rf"ends at byte {wal.FILE_HEADER}, but .*{number + 1}\.log goes on"
    with pytest.raises(CorruptionError, match=words):
        opened(fs)


@pytest.mark.parametrize("number", [1, 2])
def test_a_flipped_bit_anywhere_in_an_older_log_is_refused(number: int) -> None:
    fs = three_logs()
    used = len(fs.read(log(number)).rstrip(b"\0"))
    for at in range(0, used, 5):
        broken = fs.after_crash("all")
        broken._file(log(number)).data[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptionError):
            opened(broken)


def test_records_that_a_segment_holds_are_skipped() -> None:
    fs = three_logs()
    store = opened(fs)
    kept = {n: fs.read(log(n)) for n in (1, 2, 3)}
    store.flush()
    assert logs(fs) == [4]
    store.insert(Item(id="e"))
    for number, data in kept.items():
        fs.write_new(log(number), data)  # as if the deletion had not reached the disk
    found = fs.after_crash("all")
    assert ids(found) == "abcde"
    assert logs(found) == [4], "they are swept up at the next open"


def test_a_flush_forgets_whole_logs() -> None:
    fs = three_logs()
    with opened(fs) as store:
        store.flush()
        assert list(journal(store).logs()) == [wal.wal_name(4)]
        assert store.stats()["wal_bytes"] == wal.FILE_HEADER
    assert ids(fs) == "abcd"


def test_a_rotation_on_a_full_disk_changes_nothing() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.capacity = fs.used()
    with pytest.raises(StoreFullError):
        journal(store).rotate()
    store.insert(Item(id="b"))
    fs.capacity = None
    journal(store).rotate()
    store.insert(Item(id="c"))
    assert ids(fs.after_crash("all")) == "abc"


def test_a_rotation_whose_sync_fails_poisons_the_store() -> None:
    for step in range(1, 30):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="a"))
        fs.fail_at, fs.error = fs.calls + step, errno.EIO
        try:
            journal(store).rotate()
        except StorePoisonedError:
            calls = fs.calls
            with pytest.raises(StorePoisonedError):
                store.insert(Item(id="b"))
            store.close()
            assert fs.calls == calls, "nothing is tried again"
            assert ids(fs.after_crash("all")) == "a"
        else:
            break
    assert step > 9


def test_a_disk_that_is_full_for_a_moment_during_a_rotation_stops_only_the_rotation() -> None:
    full = 0
    for step in range(1, 30):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="a"))
        fs.fail_at, fs.error = fs.calls + step, errno.ENOSPC
        try:
            journal(store).rotate()
        except StorePoisonedError:  # an fsync of what was acknowledged failed: nobody knows what is there
            assert fs.log[-1] == f"fdatasync {log(1)}"
            assert ids(fs.after_crash("all")) == "a"
            continue
        except StoreFullError:
            full += 1
        else:
            break
        store.insert(Item(id="b"))
        assert journal(store).rotate().first_lsn == 3
        store.insert(Item(id="c"))
        assert ids(fs.after_crash("all")) == "abc"
    assert full > 5


def test_the_first_record_of_a_new_log_may_be_a_transaction_that_was_torn() -> None:
    fs = SimulatedFileSystem()
    options = Options(durability="os", txn_part_bytes=100, idle_marker=0)
    store = T4DX.open("store", dim=2, options=options, fs=fs)
    store.insert(Item(id="a"))
    journal(store).rotate()
    with store.transaction() as tx:
        for n in range(6):
            tx.insert(Item(id=f"{n}", content="x" * 60))
    found = fs.after_crash("all")
    del found._file(log(2)).data[journal(store).size - 5 :]
    with opened(found) as again:
        assert [item.id for item in again.scan()] == ["a"]
        assert journal(again).logs()[wal.wal_name(2)] == wal.FILE_HEADER
        again.insert(Item(id="b"))
    assert ids(found) == "ab"


def test_a_damaged_commit_of_an_acknowledged_transaction_is_refused() -> None:
    fs = SimulatedFileSystem()
    options = Options(durability="os", txn_part_bytes=100, idle_marker=0)
    with T4DX.open("store", dim=2, options=options, fs=fs) as store:
        with store.transaction() as tx:
            for n in range(6):
                tx.insert(Item(id=f"{n}", content="x" * 60))
        commit = store.stats()["wal_bytes"] - wal.RECORD_OVERHEAD
    fs._file("store/" + wal.wal_name(1)).data[commit + 3] ^= 1
    with pytest.raises(CorruptionError, match="below LSN 6 that was synced"):
        opened(fs)


def test_logs_are_forgotten_while_the_writer_goes_on_in_new_ones() -> None:
    """A flush forgets in its own thread; the writer rotates meanwhile."""
    store, faults, done = opened(SimulatedFileSystem()), list[BaseException](), threading.Event()
    live = journal(store)
    live._older = dict.fromkeys(range(-20_000, 0), 1)

    def forgetting() -> None:
        try:
            while not done.is_set():
                live.forget(-20_000)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=forgetting)
    thread.start()
    try:
        for number in range(50):
            store.insert(Item(id=f"{number}"))
            live.rotate()
    finally:
        done.set()
        thread.join()
    assert faults == []
    assert len(live.logs()) == 20_000 + 51, "no rotation was overwritten"
    live.forget(51)
    assert list(live.logs()) == [wal.wal_name(51)]
