"""The log: what is cut, what is refused, and what a torn tail leaves."""

from __future__ import annotations

import errno
import random

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem

from t4dm.errors import CorruptionError
from t4dm.t4dx import T4DX, Item, Options, ops, wal
from t4dm.t4dx.logfile import LogWriter
from t4dm.t4dx.logread import LogChain, Tail

DIM = 3
SALT = b"saltsalt"
LOG = "store/wal-00000000000000000001.log"


def record(lsn: int, *, durable: int = 0, payload: bytes = b"payload", count: int = 1) -> bytes:
    return wal.encode(wal.Kind.BATCH, lsn, count, durable, payload, SALT)


def log(*records: bytes) -> bytes:
    return b"".join((wal.file_header(wal.WalInfo(1, 0, 1, SALT)), *records))


def read(data: bytes) -> tuple[list[int], Tail]:
    """LSNs of the records in a log, and where it ends."""
    fs = SimulatedFileSystem()
    fs.mkdir("store")
    fs.write_new(LOG, data)
    chain, found = LogChain(fs, "store", 1), []
    while (record := chain.next()) is not None:
        found.append(record.lsn)
    return found, chain.tail(chain.reader.place)


def test_a_header_is_120_bytes_and_a_record_36_longer_than_its_payload() -> None:
    # magic 8, version 2, algorithm 2, ids and lsn 3 * 8, salts 2 * 8, macs 2 * 32, crc 4: 120
    assert wal.FILE_HEADER == len(wal.file_header(wal.WalInfo(1, 0, 1, SALT))) == 120
    # magic 2, version 1, kind 1, length 4, lsn 8, ops 4, durable 8, header crc 4, record crc 4: 36
    assert len(record(1, payload=b"")) == 36
    assert len(record(1, payload=b"payload")) == 43


def test_lsns_run_on_by_the_number_of_operations() -> None:
    found, tail = read(log(record(1, count=3), record(4), record(5)))
    assert found == [1, 4, 5]
    assert (tail.torn, tail.place.lsn) == (0, 6)


def test_a_gap_in_the_lsns_ends_the_log() -> None:
    found, tail = read(log(record(1), record(3)))
    assert found == [1]
    assert tail.torn == len(record(3))


def test_a_damaged_record_above_the_durable_lsn_is_a_torn_tail() -> None:
    broken = bytearray(record(2))
    broken[-1] ^= 1
    assert read(log(record(1, durable=0), bytes(broken), record(3, durable=1)))[0] == [1]


def test_a_damaged_record_below_the_durable_lsn_of_a_later_one_is_refused() -> None:
    broken = bytearray(record(2))
    broken[-1] ^= 1
    with pytest.raises(CorruptionError, match=r"damaged at byte \d+, below LSN 2 that was synced"):
        read(log(record(1), bytes(broken), record(3, durable=2)))


def test_a_flipped_length_does_not_swallow_the_records_behind_it() -> None:
    broken = bytearray(record(2))
    broken[4] ^= 0x40
    with pytest.raises(CorruptionError, match="below LSN 2"):
        read(log(record(1), bytes(broken), record(3, durable=2)))


def test_a_record_of_another_file_is_not_taken_for_one_of_this() -> None:
    alien = wal.encode(wal.Kind.BATCH, 2, 1, 1, b"payload", b"othersal")
    assert read(log(record(1), alien))[0] == [1]


@pytest.mark.parametrize("byte", range(wal.FILE_HEADER))
def test_a_damaged_file_header_is_refused(byte: int) -> None:
    data = bytearray(log(record(1)))
    data[byte] ^= 1
    with pytest.raises(CorruptionError, match="the log's header"):
        read(bytes(data))


def test_operations_survive_their_bytes() -> None:
    numbers = np.arange(16, dtype=np.float64).reshape(2, 8)
    insert = ops.InsertItems(
        ["a", "b"],
        ["x", "ä"],
        ["episodic", "semantic"],
        ["", "s"],
        [b"", b"\x80"],
        numbers,
        np.array([True, False]),
        np.ones((1, DIM), np.float32),
    )
    back = ops.unpack(ops.pack([insert, ops.DeleteItems(["a"])]), path="log")
    assert isinstance(back[0], ops.InsertItems)
    assert back[0].contents == ["x", "ä"]
    assert back[0].numbers.tolist() == numbers.tolist()
    assert back[0].has.tolist() == [True, False]
    assert back[1] == ops.DeleteItems(["a"])


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(CorruptionError, match="unknown operation"):
        ops.unpack(b"\x91\x91\x63", path="log")


def written(count: int, *, durability: str) -> tuple[SimulatedFileSystem, list[int]]:
    """A log of inserts in a store that was killed, and the size of the file after each."""
    fs = SimulatedFileSystem()
    options = Options(durability=durability, idle_marker=0)
    store = T4DX.open("store", dim=DIM, options=options, clock=lambda: 5.0, fs=fs)
    sizes = [store.stats()["wal_bytes"]]
    for number in range(count):
        store.insert(Item(id=f"i{number}", content="c" * number))
        sizes.append(store.stats()["wal_bytes"])
    return fs.after_crash("all"), sizes


def reopened(fs: SimulatedFileSystem, data: bytes) -> list[str]:
    fs = fs.after_crash("all")
    fs._file(LOG).data[:] = data
    with T4DX.open("store", options=Options(durability="os"), fs=fs) as store:
        ids = sorted((item.id for item in store.scan()), key=lambda name: int(name[1:]))
        store.insert(Item(id="i999"))
    with T4DX.open("store", options=Options(durability="os"), fs=fs) as store:
        assert store.count() == len(ids) + 1
        assert store.verify("deep").ok
    return ids


