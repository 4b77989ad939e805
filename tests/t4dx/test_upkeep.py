"""Flush and compaction behind the writes (`upkeep`): threads, swaps, column generations, pressure, full
disks; what `figures` tell of it.
"""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from simulated_fs import Crash, SimulatedFileSystem
from store_model import Ticks, digest

from t4dm import errors
from t4dm.t4dx import T4DX, Edge, EdgeFilter, Item, Options, manifest
from t4dm.t4dx.compaction import Shape, Task, choose
from t4dm.t4dx.fs import OsFileSystem

SECONDS = 20.0  # only a deadlock takes as long


def fresh(fs: SimulatedFileSystem | None = None, **options: object) -> T4DX:
    chosen = Options(**{"durability": "os", **options})
    return T4DX.open("store", dim=2, options=chosen, clock=Ticks(0.0), fs=fs or SimulatedFileSystem())


def until(what: object) -> None:
    """Wait for a thread."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class SlowDisk(OsFileSystem):
    """The real disk, on which the first new segment waits while `held` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.waiting, self.full = threading.Event(), threading.Event(), False

    def write_new(self, path: str, data: bytes) -> None:
        if self.full and "segments" in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        if self.held.is_set() and "segments" in path:
            self.waiting.set()
            while self.held.is_set():
                time.sleep(0.001)
        super().write_new(path, data)


def test_writers_and_readers_go_on_while_a_segment_is_written_and_nothing_they_do_is_lost(
    tmp_path: Path,
) -> None:
    disk, options = SlowDisk(), Options(durability="os", memtable_items=10)
    with T4DX.open(tmp_path / "s", dim=2, options=options, clock=Ticks(), fs=disk) as store:
        disk.held.set()
        store.insert_many(
            [Item(id=f"{n}", vector=np.ones(2)) for n in range(10)],
            [Edge("0", "1", "CAUSES", 0.5), Edge("2", "3", "CAUSES", 0.5), Edge("4", "5", "CAUSES", 0.5)],
        )
        assert disk.waiting.wait(SECONDS)
        seen = store.snapshot()
        store.update_fields("1", kappa=0.75, metadata={"n": 1})
        store.insert(Item(id="2", content="again"))
        store.delete("0")
        store.update_edge_weight("2", "3", 0.25, edge_type="CAUSES")
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
        store.update_edge_weight("4", "5", 0.5, edge_type="CAUSES")
        before, held = digest(store), digest(seen)
        assert store.stats()["frozen"] == 1
        disk.held.clear()
        until(lambda: store.stats()["segments"] == 1 and store.stats()["frozen"] == 0)
        assert digest(store) == before
        assert digest(seen) == held
        assert {edge.source: edge.weight for edge in store.edges()} == {"2": 0.375, "4": 0.75}
        assert store.verify("deep").ok
        store.compact()
        assert digest(store) == before
    with T4DX.open(tmp_path / "s", clock=Ticks()) as again:
        assert digest(again) == before


def test_a_merge_carries_over_what_was_written_meanwhile(tmp_path: Path) -> None:
    disk, options = SlowDisk(), Options(durability="os", max_segments=100)
    with T4DX.open(tmp_path / "s", dim=2, options=options, clock=Ticks(), fs=disk) as store:
        for start in (0, 5):
            store.insert_many(
                [Item(id=f"{n}") for n in range(start, start + 5)], [Edge(f"{start}", "9", "CAUSES")]
            )
            store.flush()
        store.update_fields("1", kappa=0.5)
        store.flush()
        disk.held.set()
        worker = threading.Thread(target=store.compact)
        worker.start()
        assert disk.waiting.wait(SECONDS)
        store.update_fields("1", importance=0.25)
        store.merge_kappa(["1", "7"], 0.5)
        store.delete("2")
        store.delete_edge("5", "9", edge_type="CAUSES")
        store.insert(Item(id="3", content="new"))
        before = digest(store)
        disk.held.clear()
        worker.join(SECONDS)
        assert not worker.is_alive()
        assert store.stats()["segments"] == 1
        assert digest(store) == before
        assert store.get("1").kappa == 0.75
        store.flush()
        assert digest(store) == before
        assert store.verify("deep").ok
    with T4DX.open(tmp_path / "s", clock=Ticks()) as again:
        assert digest(again) == before


def test_a_kill_while_memtables_wait_loses_nothing() -> None:
    """Frozen memtables are in older logs: the next open reads all of them."""

    class NoSegments(SimulatedFileSystem):
        def write_new(self, path: str, data: bytes) -> None:
            if "segments" in path:
                raise OSError(errno.ENOSPC, "No space left on device", path)
            super().write_new(path, data)

    fs = NoSegments()
    store = fresh(fs, memtable_items=4)
    for n in range(15):
        store.insert(Item(id=f"{n}"))
        store.update_fields("0", access_count=n)
    assert store.stats()["frozen"] == 3
    assert "no space left" in store.stats()["flush_error"]
    before = digest(store)
    again = fresh(fs.after_crash("all"))
    assert again.count() == 15
    assert digest(again) == before


