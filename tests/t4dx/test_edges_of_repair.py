"""Repairs of stores of which hardly anything is left, or of which several things are lost at once."""

from __future__ import annotations

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Item, Options, manifest, repair_store, verify_store, wal


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


def opened(fs: SimulatedFileSystem, **options: object) -> T4DX:
    chosen = Options(**{"durability": "os", "idle_marker": 0, **options})
    return T4DX.open("store", dim=2, options=chosen, clock=Ticks(), fs=fs)


def ids(fs: SimulatedFileSystem) -> str:
    assert verify_store(fs, "store", "deep").ok
    with opened(fs) as store:
        return "".join(sorted(item.id for item in store.scan()))


def test_a_store_whose_manifests_are_gone_is_repaired_from_the_spare(fs: SimulatedFileSystem) -> None:
    with opened(fs) as store:
        store.insert(Item(id="a"))
        store.flush()
        store.insert(Item(id="b"))
    for version in manifest.versions(fs, "store"):
        fs.unlink(f"store/{manifest.manifest_name(version)}")
    report = repair_store("store", fs=fs)
    assert report.problems[0] == "store has no manifest"
    assert report.items == 2
    assert ids(fs) == "ab"


def test_a_segment_of_items_alone_that_loses_them_leaves_nothing(fs: SimulatedFileSystem) -> None:
    with opened(fs) as store:
        store.insert_many([Item(id=name) for name in "ab"])
        store.flush()
        store.insert(Item(id="c"))
    found = manifest.load(fs, "store")
    assert found is not None
    fs._file(f"store/{manifest.segment_folder(found.segments[0].id)}/item_kappa.npy").data[-1] ^= 1
    report = repair_store("store", fs=fs)
    assert (report.lost_items, report.lost_edges, report.items) == (2, 0, 1)
    assert ids(fs) == "c"
    repaired = manifest.load(fs, "store")
    assert repaired is not None
    assert [entry.items for entry in repaired.segments] == [1]


def test_all_versions_that_a_lost_update_had_ended_end_again(fs: SimulatedFileSystem) -> None:
    with opened(fs) as store:
        for content in ("old", "new"):
            store.insert_many([Item(id=name, content=content) for name in "abc"])
            store.flush()
    found = manifest.load(fs, "store")
    assert found is not None
    fs.unlink(f"store/deltas/{found.deltas[-1].name}")
    report = repair_store("store", fs=fs)
    assert report.lost_updates == 1
    assert report.actions[-1] == "end 3 versions that newer ones replaced"
    assert ids(fs) == "abc"
    with opened(fs) as store:
        assert {item.content for item in store.scan()} == {"new"}
        assert [item.content for item in store.history("b")] == ["new", "old"]


def test_what_is_lost_of_a_later_log_is_counted_from_there_on(fs: SimulatedFileSystem) -> None:
    store = opened(fs, durability="sync")
    assert store._journal is not None
    store.insert(Item(id="a"))
    store._journal.rotate()
    store.insert(Item(id="b"))
    place = store.stats()["wal_bytes"]
    store.insert(Item(id="c"))
    end = store.stats()["wal_bytes"]
    older = len(fs.read(f"store/{wal.wal_name(1)}").rstrip(b"\0"))
    found = fs.after_crash("all")
    found._file(f"store/{wal.wal_name(2)}").data[place - older - 5] ^= 1  # in the record of b
    report = repair_store("store", fs=found)
    assert report.lost_log_bytes == end - older - wal.FILE_HEADER
    assert report.lost_log_records == 1
    assert ids(found) == "a"
