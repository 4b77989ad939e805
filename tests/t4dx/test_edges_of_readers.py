"""Readers whose store is replaced under them, and writers who change it while it is looked at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Item, Options, manifest, verify_folder

OS = Options(durability="os")


def opened(fs: SimulatedFileSystem, **options: object) -> T4DX:
    return T4DX.open("store", dim=2, options=OS, clock=Ticks(), fs=fs, **options)


def ids(store: T4DX) -> str:
    return "".join(sorted(item.id for item in store.scan()))


def test_a_reader_of_a_folder_that_was_put_back_from_elsewhere_reads_what_is_there_now() -> None:
    fs, other = SimulatedFileSystem(), SimulatedFileSystem()
    other.tokens.seed(9)
    for disk, names in ((fs, "ab"), (other, "xyz")):
        with opened(disk) as store:
            store.insert_many([Item(id=name) for name in names])
    reader = opened(fs, read_only=True)
    before = reader.snapshot()
    fs.root.entries["store"] = other.root.entries["store"]
    reader.refresh()
    assert ids(reader) == "xyz"
    assert sorted(item.id for item in before.scan()) == ["a", "b"]


class WatchedDisk(SimulatedFileSystem):
    """Somebody acts whenever a part of a file named so is read."""

    name = ""
    act: Callable[[], object]

    def read_range(self, path, at, size):
        if self.name and self.name in path and at == 0:
            self.act()
        return super().read_range(path, at, size)


@pytest.fixture
def damaged() -> tuple[WatchedDisk, T4DX]:
    """A writer's disk with a column that rotted behind its back; what it holds itself is right."""
    fs = WatchedDisk()
    store = opened(fs)
    store.insert_many([Item(id=name, kappa=0.5) for name in "ab"])
    store.flush()
    assert store.column("kappa").tolist() == [0.5, 0.5]
    rot(fs)
    return fs, store


def rot(fs: SimulatedFileSystem) -> None:
    found = manifest.load(fs, "store")
    assert found is not None
    fs._file(f"store/{manifest.segment_folder(found.segments[0].id)}/item_kappa.npy").data[-1] ^= 1


def test_a_problem_of_files_that_a_writer_has_replaced_meanwhile_is_none(
    damaged: tuple[WatchedDisk, T4DX],
) -> None:
    fs, store = damaged
    assert not verify_folder("store", fs=fs).ok

    def rewrite() -> None:
        fs.name = ""
        store.insert(Item(id="c"))
        store.compact()

    fs.name, fs.act = "item_kappa", rewrite
    assert verify_folder("store", fs=fs).ok
    assert fs.name == ""


def test_a_store_that_changes_whenever_it_is_looked_at_is_looked_at_twenty_times(
    damaged: tuple[WatchedDisk, T4DX],
) -> None:
    fs, store = damaged
    looks = []

    def rewrite_and_rot() -> None:
        looks.append(store.insert(Item(id=f"{len(looks)}")))
        store.compact()
        rot(fs)

    fs.name, fs.act = "item_kappa", rewrite_and_rot
    [problem] = verify_folder("store", fs=fs).problems
    assert "item_kappa.npy: its checksum is wrong" in problem
    assert len(looks) == 20