def test_writers_wait_when_too_many_memtables_do_and_the_stall_is_told(tmp_path: Path) -> None:
    disk = SlowDisk()
    options = Options(durability="os", memtable_items=2, max_frozen=2)
    with T4DX.open(tmp_path / "s", dim=2, options=options, fs=disk) as store:
        disk.held.set()

        def write() -> None:
            for n in range(12):
                store.insert(Item(id=f"{n}"))

        writer = threading.Thread(target=write)
        writer.start()
        until(lambda: store.stats()["frozen"] == 3)
        time.sleep(0.05)
        assert writer.is_alive()
        assert store.count() == 6, "three memtables of two wait, the writer as well"
        disk.held.clear()
        writer.join(SECONDS)
        assert not writer.is_alive()
        assert store.count() == 12
        stats = store.stats()
        assert stats["stall_seconds"] >= stats["longest_stall"] >= 0.02


def test_a_full_disk_in_the_background_is_told_retried_and_fails_only_writers_that_would_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t4dm.t4dx.upkeep.RETRY", 0.01)
    disk = SlowDisk()
    options = Options(durability="os", memtable_items=2, max_frozen=1)
    with T4DX.open(tmp_path / "s", dim=2, options=options, fs=disk) as store:
        disk.full = True
        stored = 0

        def write() -> None:
            nonlocal stored
            for _ in range(100):
                store.insert(Item(id=f"{stored}"))
                stored += 1

        with pytest.raises(errors.StoreFullError):
            write()
        assert stored >= 4
        assert "no space left" in store.stats()["flush_error"]
        assert store.count() == stored
        disk.full = False
        until(lambda: store.stats()["frozen"] == 0 and not store.stats()["flush_error"])
        store.insert(Item(id="more"))
        assert store.count() == stored + 1
    assert not list((tmp_path / "s" / "segments").glob(".tmp*"))


def test_closing_does_not_wait_for_a_flush_and_the_logs_hold_it(tmp_path: Path) -> None:
    options = Options(durability="os", memtable_items=5)
    with T4DX.open(tmp_path / "s", dim=2, options=options) as store:
        for n in range(23):
            store.insert(Item(id=f"{n}"))
        threads = list(store._upkeep._threads)
    assert not any(thread.is_alive() for thread in threads)
    with T4DX.open(tmp_path / "s", options=options) as again:
        assert again.count() == 23


def test_a_changed_column_is_written_alone() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, max_deltas=1, max_segments=100)
    store.insert_many(
        [Item(id=f"{n}", vector=np.ones(2), content="text") for n in range(50)],
        [Edge("0", f"{n}", "CAUSES", 0.5) for n in range(50)],
    )
    store.flush()
    vectors = {name for name in fs.listdir("store/segments/" + fs.listdir("store/segments")[0])}
    store.merge_kappa([f"{n}" for n in range(50)], 0.5)
    store.update_fields("3", metadata={"n": 3})
    store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
    before = digest(store)
    store.flush()
    store.compact(full=False)
    found = manifest.load(fs, "store")
    [entry] = found.segments
    fresh_files = {file.name for file in entry.files} - vectors
    assert {name.split(".")[0] for name in fresh_files} == {"item_kappa", "metas", "edge_weight"}
    assert found.deltas == ()
    assert set(fs.listdir(f"store/{manifest.segment_folder(entry.id)}")) == {f.name for f in entry.files}
    assert store.stats()["bytes_written"]["columns"] > 0
    assert digest(store) == before
    again = fresh(fs.after_crash("all"))
    assert digest(again) == before
    assert again.verify("deep").ok
    store.delete_many([f"{n}" for n in range(1, 9)])  # 16 %: not worth a rewrite
    before = digest(store)
    store.flush()
    store.compact(full=False)
    assert "item_alive" in {file.name.split(".")[0] for file in manifest.load(fs, "store").segments[0].files}
    assert digest(fresh(fs.after_crash("all"))) == before


def test_a_crash_at_any_call_of_a_column_rewrite_changes_nothing() -> None:
    def prepared(**kwargs: object) -> tuple[SimulatedFileSystem, T4DX]:
        fs = SimulatedFileSystem()
        store = fresh(fs, max_deltas=1, max_segments=100)
        store.insert_many([Item(id=f"{n}") for n in range(30)], [Edge("0", "1", "CAUSES", 0.5)])
        store.flush()
        store.merge_kappa([f"{n}" for n in range(30)], 0.5)
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
        store.flush()
        return fs, store

    fs, store = prepared()
    start, right = fs.calls, digest(store)
    store.compact(full=False)
    assert store.stats()["bytes_written"]["columns"] > 0
    for number in range(start + 1, fs.calls + 1):
        broken, store = prepared()
        broken.crash_at = number
        with pytest.raises(Crash):
            store.compact(full=False)
        for mode in ("all", "synced", "some"):
            assert digest(fresh(broken.after_crash(mode, seed=number))) == right, (number, mode)


