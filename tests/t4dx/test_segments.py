"""Segments: built as whole arrays from views, read back by id and by row, checked block by block."""

from __future__ import annotations

import gc
import io
import random
import weakref
import zlib
from itertools import pairwise

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import CorruptionError
from t4dm.t4dx import T4DX, Edge, Item, Options, blobs, building, files
from t4dm.t4dx.memtable import ragged
from t4dm.t4dx.segment import id_hash


def test_a_header_is_read_like_numpy_reads_it() -> None:
    for column in (np.zeros(0), np.arange(7, dtype=np.int32), np.ones((3, 2), np.float32), np.ones(2, bool)):
        buffer = io.BytesIO()
        np.save(buffer, column)
        data = blobs.npy_bytes(column)
        assert data == buffer.getvalue()
        found, _ = blobs.parse(memoryview(data))
        assert found.dtype == column.dtype
        assert np.array_equal(found, column)
    with pytest.raises(ValueError, match="plain dtype"):
        blobs.parse(memoryview(b"something else"))


def test_a_block_is_checked_when_it_is_touched_and_not_before() -> None:
    rows = np.arange(blobs.BLOCK, dtype=np.int64).reshape(-1, 64)  # eight blocks of data
    data = bytearray(blobs.npy_bytes(rows))
    sums = np.array(
        [zlib.crc32(data[at : at + blobs.BLOCK]) for at in range(0, len(data), blobs.BLOCK)], np.uint32
    )
    data[-1] ^= 1
    blob = blobs.Blob("a file", np.frombuffer(bytes(data), np.uint8), lambda: sums)
    assert np.array_equal(blob.rows(5, 7), rows[5:7])
    assert np.array_equal(blob.rows(600, 601), rows[600:601])
    with pytest.raises(CorruptionError, match="a file: its checksum is wrong"):
        blob.rows(len(rows) - 1, len(rows))
    with pytest.raises(CorruptionError):
        blob.whole()
    assert np.array_equal(blob.rows(0, 1), rows[:1])


def test_strings_are_moved_without_a_loop() -> None:
    texts = ragged([b"a", b"", b"long one", b"x"])
    chosen = building.gather(texts, np.array([2, 0, 2, 1]))
    both = building.joined([chosen, texts])
    ends = both.ends.tolist()
    found = [both.blob.tobytes()[lo:hi] for lo, hi in pairwise(ends)]
    assert found == [b"long one", b"a", b"long one", b"", b"a", b"", b"long one", b"x"]


def test_ids_of_one_hash_are_told_apart() -> None:
    one, two = "plumless", "buckeroo"  # a well-known pair
    assert id_hash(one.encode()) == id_hash(two.encode())
    store = T4DX.open("s", dim=2, options=Options(durability="os"), clock=Ticks(), fs=SimulatedFileSystem())
    store.insert_many([Item(id=two, content="two"), Item(id="z")], [Edge(one, two, "CAUSES")])
    store.flush()
    assert store.get(one) is None
    store.insert(Item(id=one, content="one"), [Edge(two, one, "PART_OF")])
    for step in (store.flush, store.compact):
        step()
        assert [store.get(name).content for name in (one, two)] == ["one", "two"]
        assert [(e.source, e.type) for e in store.edges(target=two)] == [(one, "CAUSES")]
        assert [(e.source, e.type) for e in store.edges(target=one)] == [(two, "PART_OF")]
        assert store.verify("deep").ok


def test_the_same_rows_give_the_same_files() -> None:
    def made() -> SimulatedFileSystem:
        fs, rng = SimulatedFileSystem(), random.Random(1)
        store = T4DX.open("s", dim=2, options=Options(durability="os"), clock=Ticks(), fs=fs)
        for n in range(30):
            edges = [Edge(f"{n}", f"{rng.randrange(30)}", "CAUSES")]
            store.insert(Item(id=f"{n}", vector=np.ones(2), session=f"s{n % 3}"), edges)
            if n % 10 == 9:
                store.flush()
        store.compact()
        return fs

    one, two = made(), made()
    [folder] = one.listdir("s/segments")
    names = one.listdir(f"s/segments/{folder}")
    assert [one.read(f"s/segments/{folder}/{name}") for name in names] == [
        two.read(f"s/segments/{folder}/{name}") for name in names
    ]


def test_opening_reads_no_column_and_a_get_only_its_own() -> None:
    fs = SimulatedFileSystem()
    with T4DX.open("s", dim=2, options=Options(durability="os"), clock=Ticks(), fs=fs) as store:
        store.insert_many([Item(id=f"{n}", vector=np.ones(2), content="c") for n in range(100)])
        store.flush()
    with T4DX.open("s", read_only=True, fs=fs) as store:
        part = store._cut.layout.parts[1]
        assert all(column._base is None for name, column in part.items.items() if name != "alive")
        assert store.get("5").content == "c"
        assert part.items["kappa"]._base is not None
        assert part.edges["weight"]._base is None
        assert store.get("none") is None


def test_a_writing_that_is_given_up_leaves_the_pulse_to_say_so() -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    fs = SimulatedFileSystem()
    fs.mkdir("s/segments")
    with pytest.raises(Stop):
        files.write_segment(fs, "s", 1, building.build([]), folded=0, pulse=stop)
    entry = files.write_segment(fs, "s", 2, building.build([]), folded=0)
    assert (entry.items, entry.edges) == (0, 0)


def test_a_merged_segment_is_let_go_without_the_garbage_collector() -> None:
    fs = SimulatedFileSystem()
    gc.disable()  # it would unmap the old files whenever it likes, in the thread of a writer
    try:
        with T4DX.open("s", dim=2, fs=fs) as store:
            for name in ("a", "b"):
                store.insert(Item(id=name, vector=np.ones(2)), [Edge(name, "c", "CAUSES")])
                store.flush()
            assert store.search(np.ones(2), 2).ids == ["a", "b"]
            assert store.traverse_ids("a") == ["c"]
            assert store.update_edge_weight("a", "c", 0.25, edge_type="CAUSES")
            olds = [weakref.ref(draft.source) for draft in store._state.segments]
            store.compact()
            assert store.get("a").id == "a"
            assert [old() for old in olds] == [None, None]
    finally:
        gc.enable()


def test_the_filter_of_an_id_denies_none_that_is_there_and_most_that_are_not() -> None:
    with T4DX.open("s", dim=2, fs=SimulatedFileSystem()) as store:
        store.insert_many([Item(id=f"there-{n}") for n in range(500)])
        store.flush()
        [source] = [draft.source for draft in store._state.segments]
        buckets, shift = source._buckets
        assert all(buckets[id_hash(b"there-%d" % n) >> shift] >= 0 for n in range(500))
        passed = sum(buckets[id_hash(b"absent-%d" % n) >> shift] >= 0 for n in range(2000))
        assert len(buckets) == 1024
        assert 0 < passed < 2000 * 500 / len(buckets)  # 500 ids in 1024 places: 39 % go on to the hashes
        assert all(store.get(f"there-{n}") is not None for n in range(500))
        assert not any(store.get(f"absent-{n}") for n in range(2000))
