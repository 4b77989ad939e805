"""Transactions, operators on edges, flush, compaction, full disks, failures, backups, threads."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks, digest

from t4dm import errors
from t4dm.t4dx import T4DX, AffineClip, Edge, EdgeFilter, Item, Options, wal


def fresh(fs: SimulatedFileSystem | None = None, **options: object) -> T4DX:
    chosen = Options(**{"durability": "os", **options})
    return T4DX.open("store", dim=2, options=chosen, clock=Ticks(0.0), fs=fs or SimulatedFileSystem())


def test_a_transaction_is_one_commit_and_invisible_before_it() -> None:
    store = fresh()
    store.insert(Item(id="a", kappa=0.5))
    with store.transaction() as tx:
        tx.insert(Item(id="b"), [Edge("b", "a", "MERGED_FROM")])
        tx.merge_kappa(["a", "b"], 0.5)
        tx.update_edge_weight("b", "a", 0.25, edge_type="MERGED_FROM")
        tx.delete("a")
        assert "b" not in store
    assert store.get("b").kappa == 0.5
    assert [item.id for item in store.scan()] == ["b"]
    assert list(store.edges()) == []
    assert tx.lsn == store.lsn
    with pytest.raises(errors.TransactionError, match="has ended; open another"):
        tx.delete("b")


def test_an_exception_or_a_missing_id_drops_the_whole_transaction() -> None:
    store = fresh()
    store.insert(Item(id="a"))
    before = digest(store)

    def interrupted() -> None:
        with store.transaction() as tx:
            tx.insert(Item(id="b"))
            raise RuntimeError("stop")

    def contradictory() -> None:
        with store.transaction() as tx:
            tx.insert(Item(id="b"))
            tx.delete("a")
            tx.update_fields("a", kappa=0.2)

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    with pytest.raises(errors.ItemNotFoundError, match="'a'"):
        contradictory()
    assert digest(store) == before


def test_a_transaction_in_parts_is_still_atomic() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, txn_part_bytes=100)
    with store.transaction() as tx:
        for n in range(20):
            tx.insert(Item(id=f"{n}", content="x" * 50))
    log = next(f"store/{name}" for name in fs.listdir("store") if name.startswith("wal"))
    size = store.stats()["wal_bytes"]
    assert fresh(fs.after_crash("all")).count() == 20
    cut = fs.after_crash("all")
    del cut._file(log).data[size - 10 :]  # into the COMMIT record
    again = fresh(cut)
    assert (again.count(), again.stats()["wal_bytes"]) == (0, wal.FILE_HEADER)
    assert not cut.read(log)[wal.FILE_HEADER :].strip(b"\0")  # nothing but its header is left


def test_edge_operators_clip_at_every_step() -> None:
    store = fresh()
    store.insert_many(
        [], [Edge("a", "b", "CAUSES", 0.6), Edge("a", "b", "PART_OF", 0.6), Edge("c", "b", "CAUSES", 0.2)]
    )
    store.update_edge_weight("a", "b", 0.7, edge_type="CAUSES")
    store.update_edge_weight("a", "b", -0.7, edge_type="CAUSES")
    store.update_edge_weights([("c", "b", "CAUSES", AffineClip(2.0, 0.1, 0.0, 1.0))])
    assert {(e.source, e.type): round(e.weight, 12) for e in store.edges()} == {
        ("a", "CAUSES"): 0.3,
        ("a", "PART_OF"): 0.6,
        ("c", "CAUSES"): 0.5,
    }
    store.update_edge_weight("c", "b", 0.25, edge_type=None)
    assert [e.weight for e in store.edges("c")] == [0.75]


def test_scaling_rules_survive_flush_reopen_and_compaction() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert_many(
        [], [Edge("a", "b", "CAUSES", 0.8), Edge("c", "d", "CAUSES", 0.4), Edge("c", "b", "PART_OF", 0.4)]
    )
    store.flush()
    store.update_edge_weight("a", "b", 0.2, edge_type="CAUSES")  # 1.0
    store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))  # 0.5, 0.2
    store.flush()
    store.insert_many([], [Edge("e", "f", "CAUSES", 0.8)])  # newer than the rule
    store.batch_scale_weights(EdgeFilter(type="CAUSES", source="a"), (1.0, 0.25, 0.0, 1.0))  # 0.75
    store.batch_scale_weights(EdgeFilter(weight=(0.35, 0.45)), (1.0, 0.5, 0.0, 1.0))  # c->b: 0.9
    expected = {"ab": 0.75, "cd": 0.2, "cb": 0.9, "ef": 0.8}
    for step in (store.flush, lambda: None, store.compact):
        step()
        assert {e.source + e.target: e.weight for e in store.edges()} == expected
        again = T4DX.open("store", read_only=True, fs=fs.after_crash("all"))
        assert {e.source + e.target: e.weight for e in again.edges()} == expected


def test_a_rule_is_one_small_record_whatever_the_number_of_edges() -> None:
    store = fresh()
    store.insert_many([], [Edge(f"{n}", "x", "CAUSES") for n in range(500)])
    before = store.stats()["wal_bytes"]
    store.batch_scale_weights(EdgeFilter(type="CAUSES"), (0.5, 0.0, 0.0, 1.0))
    assert store.stats()["wal_bytes"] - before < 120
    assert {edge.weight for edge in store.edges()} == {0.25}


def test_accesses_add_up() -> None:
    store = fresh()
    store.insert_many([Item(id="a", access_count=2), Item(id="b")])
    store.add_accesses({"a": 3, "b": 1})
    store.add_accesses({"a": 1})
    assert [item.access_count for item in store.get_many(["a", "b"])] == [6, 1]


def test_compaction_changes_no_answer_and_drops_what_was_deleted() -> None:
    store = fresh(max_segments=100)
    for start in range(0, 30, 10):
        store.insert_many([Item(id=f"{n}", vector=np.ones(2)) for n in range(start, start + 10)])
        store.flush()
    store.delete_many([f"{n}" for n in range(0, 30, 2)])
    store.merge_kappa(["1", "11"], 0.5)
    before, kappa = digest(store), store.get("1").kappa
    assert store.stats()["item_rows"] == 30
    store.compact()
    assert digest(store) == before
    assert store.get("1").kappa == kappa == 0.5
    assert store.stats() | {"item_rows": 15, "segments": 1, "deltas": 0} == store.stats()
    manifest = store.stats()["manifest"]
    store.compact()
    assert store.stats()["manifest"] == manifest, "a compacted store is left alone"


def test_a_snapshot_still_reads_files_that_a_compaction_has_unlinked(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os")) as store:
        for name in "ab":
            store.insert(Item(id=name, vector=np.ones(2), content=f"text of {name}"))
            store.flush()
        before = store.snapshot()
        store.delete("a")
        store.compact()
        assert len(list((tmp_path / "s" / "segments").iterdir())) == 1
        assert before.search(np.ones(2), 5).ids == ["a", "b"]
        assert before.get("a").content == "text of a"


def test_many_flushes_keep_segments_and_deltas_few() -> None:
    store = fresh(max_segments=4, max_deltas=2, memtable_items=4)
    for n in range(80):
        store.insert(Item(id=f"{n}"))
        store.merge_kappa([f"{n // 2}"], 0.1)
    assert store.stats()["segments"] <= 4
    assert store.stats()["deltas"] <= 2
    assert store.count() == 80
    assert store.verify("deep").ok


def test_merging_delta_files_keeps_what_the_older_ones_said() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, max_deltas=2, max_segments=100)
    store.insert_many([Item(id=f"{n}") for n in range(8)], [Edge("0", "1", "CAUSES", 0.0)])
    store.flush()
    for n in range(8):
        store.update_fields(f"{n}", kappa=(n + 1) / 8)
        store.update_edge_weight("0", "1", 0.125, edge_type="CAUSES")
        store.flush()
        assert store.stats()["deltas"] <= 2
        found = T4DX.open("store", read_only=True, fs=fs.after_crash("all"))
        assert [found.get(f"{m}").kappa for m in range(n + 1)] == [(m + 1) / 8 for m in range(n + 1)]
        assert [edge.weight for edge in found.edges()] == [(n + 1) / 8]


def test_updates_alone_flush_too() -> None:
    store = fresh(memtable_bytes=2000)
    store.insert(Item(id="a"))
    for _ in range(60):
        store.update_fields("a", kappa=0.5)
    assert store.stats()["wal_bytes"] < 2000
    assert store.stats()["flushed_lsn"] > 0


def test_a_full_disk_refuses_the_write_and_loses_nothing() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert(Item(id="a", content="kept"))
    fs.capacity = fs.used() + 100
    with pytest.raises(errors.StoreFullError, match="no space left for store; nothing acknowledged is lost"):
        store.insert(Item(id="b", content="x" * 100_000))
    assert store.get("b") is None
    with pytest.raises(errors.StoreFullError):
        store.flush()
    fs.capacity = None
    store.insert(Item(id="c"))
    store.close()
    with fresh(fs) as store:
        assert [item.id for item in store.scan()] == ["a", "c"]


def test_a_flush_that_finds_the_disk_full_does_not_fail_the_write_that_caused_it() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, memtable_items=5)
    fs.capacity = fs.used() + 1500
    for n in range(6):
        store.insert(Item(id=f"{n}"))
    assert "no space left" in store.stats()["flush_error"]
    fs.capacity = None
    for n in range(6, 12):
        store.insert(Item(id=f"{n}"))
    assert store.stats()["flush_error"] == ""
    assert store.stats()["segments"] == 1
    assert fresh(fs.after_crash("all")).count() == 12


def test_a_half_written_record_that_cannot_be_cut_off_stops_the_store() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.insert(Item(id="a"))
    fs.fail_at, fs.error, fs.forever = fs.calls + 1, errno.ENOSPC, True
    with pytest.raises(errors.StorePoisonedError):
        store.insert(Item(id="b", content="x" * 100))
    fs.fail_at = 0
    with pytest.raises(errors.StorePoisonedError):
        store.insert(Item(id="c"))
    store.close()
    with fresh(fs.after_crash("all")) as again:
        assert [item.id for item in again.scan()] == ["a"]


def test_after_a_failed_fsync_the_store_only_reads() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, durability="sync", idle_marker=0)
    store.insert(Item(id="a"))
    fs.fail_at, fs.error = fs.calls + 2, errno.EIO  # the append passes, its fsync fails
    with pytest.raises(
        errors.StorePoisonedError, match=r"refuses writes after a failed one .* open it again"
    ):
        store.insert(Item(id="b"))
    with pytest.raises(errors.StorePoisonedError):
        store.insert(Item(id="c"))
    assert store.get("a") is not None
    calls = fs.calls
    store.close()
    assert fs.calls == calls, "a failed fsync is never repeated"
    assert fresh(fs.after_crash("synced")).get("a") is not None


def test_a_backup_opens_like_any_store_and_does_not_follow_the_original(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os")) as store:
        store.insert_many([Item(id="a", vector=np.ones(2)), Item(id="b")])
        store.flush()
        store.merge_kappa(["a"], 0.5)
        lsn = store.backup(tmp_path / "copy")
        with pytest.raises(errors.FolderExistsError, match="copy exists and is not empty"):
            store.backup(tmp_path / "copy")
        expected = digest(store)
        store.delete("a")
        store.compact()
    with T4DX.open(tmp_path / "copy") as copy:
        assert digest(copy) == expected
        assert copy.lsn == lsn
        assert copy.verify("deep").ok
        copy.insert(Item(id="c"))
    with T4DX.open(tmp_path / "s") as store:
        assert [item.id for item in store.scan()] == ["b"]


def test_sync_is_durable_when_it_returns_and_interval_soon_after(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "a", dim=2, options=Options(durability="sync")) as store:
        assert store.insert(Item(id="a")) == store.stats()["durable_lsn"] == 1
    with T4DX.open(tmp_path / "b", dim=2, options=Options(sync_interval=0.01)) as store:
        store.insert(Item(id="a"))
        done = threading.Event()
        for _ in range(500):
            if store.stats()["durable_lsn"] == 1:
                break
            done.wait(0.01)
        assert store.stats()["durable_lsn"] == 1


def test_readers_never_see_half_of_a_write() -> None:
    """kappa of x and y always sums to 1, pairs come with their edge, while one thread writes, flushes and
    compacts.
    """
    options, disk = Options(durability="os", memtable_items=30, max_segments=2), SimulatedFileSystem()
    with T4DX.open("store", dim=2, options=options, fs=disk) as store:
        store.insert_many([Item(id="x", kappa=1.0, vector=np.ones(2)), Item(id="y", vector=np.ones(2))])
        stop, wrong, reads, pause = threading.Event(), [], [], threading.Event()

        def read() -> None:
            while not stop.is_set():
                seen = store.snapshot()
                x, y = seen.get_many(["x", "y"])
                pairs = seen.count() - 2
                edges = sum(1 for _ in seen.edges(edge_type="CAUSES"))
                hits = seen.search(np.ones(2), 2)
                reads.append(pause.wait(0.001))
                if x.kappa + y.kappa != 1.0 or pairs != 2 * edges or hits.ids != ["x", "y"]:
                    wrong.append((x.kappa, y.kappa, pairs, edges, hits.ids))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(30):
            with store.transaction() as tx:
                tx.update_fields("x", kappa=(n % 5) / 4)
                tx.update_fields("y", kappa=1 - (n % 5) / 4)
            store.insert_many([Item(id=f"a{n}"), Item(id=f"b{n}")], [Edge(f"a{n}", f"b{n}", "CAUSES")])
        stop.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(reads) > 3
        assert store.stats()["segments"] >= 1


def test_writers_in_threads_lose_nothing(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="sync", memtable_items=50)) as store:

        def write(number: int) -> None:
            for n in range(15):
                store.insert(Item(id=f"{number}-{n}"))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with T4DX.open(tmp_path / "s") as store:
        assert store.count() == 60
        assert store.lsn == 60
