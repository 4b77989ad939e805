"""Publishing and reading the commit point where the disk is full or broken, or a file was renamed by hand."""

from __future__ import annotations

import errno

import pytest
from disks_with_events import FailingDisk
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.errors import CorruptionError, StoreFullError, StorePoisonedError
from t4dm.t4dx import T4DX, Item, Options, manifest
from t4dm.t4dx.manifest import manifest_name

OS = Options(durability="os")


def opened(fs: SimulatedFileSystem) -> T4DX:
    return T4DX.open("store", dim=2, options=OS, clock=lambda: 5.0, fs=fs)


def test_a_manifest_under_the_name_of_another_version_is_refused() -> None:
    fs = SimulatedFileSystem()
    opened(fs).close()
    fs.rename(f"store/{manifest_name(1)}", f"store/{manifest_name(7)}")
    with pytest.raises(CorruptionError, match=r"MANIFEST-0+7: it holds version 1"):
        opened(fs)


@pytest.mark.parametrize("call", ["create", "write", "fsync", "rename"])
def test_a_name_that_found_no_room_can_be_registered_later(call: str) -> None:
    fs = FailingDisk(error=errno.ENOSPC)
    store = opened(fs)
    fs.fails = f"{call} store/MANIFEST"
    with pytest.raises(StoreFullError):
        store.create_collection("images", dim=3)
    assert fs.fails == ""
    assert list(store.collections()) == ["default"]
    store.insert(Item(id="a"))
    store.create_collection("images", dim=3)
    store.insert(Item(id="b", vector=[1.0, 0.0, 0.0], collection="images"))
    with opened(fs.after_crash("all")) as again:
        assert list(again.collections()) == ["default", "images"]
        assert again.count() == 2
        assert again.verify("deep").ok


def test_a_broken_disk_under_a_manifest_stops_the_writes_and_keeps_the_old_one() -> None:
    fs = FailingDisk(error=errno.EIO)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "fsync store/MANIFEST"
    with pytest.raises(StorePoisonedError, match="injected"):
        store.register_edge_type("ECHOES")
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="b"))
    with opened(fs.after_crash("all")) as again:
        assert [item.id for item in again.scan()] == ["a"]
        again.register_edge_type("ECHOES")


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_manifest_with_its_name_but_without_its_sync_is_neither_in_force_nor_not(error: int) -> None:
    fs = FailingDisk(error=error)
    store = opened(fs)
    fs.fails = "fsync dir store"
    with pytest.raises(StorePoisonedError, match="injected"):
        store.create_collection("images", dim=3)
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="a"))
    found = {mode: list(opened(fs.after_crash(mode)).collections()) for mode in ("all", "synced")}
    assert found == {"all": ["default", "images"], "synced": ["default"]}


def test_a_broken_disk_under_a_flush_stops_the_writes_and_loses_nothing() -> None:
    fs = FailingDisk(error=errno.EIO)
    store = opened(fs)
    store.insert(Item(id="a"))
    fs.fails = "create store/segments"
    with pytest.raises(StorePoisonedError, match="injected"):
        store.flush()
    with pytest.raises(StorePoisonedError):
        store.insert(Item(id="b"))
    assert store.count() == 1
    with opened(fs.after_crash("all")) as again:
        assert [item.id for item in again.scan()] == ["a"]
        assert again.verify("deep").ok


def test_no_store_can_be_made_on_a_full_disk_and_it_says_so() -> None:
    fs = SimulatedFileSystem(capacity=100)
    with pytest.raises(StoreFullError, match="store"):
        opened(fs)
    fs.capacity = None
    with opened(fs) as store:
        store.insert(Item(id="a"))


def test_a_store_whose_creation_was_cut_anywhere_can_be_created_again() -> None:
    for step in range(1, 40):
        fs = SimulatedFileSystem(crash_at=step)
        try:
            opened(fs)
        except Crash:
            with opened(fs.after_crash("all")) as again:
                again.insert(Item(id="a"))
                assert again.verify("deep").ok
        else:
            break
    assert step > 12


def test_the_spare_manifest_is_a_courtesy() -> None:
    fs = FailingDisk(error=errno.EIO)
    store = opened(fs)
    fs.fails = "create store/SPARE"
    store.register_edge_type("ECHOES")
    assert fs.fails == ""
    assert not fs.exists(f"store/{manifest.SPARE}")
    store.insert(Item(id="a"))
    with opened(fs.after_crash("all")) as again:
        assert again.count() == 1