def test_a_log_cut_anywhere_gives_the_whole_records_before_the_cut() -> None:
    fs, sizes = written(24, durability="os")
    data, rng = fs.read(LOG)[: sizes[-1]], random.Random(0)
    edges = [size + step for size in sizes[1:-1:3] for step in (-1, 0, 1)]
    for cut in [*edges, *(rng.randrange(sizes[0], len(data)) for _ in range(30))]:
        whole = sum(size <= cut for size in sizes[1:])
        assert reopened(fs, data[:cut]) == [f"i{number}" for number in range(whole)]


@pytest.mark.parametrize(
    "tail", [bytes(300), b"\xff" * 300, b"TM\x01\x01" * 40], ids=["zeros", "ones", "magic"]
)
def test_a_garbage_tail_is_cut(tail: bytes) -> None:
    fs, sizes = written(5, durability="os")
    data = fs.read(LOG)[: sizes[-1]]
    assert reopened(fs, data + tail) == ["i0", "i1", "i2", "i3", "i4"]
    assert reopened(fs, data[: sizes[3] - 4] + tail) == ["i0", "i1"]


def test_a_duplicated_last_record_is_not_applied_twice() -> None:
    fs, sizes = written(5, durability="os")
    data = fs.read(LOG)[: sizes[-1]]
    assert reopened(fs, data + data[sizes[4] :]) == ["i0", "i1", "i2", "i3", "i4"]


def test_every_flipped_byte_of_a_synced_log_is_refused_or_touches_only_the_last_record() -> None:
    fs, sizes = written(12, durability="sync")
    data, rng = fs.read(LOG)[: sizes[-1]], random.Random(1)
    everything = [f"i{number}" for number in range(12)]
    for at in [*range(sizes[0], sizes[1]), *(rng.randrange(sizes[0], len(data)) for _ in range(30))]:
        broken = bytearray(data)
        broken[at] ^= 1 << rng.randrange(8)
        if at < sizes[-2]:
            with pytest.raises(CorruptionError, match="that was synced"):
                reopened(fs, bytes(broken))
        else:  # rot in the very last batch looks like a torn tail; a clean close adds a marker against it
            assert reopened(fs, bytes(broken)) == everything[:-1]


def test_after_a_clean_close_even_rot_in_the_last_batch_is_refused() -> None:
    fs = SimulatedFileSystem()
    with T4DX.open("store", dim=DIM, options=Options(durability="os"), fs=fs) as store:
        store.insert(Item(id="a"))
        start = store.stats()["wal_bytes"]
        store.insert(Item(id="b", content="content"))
    broken = bytearray(fs.read(LOG))
    broken[start + 60] ^= 1
    with pytest.raises(CorruptionError, match="below LSN 2"):
        reopened(fs, bytes(broken))


def test_a_second_session_also_ends_its_log_with_a_marker() -> None:
    fs = SimulatedFileSystem()
    for name in "ab":
        with T4DX.open("store", dim=DIM, options=Options(durability="os"), fs=fs) as store:
            start = store.stats()["wal_bytes"]
            store.insert(Item(id=name, content="content"))
    broken = bytearray(fs.read(LOG))
    broken[start + 60] ^= 1
    with pytest.raises(CorruptionError, match="below LSN 2"):
        reopened(fs, bytes(broken))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([(wal.Kind.PART, 1, 1)], "a PART record at byte 120 has no place there"),
        ([(wal.Kind.COMMIT, 1, 0)], "a COMMIT record at byte 120 has no place there"),
        ([(wal.Kind.BEGIN, 1, 0), (wal.Kind.BATCH, 1, 1)], "a BATCH record at byte 157 has no place"),
        ([(wal.Kind.BEGIN, 1, 0), (wal.Kind.BEGIN, 1, 0)], "a BEGIN record at byte 157 has no place"),
        ([(wal.Kind.BATCH, 1, 3)], "the record at byte 120 ends at LSN 3, its content at 0"),
    ],
)
def test_whole_records_in_an_order_that_nobody_writes_are_refused(
    records: list[tuple[wal.Kind, int, int]], words: str
) -> None:
    fs = SimulatedFileSystem()
    T4DX.open("store", dim=DIM, options=Options(durability="os"), fs=fs).close()
    salt = wal.read_header(fs.read(LOG)[: wal.FILE_HEADER], LOG).salt
    for kind, lsn, count in records:  # each with a payload of one byte: no operation
        fs._file(LOG).data += wal.encode(kind, lsn, count, 0, b"\x90", salt)
    with pytest.raises(CorruptionError, match=words):
        T4DX.open("store", fs=fs)


def test_a_failed_append_leaves_no_half_record() -> None:
    fs = SimulatedFileSystem()
    fs.mkdir("store")
    writer = LogWriter.create(fs, "store", wal.WalInfo(1, 0, 1, SALT))
    writer.append(wal.Kind.BATCH, 1, 1, 0, b"one")
    fs.fail_at, fs.error = fs.calls + 1, errno.ENOSPC
    with pytest.raises(OSError, match="injected"):
        writer.append(wal.Kind.BATCH, 2, 1, 0, b"two")
    assert writer.intact
    assert read(fs.read(LOG))[0] == [1]
