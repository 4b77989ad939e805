"""A transaction larger than a part: whole or not at all, replayed in memory that does not grow with it."""

from __future__ import annotations

import errno
import tracemalloc

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import digest

from t4dm.errors import StoreFullError
from t4dm.t4dx import T4DX, Edge, EdgeFilter, Item, Options, ops, parts, recovery, wal
from t4dm.t4dx.logread import LogChain
from t4dm.t4dx.manifest import load

LOG = "store/" + wal.wal_name(1)


def opened(fs: SimulatedFileSystem, *, part: int = 2000) -> T4DX:
    options = Options(durability="os", txn_part_bytes=part, memtable_items=10**6)
    return T4DX.open("store", dim=4, options=options, clock=lambda: 5.0, fs=fs)


def kinds(fs: SimulatedFileSystem) -> list[tuple[str, int]]:
    chain, found = LogChain(fs, "store", 1), []
    while (record := chain.next()) is not None:
        found.append((record.kind.name, record.ops))
    return found


def fill(store: T4DX) -> None:
    """Every kind of operation that is cut into pieces, and some that are not, in one transaction."""
    items = [
        Item(
            id=f"i{n}", content=f"text {n}", vector=np.full(4, n + 1.0) if n % 3 else None, metadata={"n": n}
        )
        for n in range(60)
    ]
    edges = [Edge(f"i{n}", f"i{n + 1}", "CAUSES", weight=0.5) for n in range(59)]
    store.insert_many(items, edges)
    with store.transaction() as tx:
        tx.batch_scale_weights(EdgeFilter(weight=(0.4, 0.6)), (0.5, 0.0, 0.0, 1.0))
        tx.insert_many([Item(id=f"i{n}", content="again") for n in range(0, 60, 2)], edges[:30])
        for n in range(40):
            tx.update_fields(f"i{n}", kappa=n / 100, metadata={"m": n})
        tx.merge_kappa([f"i{n}" for n in range(60)], 0.5)
        tx.delete("i7")


def test_a_replay_of_parts_gives_the_same_state_as_one_record() -> None:
    whole, cut = SimulatedFileSystem(), SimulatedFileSystem()
    fill(opened(whole, part=10**6))
    fill(opened(cut))
    assert {kind for kind, _ in kinds(whole)} == {"BATCH"}
    found = kinds(cut)
    assert [found.count((kind, 0)) for kind in ("BEGIN", "COMMIT")] == [2, 2]
    assert ("PART", 0) in found, "a large operation goes on in another part"
    assert any(kind == "PART" and count > 5 for kind, count in found), "small operations share one"
    first, second = opened(whole.after_crash("all")), opened(cut.after_crash("all"))
    assert digest(first) == digest(second)
    assert first.lsn == second.lsn
    assert second.verify("deep").ok
    assert [item.content for item in second.scan() if item.id == "i4"] == ["again"]


@pytest.mark.parametrize("kind", ["BEGIN", "PART", "COMMIT"])
def test_a_log_that_ends_inside_a_transaction_holds_none_of_it(kind: str) -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="before"))
    used = store.stats()["wal_bytes"]
    store.insert_many([Item(id=f"i{n}", content="x" * 100) for n in range(100)])
    chain, data = LogChain(fs, "store", 1), fs.read(LOG)
    while (record := chain.next()) is not None:
        if record.kind.name == kind:
            for end in (record.start + 5, record.end - 1):
                found = fs.after_crash("all")
                found._file(LOG).data[:] = data[:end] + bytes(len(data) - end)
                again = opened(found)
                assert again.count() == 1
                assert again.stats()["wal_bytes"] == used


def test_parts_that_a_segment_holds_are_skipped_as_a_whole() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    fill(store)
    found = load(fs, "store")
    assert found is not None
    state = recovery.recover(fs, "store", found).state
    everything = recovery.recover(fs, "store", found).state
    chain = LogChain(fs, "store", 1)
    assert recovery.replay.replay(state, chain) == chain.reader.place
    assert state.lsn == everything.lsn
    assert state.front.n == everything.front.n


def test_a_part_that_does_not_fit_on_the_disk_takes_the_whole_transaction_back() -> None:
    for error in (errno.ENOSPC, errno.EDQUOT):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="before"))
        used = store.stats()["wal_bytes"]
        fs.fail_at, fs.error = fs.calls + 4, error
        with pytest.raises(StoreFullError):
            store.insert_many([Item(id=f"i{n}", content="x" * 100) for n in range(100)])
        assert store.stats()["wal_bytes"] == used
        store.insert(Item(id="after"))
        with opened(fs.after_crash("all")) as again:
            assert sorted(item.id for item in again.scan()) == ["after", "before"]


def test_pieces_hold_every_row_once() -> None:
    has = np.array([n % 3 == 0 for n in range(50)])
    insert = ops.InsertItems(
        [f"{n}" for n in range(50)],
        ["x" * n for n in range(50)],
        ["episodic"] * 50,
        [""] * 50,
        [b""] * 50,
        np.arange(400, dtype=np.float64).reshape(50, 8),
        has,
        np.arange(int(has.sum()) * 4, dtype=np.float32).reshape(-1, 4),
    )
    cut = [piece for piece in parts.pieces(insert, 1000) if isinstance(piece, ops.InsertItems)]
    assert len(cut) > 5
    assert [name for piece in cut for name in piece.ids] == insert.ids
    assert np.concatenate([piece.vectors for piece in cut]).tolist() == insert.vectors.tolist()
    assert np.concatenate([piece.has for piece in cut]).tolist() == has.tolist()
    assert all(len(piece.vectors) == piece.has.sum() for piece in cut)
    assert list(parts.pieces(ops.DeleteItems(["a"] * 10_000), 100)) == [ops.DeleteItems(["a"] * 10_000)]


def test_reading_a_large_transaction_takes_the_memory_of_a_part() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs, part=50_000)
    store.insert_many([Item(id=f"{n}", content="x" * 20_000) for n in range(600)])  # 12 MB
    fs = fs.after_crash("all")
    chain, most = LogChain(fs, "store", 1), 0
    tracemalloc.start()
    try:
        assert chain.next().kind is wal.Kind.BEGIN  # type: ignore[union-attr]
        assert chain.reader.transaction_ends()
        while (record := chain.next()) is not None and record.kind is wal.Kind.PART:
            most = max(most, len(ops.unpack(bytes(record.payload), path="log")))
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()
    assert most == 1
