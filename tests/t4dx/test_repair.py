"""Damage any file: repair makes a sound store of it, keeps what is left right, and counts the rest."""

from __future__ import annotations

import random

import numpy as np
import pytest
from simulated_fs import Crash, SimulatedFileSystem

from t4dm.errors import RepairError, StoreError, StoreLockedError, StoreMissingError
from t4dm.t4dx import T4DX, Edge, EdgeFilter, Item, Options, manifest
from t4dm.t4dx.history import all_edges, all_items
from t4dm.t4dx.repair import LOST, repair_store
from t4dm.t4dx.salvage import DERIVED
from t4dm.t4dx.verify import verify_store

OS = Options(durability="os")
DIM = 4


class Clock:
    """Every call is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def vector(number: int) -> np.ndarray:
    return np.array([number, 1.0, -number, 0.5], np.float32)


def item(number: int, **fields: object) -> Item:
    return Item(
        id=f"i{number}", vector=vector(number), content=f"text {number}", metadata={"n": number}, **fields
    )


@pytest.fixture(scope="module")
def disk() -> SimulatedFileSystem:
    """A closed store with two segments, two delta files of every kind of entry, and a log."""
    fs = SimulatedFileSystem()
    with T4DX.open("store", dim=DIM, options=OS, clock=Clock(), fs=fs) as store:
        store.insert_many(
            [item(n) for n in range(6)], [Edge("i0", "i1", "CAUSES"), Edge("i1", "i2", "PART_OF")]
        )
        store.flush()
        store.insert(item(9), [Edge("i9", "i0", "PART_OF")])
        store.insert(item(4, kappa=0.25))
        store.update_fields("i3", kappa=0.5)
        store.update_edge_weight("i0", "i1", 0.1, edge_type="CAUSES")
        store.delete("i5")
        store.flush()
        store.batch_scale_weights(EdgeFilter(type="PART_OF"), (0.5, 0.0, 0.0, 1.0))
        store.update_fields("i9", importance=0.75)
        store.flush()
        store.insert(item(10), [Edge("i10", "i9", "CAUSES")])
        store.insert(item(11))
    return fs


def files(fs: SimulatedFileSystem, folder: str = "store") -> list[str]:
    names = []
    for name in fs.listdir(folder):
        path = f"{folder}/{name}"
        inside = not hasattr(fs._find(path), "data")
        names += files(fs, path) if inside else [path]
    return names


def contents(fs: SimulatedFileSystem) -> tuple[dict[tuple[str, float], str], dict[tuple[object, ...], str]]:
    """Every version by its key, exact to the last bit."""
    with T4DX.open("store", read_only=True, fs=fs) as store:
        items = {(i.id, i.record_time): repr((i, i.vector.tobytes())) for i in all_items(store, past=True)}
        edges = {
            (e.source, e.target, str(e.type), e.record_time): repr(e) for e in all_edges(store, past=True)
        }
    return items, edges


def damage(fs: SimulatedFileSystem, path: str, how: str, rng: random.Random) -> None:
    data = fs._file(path).data
    if how == "gone":
        fs.unlink(path)
    elif how == "short":
        del data[len(data) // 2 :]
    elif how == "zeros":
        data[:] = bytes(len(data))
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def damageable(disk: SimulatedFileSystem) -> list[str]:
    return [path for path in files(disk) if "LOCK" not in path and "gc.lock" not in path]


def check_repair(disk: SimulatedFileSystem, path: str, how: str) -> None:
    """Damage one file, repair, and compare all that is left with what was there."""
    (items, edges), fs, where = contents(disk), disk.after_crash("all"), f"{how} {path}"
    damage(fs, path, how, random.Random(where))
    bad = None if how == "gone" else fs.read(path)
    report = repair_store("store", fs=fs)
    assert verify_store(fs, "store", "deep").ok, where
    left, links = contents(fs)
    assert (report.items, report.edges) == (len(left), len(links)), where
    name = path.rsplit("/", 1)[1]
    if "deltas/" in path:
        assert report.lost_updates == 1, where
        assert {item_id for item_id, _ in left} >= {item_id for item_id, _ in items}, where
        assert links.keys() >= edges.keys(), where
    else:
        assert left.items() <= items.items(), where
        assert links.items() <= edges.items(), where
        safe = name.removesuffix(".npy") in DERIVED or name.endswith("_sums.npy") or "MANIFEST" in name
        ids = name in ("ids.npy", "id_ends.npy")
        of_edges = name.startswith(("edge_", "source", "target", "prop"))
        if safe or of_edges:
            assert left == items, where
        if safe or (not ids and not of_edges and "wal-" not in name):
            assert links == edges, where
        assert (report.lost_items + report.lost_edges > 0) == (not safe and "wal-" not in name), where
        gone = items.keys() - left.keys()
        assert len(gone) <= report.lost_items or "wal-" in name, where
    if not report.ok and bad is not None:
        kept = [copy for copy in files(fs, f"store/{LOST}") if copy.endswith(path.removeprefix("store"))]
        assert [fs.read(copy) for copy in kept] == [bad], where
    with T4DX.open("store", options=OS, fs=fs) as store:
        store.insert(item(77))
        assert store.search(vector(77), 1).ids == ["i77"], where


WAYS = ("flip", "short", "zeros", "gone")


@pytest.mark.parametrize("part", range(4))
def test_a_store_with_any_file_damaged_is_repaired(disk: SimulatedFileSystem, part: int) -> None:
    for place, path in enumerate(damageable(disk)):
        if place % 4 == part:
            check_repair(disk, path, WAYS[(place // 4 + part) % 4])


@pytest.mark.nightly
@pytest.mark.parametrize("how", WAYS)
def test_a_store_with_any_file_damaged_in_any_way_is_repaired(disk: SimulatedFileSystem, how: str) -> None:
    for path in damageable(disk):
        check_repair(disk, path, how)


def test_a_healthy_store_is_left_exactly_as_it_is(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    before, calls = {path: fs.read(path) for path in files(fs)}, fs.calls
    report = repair_store("store", fs=fs)
    assert (report.ok, report.actions, report.quarantined, report.items) == (True, (), (), 9)
    assert {path: fs.read(path) for path in files(fs)} == before
    assert fs.calls == calls


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    path = next(path for path in files(fs) if path.endswith("/vectors_0.npy"))
    fs._file(path).data[-1] ^= 1
    before, calls = {name: fs.read(name) for name in files(fs)}, fs.calls
    plan = repair_store("store", dry_run=True, fs=fs)
    assert {name: fs.read(name) for name in files(fs)} == before
    assert (plan.dry_run, plan.ok, fs.calls) == (True, False, calls)
    done = repair_store("store", fs=fs)
    assert (done.problems, done.quarantined, done.lost_items) == (
        plan.problems,
        plan.quarantined,
        plan.lost_items,
    )
    assert done.problems[0].endswith("vectors_0.npy: its checksum is wrong")
    assert done.lost_items > 0
    assert set(plan.actions) <= set(done.actions)


def test_the_readable_start_of_a_log_is_kept_and_the_rest_counted(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    path = next(path for path in files(fs) if "wal-" in path)
    at = fs.read(path).index(b"text 10")
    fs._file(path).data[at] ^= 1
    report = repair_store("store", fs=fs)
    assert "that was synced" in report.problems[0]
    assert report.lost_log_records >= 1
    assert report.lost_log_bytes > 100
    with T4DX.open("store", read_only=True, fs=fs) as store:
        assert "i9" in store
        assert "i10" not in store
        assert "i11" not in store


def test_a_lost_update_leaves_no_two_current_versions(disk: SimulatedFileSystem) -> None:
    """The delta that ended the first version of i4 is lost: its successor says when it ended."""
    fs = disk.after_crash("all")
    fs.unlink(min(path for path in files(fs) if "/delta-" in path))
    report = repair_store("store", fs=fs)
    assert report.actions[-1] == "end 1 versions that newer ones replaced"
    with T4DX.open("store", read_only=True, fs=fs) as store:
        new, old = store.history("i4")
        assert (old.record_until, new.record_until) == (new.record_time, float("inf"))
        assert "i5" in store  # its deletion was in that file: lost, and counted
    assert report.lost_updates == 1


def test_a_store_that_a_writer_holds_is_not_repaired(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    with (
        T4DX.open("store", options=OS, fs=fs),
        pytest.raises(StoreLockedError, match="is open for writing by"),
    ):
        repair_store("store", fs=fs)


def test_what_cannot_be_repaired_says_so_and_is_left_alone(disk: SimulatedFileSystem) -> None:
    fs = disk.after_crash("all")
    for path in files(fs):
        if "MANIFEST" in path:
            fs._file(path).data[-1] ^= 1
    before = {path: fs.read(path) for path in files(fs)}
    with pytest.raises(RepairError, match=r"cannot be repaired .*; nothing was deleted, restore a backup"):
        repair_store("store", fs=fs)
    assert {path: fs.read(path) for path in files(fs)} == before
    with pytest.raises(StoreMissingError):
        repair_store("elsewhere", fs=fs)


def test_a_crash_anywhere_in_a_repair_is_repaired_by_the_next(disk: SimulatedFileSystem) -> None:
    broken = disk.after_crash("all")
    path = next(path for path in files(broken) if path.endswith("/item_kappa.npy"))
    broken._file(path).data[-1] ^= 1
    bad = broken.read(path)
    probe = broken.after_crash("all")
    repair_store("store", fs=probe)
    right = contents(probe)
    for step in range(1, probe.calls, 7):
        fs = broken.after_crash("all", crash_at=step)
        with pytest.raises(Crash):
            repair_store("store", fs=fs)
        after = fs.after_crash(("all", "synced", "some")[step % 3], seed=step)
        repair_store("store", fs=after)
        assert contents(after) == right, step
        kept = [
            after.read(name) for name in files(after, f"store/{LOST}") if name.endswith("/item_kappa.npy")
        ]
        assert bad in kept, step
    assert manifest.versions(probe, "store") == [manifest.load(probe, "store").version]


def test_a_signed_store_is_repaired_with_its_key() -> None:
    fs, key = SimulatedFileSystem(), b"0123456789abcdef"
    with T4DX.open("store", dim=DIM, options=OS, key=key, fs=fs) as store:
        store.insert(item(1))
        store.flush()
        store.insert(item(2))
    path = next(path for path in files(fs) if "/MANIFEST-" in path)
    fs._file(path).data[-1] ^= 1
    with pytest.raises(StoreError, match="key"):
        repair_store("store", fs=fs)
    assert repair_store("store", key=key, fs=fs).items == 2
    with T4DX.open("store", key=key, read_only=True, fs=fs) as store:
        assert store.count() == 2
