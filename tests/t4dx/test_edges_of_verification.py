"""What `verify` finds in files whose checksums are right, and in a folder that is hardly a store."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from forged_files import forge_column, forge_delta
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import BackupError, CorruptionError, OptionError, StoreMissingError
from t4dm.t4dx import T4DX, Edge, Item, Options, backup_store, manifest, verify_folder, verify_store

OS = Options(durability="os")
LOG = "store/wal-00000000000000000001.log"
INF = float("inf")


@pytest.fixture
def fs() -> SimulatedFileSystem:
    """One segment: a of LSN 1 and 3, b of LSN 1, both with vectors, and edges a -> b, b -> a of LSN 2."""
    disk = SimulatedFileSystem()
    with opened(disk) as store:
        with store.transaction() as tx:
            tx.insert_many([Item(id=name, vector=[1.0, 0.0]) for name in "ab"])
            tx.insert_many([], [Edge("a", "b", "CAUSES"), Edge("b", "a", "CAUSES")])
            tx.insert(Item(id="a", vector=[0.0, 1.0]))
        store.flush()
    assert verify_store(disk, "store", "deep").ok
    return disk


def opened(disk: SimulatedFileSystem) -> T4DX:
    return T4DX.open("store", dim=2, options=OS, clock=Ticks(), fs=disk)


def problems(fs: SimulatedFileSystem) -> str:
    assert verify_store(fs, "store", "full").ok, "the checksums fit"
    return "; ".join(verify_store(fs, "store", "deep").problems)


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("item_type", [0, 9, 0], "segment 1 of 1: a row has item type 9, there are 3"),
        ("item_vec_row", [0, 1, 5], "an item points behind the last vector of 'default'"),
        ("item_vec_row", [0, 1, 1], "two items share a vector of 'default'"),
        ("edge_weight", [0.5, 2.0], "an edge weight lies outside of [0, 1]"),
        ("item_valid_until", [INF, 5.0, INF], "a row has valid_until before valid_from"),
        ("edge_record_until", [INF, 5.0], "a row has record_until before record_time"),
        ("item_seq", [3, 1, 1], "its items are not in the order of their LSNs"),
        ("item_seq", [1, 1, 1], "item 'a' of LSN 1 lies in two places"),
        ("item_record_until", [INF, INF, INF], "item 'a' has two current versions"),
        ("item_record_until", [9999.0, INF, INF], "item 'a' has two versions that were believed at once"),
        ("id_rows", [0, 1, 2], "item 'a' is not found where it lies"),
        ("in_rows", [1, 1], "the incoming edges of 'a' are not found where they lie"),
        ("out_starts", [0, 0, 2], "the outgoing edges of 'a' are not found where they lie"),
        ("out_starts", [0, 0, 2], "the edges 'a' -> 'b' are not found where they lie"),
    ],
)
def test_deep_finds_what_cannot_be(
    fs: SimulatedFileSystem, column: str, values: list[float], found: str
) -> None:
    forge_column(fs, column, values)
    assert found in problems(fs)


def put(field: str, place: int, value: Any) -> Any:
    """A change of the first entry on a field in a delta file."""
    return lambda content: content["items" if field == "kappa" else "edges"][field][place].__setitem__(
        0, value
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (put("kappa", 0, "z"), "kappa of item 'z' of LSN 1, which no segment holds"),
        (put("kappa", 1, 2), "kappa of item 'b' of LSN 2, which no segment holds"),
        (put("weight", 3, 1), "weight of edge ('a', 'b', 'CAUSES') of LSN 1, which no segment holds"),
    ],
)
def test_deep_finds_an_overlay_on_what_no_segment_holds(
    fs: SimulatedFileSystem, change: Any, found: str
) -> None:
    with opened(fs) as store:
        store.update_fields("b", kappa=0.5)
        store.update_edge_weight("a", "b", 0.25, edge_type="CAUSES")
        store.flush()
    forge_delta(fs, change)
    assert found in problems(fs)


def test_deep_compares_the_files_with_the_state_in_use(fs: SimulatedFileSystem) -> None:
    with opened(fs) as store:
        assert store.verify("deep").ok
        forge_column(fs, "item_kappa", [0.0, 0.5, 0.0])
        assert store.verify("full").ok
        [problem] = store.verify("deep").problems
    assert problem == "the files rebuild another state (LSN 3) than the one in use (LSN 3)"


def test_verify_wants_a_level_that_there_is_and_a_store(fs: SimulatedFileSystem) -> None:
    with pytest.raises(OptionError, match="no verify level 'hasty'; choose one of quick, full, deep"):
        verify_folder("store", "hasty", fs=fs)
    fs.mkdir("empty")
    for folder in ("nowhere", "empty"):
        with pytest.raises(StoreMissingError):
            verify_folder(folder, fs=fs)


def test_a_folder_of_segments_without_a_manifest_is_told(fs: SimulatedFileSystem) -> None:
    for version in manifest.versions(fs, "store"):
        fs.unlink(f"store/{manifest.manifest_name(version)}")
    assert verify_folder("store", fs=fs).problems == ("store has no manifest",)


def test_a_manifest_that_cannot_be_used_is_told(fs: SimulatedFileSystem) -> None:
    path = f"store/{manifest.manifest_name(manifest.versions(fs, 'store')[-1])}"
    fs._file(path).data[-1] ^= 1
    [problem] = verify_folder("store", fs=fs).problems
    assert "the manifest is damaged" in problem


def damaged_log() -> SimulatedFileSystem:
    """The first of two inserts cannot be read, although the second one knows that it was synced."""
    disk = SimulatedFileSystem()
    store = T4DX.open("store", dim=2, options=Options(durability="sync", idle_marker=0), fs=disk)
    store.insert(Item(id="a"))
    place = store.stats()["wal_bytes"]
    store.insert(Item(id="b"))
    found = disk.after_crash("all")
    found._file(LOG).data[place - 5] ^= 1
    return found


def test_damage_in_a_log_that_stays_is_told_by_all_who_read_it() -> None:
    fs = damaged_log()
    [problem] = verify_folder("store", fs=fs).problems
    assert "below LSN 1 that was synced" in problem
    with pytest.raises(CorruptionError, match="below LSN 1"):
        T4DX.open("store", read_only=True, fs=fs)
    with pytest.raises(CorruptionError, match="below LSN 1"):
        backup_store("store", "copy", fs=fs)
    assert not fs.exists("copy")


class BadDisk(SimulatedFileSystem):
    """Changes what is written under a path, or refuses to read it."""

    rots = cuts = refuses = ""

    def write_new(self, path, data):
        if self.rots and path.startswith(self.rots):
            data = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
        super().write_new(path, data[:-1] if self.cuts and path.startswith(self.cuts) else data)

    def read_range(self, path, at, size):
        if self.refuses and self.refuses in path:
            raise OSError(errno.EIO, "Input/output error", path)
        return super().read_range(path, at, size)


def test_a_copy_of_a_log_is_compared_with_the_log() -> None:
    fs = BadDisk()
    with opened(fs) as store:
        store.insert_many([Item(id=name) for name in "ab"])
    fs.cuts = "cut/wal-"
    with pytest.raises(BackupError, match=r"it has \d+ bytes instead of \d+"):
        backup_store("store", "cut", fs=fs)
    fs.rots = "rotten/wal-"
    with pytest.raises(BackupError, match="below LSN 1 that was synced"):
        backup_store("store", "rotten", fs=fs)


def test_a_file_that_cannot_be_read_is_told_with_the_reason() -> None:
    fs = BadDisk()
    with opened(fs) as store:
        store.insert(Item(id="a"))
        store.flush()
    fs.refuses = "item_kappa"
    [problem] = verify_folder("store", fs=fs).problems
    assert problem.endswith("item_kappa.npy: it cannot be read (Input/output error)")