def test_what_is_worth_doing() -> None:
    def task(full: bool = False, deltas: int = 0, limit: int = 3, **shapes: Shape) -> Task | None:
        numbered = {int(name[1:]): shape for name, shape in shapes.items()}
        return choose(numbered, deltas=deltas, full=full, limit=limit, max_deltas=4)

    plain = Shape(rows=100, dead=0, entries=0, columns=0)
    assert task(s1=plain) is None
    assert task(full=True, s1=plain) is None
    assert task(full=True, deltas=1, s1=plain) == Task("merge", (1,))
    assert task(full=True, s1=plain, s2=plain) == Task("merge", (1, 2))
    assert task(s1=plain, s2=plain._replace(dead=20)) is None
    assert task(s1=plain, s2=plain._replace(dead=21)) == Task("merge", (2,))
    small = plain._replace(rows=10)
    four = {"s2": small, "s3": small, "s4": small, "s5": small}
    assert task(limit=4, s1=plain, **four) == Task("merge", (2, 3, 4, 5))
    assert task(limit=5, s1=plain, **four) is None
    changed = plain._replace(entries=6400, columns=800)
    assert task(s1=changed) is None  # a delta file is cheap as long as there are few of them
    assert task(deltas=4, s1=changed, s2=plain) == Task("columns", (1,))
    assert task(deltas=4, s1=plain._replace(entries=64, columns=800)) is None
    assert task(s1=plain._replace(entries=1 << 20, columns=1 << 20)) == Task("columns", (1,))


def test_a_merge_of_several_collections_and_replaced_metadata_keeps_all_of_it() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, max_segments=100)
    store.create_collection("notes", dim=3)
    for start in (0, 4):
        for n in range(start, start + 4):
            store.insert(Item(id=f"a{n}", vector=np.array([n, 1.0]), metadata={"n": n}))
            store.insert(Item(id=f"b{n}", vector=np.array([n, 1.0, 2.0]), collection="notes"))
            store.insert(Item(id=f"c{n}", content=f"ü{n}"))
        store.flush()
    store.update_fields("a1", metadata={"long": "x" * 100})
    store.update_fields("c6", metadata={"n": 6})
    store.delete("b2")
    before = digest(store)
    store.compact()
    assert digest(store) == before
    assert store.get("a1").metadata == {"long": "x" * 100}
    assert store.get("b6").vector.tolist() == [6.0, 1.0, 2.0]
    assert digest(fresh(fs.after_crash("all"))) == before


def test_the_next_log_is_made_before_the_writer_needs_it(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os", memtable_items=8)) as store:
        for n in range(6):
            store.insert(Item(id=f"{n}"))
        until(lambda: len(list((tmp_path / "s").glob("wal-*"))) == 2)
        for n in range(6, 10):
            store.insert(Item(id=f"{n}"))
        until(lambda: store.stats()["segments"] == 1)
        assert store.count() == 10


def test_a_store_opened_for_reading_tells_its_figures_without_a_journal() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert(Item(id="a"), [Edge("a", "b", "CAUSES")])
    store.flush()
    own, read = store.stats(), T4DX.open("store", read_only=True, fs=fs.after_crash("all")).stats()
    assert set(read) == set(own)
    changed = {name for name in own if own[name] != read[name]}
    assert changed <= {"bytes_written", "longest_swap", "wal_bytes", "bytes"}


@pytest.mark.parametrize("step", ["journal.Journal.forget", "state.State.forget_folded"])
def test_a_swap_that_fails_stops_the_writes_and_keeps_the_answers(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The manifest is committed by then: only a reopen brings files and memory together."""
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert_many([Item(id="a"), Item(id="b")])
    before = digest(store)

    def fail(*_: object) -> None:
        raise MemoryError("injected")

    with monkeypatch.context() as patched:
        patched.setattr(f"t4dm.t4dx.{step}", fail)
        with pytest.raises(errors.StorePoisonedError, match="injected"):
            store.flush()
    assert digest(store) == before
    for write in (store.flush, store.compact, lambda: store.delete("a")):
        with pytest.raises(errors.StorePoisonedError, match="open it again"):
            write()
    store.close()
    with fresh(fs) as again:
        assert digest(again) == before
        assert again.stats()["segments"] == 1
