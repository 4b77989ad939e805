"""Undo of a transaction by its id: the logical state before it, or a refusal that names the conflict."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import DIM, IDS, Model, Ticks, write_step

from t4dm import errors
from t4dm.t4dx import BOTH, T4DX, AsOf, Edge, EdgeFilter, Item, Options, TransactionInfo
from t4dm.t4dx.operators import scale

TINY = Options(durability="os", memtable_items=9, max_deltas=2, max_segments=3, txn_part_bytes=400)


def fresh(fs: SimulatedFileSystem | None = None, **options: object) -> T4DX:
    chosen = Options(durability="os", **options)  # type: ignore[arg-type]
    return T4DX.open("store", dim=2, options=chosen, clock=Ticks(0.0), fs=fs or SimulatedFileSystem())


def logical(store: T4DX) -> tuple[object, ...]:
    """Everything that any read can tell: all versions of items and edges, at all times, and their walks."""
    names = sorted({*IDS, *(item.id for item in store.scan())})
    history = tuple((name, tuple(map(repr, store.history(name)))) for name in names)
    times = [None, *(AsOf(record=float(t)) for t in range(0, 1200, 25))]
    edges = tuple(tuple(sorted(map(repr, store.edges(as_of=when)))) for when in times)
    walks = tuple(tuple(store.traverse_ids(name, direction=BOTH, depth=2)) for name in names)
    return history, edges, walks


def evening(store: T4DX) -> None:
    vector = np.array([1, 0], np.float32)
    store.insert_many(
        [
            Item(id="a", content="first", vector=vector, kappa=0.25, metadata={"n": 1}),
            Item(id="b", vector=vector, importance=0.75),
            Item(id="c"),
        ]
    )
    store.insert(Item(id="a", content="second", kappa=0.5, metadata={"n": 2}))
    store.insert_many(
        [], [Edge("a", "b", "CAUSES", 0.5), Edge("b", "c", "PART_OF", 0.25), Edge("c", "a", "CAUSES", 0.75)]
    )
    store.insert_many([], [Edge("a", "b", "CAUSES", 0.625)])


def night(store: T4DX, name: str = "night-1") -> None:
    """A bit of everything, in one transaction."""
    with store.transaction(id=name, undo=True) as tx:
        tx.merge_kappa(["a", "b"], 0.5)
        tx.update_fields("b", importance=0.1, metadata={"seen": True}, type="semantic", valid_until=1e6)
        tx.insert(Item(id="proto", vector=np.ones(2, np.float32)), [Edge("proto", "a", "MERGED_FROM")])
        tx.insert(Item(id="c", content="c anew"))
        tx.update_edge_weight("a", "b", 0.125, edge_type="CAUSES")
        tx.batch_scale_weights(EdgeFilter(type="CAUSES"), scale(0.5))
        tx.add_accesses({"a": 4})
        tx.delete("a")
        tx.delete_edge("b", "c", edge_type="PART_OF")


@pytest.mark.parametrize("between", ["nothing", "flush", "compact", "reopen", "kill", "all"])
def test_an_undone_transaction_leaves_no_trace(between: str) -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    evening(store)
    store.flush()
    before = logical(store)
    night(store)
    assert logical(store) != before
    if between in ("flush", "all"):
        store.flush()
    if between in ("compact", "all"):
        store.compact()
    if between in ("reopen", "all"):
        store.close()
        store = fresh(fs)
    if between in ("kill", "all"):
        fs = fs.after_crash("all")
        store = fresh(fs)
    assert [(t.id, t.state, t.conflict) for t in store.transactions()] == [("night-1", "open", "")]
    store.undo("night-1")
    for step in (lambda: None, store.flush, store.compact):
        step()
        assert logical(store) == before
        assert logical(T4DX.open("store", read_only=True, fs=fs.after_crash("all"))) == before
    assert store.search([1.0, 0.0], 9).ids == ["b"]
    assert [t.state for t in store.transactions()] == ["undone"]
    assert store.verify("deep").ok


def test_an_undo_is_one_record_and_survives_a_crash_whole() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    evening(store)
    before = logical(store)
    night(store)
    after, size = logical(store), store.stats()["wal_bytes"]
    store.undo("night-1")
    end = store.stats()["wal_bytes"]
    assert end - size > 500
    for cut in [*range(size, end, 150), end]:
        crashed = fs.after_crash("all")
        del crashed._file("store/" + _log(crashed)).data[cut:]
        found = logical(T4DX.open("store", read_only=True, fs=crashed))
        assert found == (before if cut == end else after)


def _log(fs: SimulatedFileSystem) -> str:
    return next(name for name in fs.listdir("store") if name.startswith("wal-"))


def later(store: T4DX, kind: str) -> None:
    match kind:
        case "field":
            store.update_fields("b", importance=0.9)
        case "kappa":
            store.merge_kappa(["b"], 0.1)
        case "version":
            store.insert(Item(id="c", content="later"))
        case "reinsert":
            store.insert(Item(id="a"))
        case "made":
            store.add_accesses({"proto": 1})
        case "link":
            store.insert_many([], [Edge("b", "proto", "CAUSES")])
        case "edge":
            store.insert_many([], [Edge("b", "c", "PART_OF")])
        case "delete":
            store.delete("b")
        case "close":
            store.close_item("c")


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("field", "importance of item 'b'"),
        ("kappa", "kappa of item 'b'"),
        ("version", "item 'c'"),
        ("reinsert", "item 'a'"),
        ("made", "access_count of item 'proto'"),
        ("link", "item 'proto'"),
        ("edge", "edge 'b' -> 'c' of type PART_OF"),
        ("delete", "item 'b'"),
        ("close", "item 'c'"),
    ],
)
def test_a_later_write_to_the_same_things_is_named(kind: str, what: str, flushed: bool) -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    evening(store)
    night(store)
    if flushed:
        store.flush()
    later(store, kind)
    lsn, held = store.lsn, logical(store)
    if flushed:
        store.compact()
        store.close()
        store = fresh(fs)
    with pytest.raises(errors.UndoConflictError) as caught:
        store.undo("night-1")
    assert str(caught.value) == (
        f"transaction 'night-1' cannot be undone: {what} was changed at LSN {lsn} by a later write; "
        "take the values from a snapshot or a backup and write them anew"
    )
    assert store.transactions()[0].conflict == what
    assert logical(store) == held


def test_writes_to_other_things_are_no_conflict() -> None:
    store = fresh()
    evening(store)
    night(store)
    store.insert(Item(id="d"), [Edge("d", "b", "RELATES_TO")])
    store.add_accesses({"b": 2})
    store.undo("night-1")
    assert store.get("b").access_count == 2
    assert (store.get("b").importance, store.get("b").metadata) == (0.75, {})
    assert store.get("a").content == "second"
    assert store.get("d") is not None


def test_a_rule_that_scales_a_touched_edge_is_a_conflict() -> None:
    store = fresh()
    evening(store)
    with store.transaction(id="t", undo=True) as tx:
        tx.update_edge_weight("a", "b", 0.1, edge_type="CAUSES")
    store.batch_scale_weights(EdgeFilter(type="PART_OF"), scale(0.5))
    assert store.transactions()[0].conflict == ""
    store.batch_scale_weights(EdgeFilter(source=("a", "x")), scale(0.5))
    with pytest.raises(errors.UndoConflictError, match="edge 'a' -> 'b' of type CAUSES was changed at LSN"):
        store.undo("t")


def test_nights_are_undone_from_the_last_one_back() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    evening(store)
    states = [logical(store)]
    for number in range(4):
        with store.transaction(id=f"night-{number}", undo=True) as tx:
            tx.merge_kappa(["b"], 0.25)
            if number == 1:
                tx.delete("b")  # its versions come back under new LSNs, and the older undo still finds them
                tx.insert(Item(id="b", content="second life"))
            if number == 2:
                tx.delete("b")
                tx.insert(Item(id="b", content="third life"), [Edge("b", "c", "CAUSES", 0.5)])
        states.append(logical(store))
        store.flush()
    with pytest.raises(
        errors.UndoConflictError, match=r"by transaction 'night-2'; undo that one first: store.undo"
    ):
        store.undo("night-1")
    for number in (3, 2, 1, 0):
        assert logical(store) == states[number + 1]
        store.undo(f"night-{number}")
        assert logical(store) == states[number]
        if number == 2:
            store.compact()
            store.close()
            store = fresh(fs)
    assert [t.state for t in store.transactions()] == ["undone"] * 4


def test_the_last_transactions_are_kept_and_ids_are_used_once() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs, undo_keep=3)
    store.insert(Item(id="a"))
    for number in range(5):
        with store.transaction(id=f"t{number}", undo=number != 3) as tx:
            tx.update_fields("a", kappa=number / 10)
        store.flush()
    store.close()
    store = fresh(fs, undo_keep=3)
    assert [t.id for t in store.transactions()] == ["t2", "t3", "t4"]
    info = store.transactions()[2]
    assert isinstance(info, TransactionInfo)
    assert (info.first_lsn, info.last_lsn, info.state) == (store.lsn - 1, store.lsn, "open")
    with pytest.raises(
        errors.UnknownTransactionError, match=r"no transaction 't0' is remembered \(t2, t3, t4\)"
    ):
        store.undo("t0")
    with pytest.raises(
        errors.TransactionError, match=r"'t3' was committed without undo=True; see store.transac"
    ):
        store.undo("t3")
    lsn = store.lsn

    def again(name: str) -> None:
        with store.transaction(id=name, undo=True) as tx:
            tx.update_fields("a", kappa=0.9)

    with pytest.raises(errors.TransactionError, match="'t4' was committed before; choose another id"):
        again("t4")
    assert store.lsn == lsn
    store.undo("t4")
    with pytest.raises(errors.TransactionError, match=r"'t4' was undone before; see store.transactions"):
        store.undo("t4")
    again("t4")
    assert store.get("a").kappa == 0.9
    with pytest.raises(errors.TransactionError, match=r"an undo needs an id; write store.transaction"):
        store.transaction(undo=True)

    def inside() -> None:
        with store.transaction() as tx:
            tx.insert(Item(id="b"))
            tx.undo("t4")

    with pytest.raises(errors.TransactionError, match=r"an undo is a write of its own; call store.undo"):
        inside()


def test_deleted_items_of_every_collection_come_back_with_their_vectors(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os"), clock=Ticks(0.0)) as store:
        store.create_collection("notes", dim=3, metric="l2")
        store.insert_many(
            [
                Item(id="x", vector=np.array([3, 4], np.float32), session="s"),
                Item(id="y", vector=np.ones(3, np.float32), collection="notes"),
                Item(id="z", collection="notes"),
            ]
        )
        store.insert(Item(id="y", vector=np.full(3, 2, np.float32), collection="notes"))
        before = logical(store), [store.history(n) for n in "xyz"]
        with store.transaction(id="t", undo=True) as tx:
            tx.delete_many(["x", "y", "z"])
        store.compact()
        assert store.count() == 0
        store.undo("t")
        store.compact()
        assert (logical(store), [store.history(n) for n in "xyz"]) == before
        assert store.search([2.0, 2.0, 2.0], 3, collection="notes")[0].score == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_random_transactions_are_undone_to_the_bit(seed: int) -> None:
    rng, clock, fs = random.Random(seed), Ticks(), SimulatedFileSystem(seed=seed)
    store = T4DX.open("store", dim=DIM, options=TINY, clock=clock, fs=fs)
    model, stack = Model(), list[tuple[str, tuple[object, ...]]]()
    for _ in range(12):
        write_step(rng, store, model, clock)
    for number in range(8):
        stack.append((f"t{number}", logical(store)))
        with store.transaction(id=f"t{number}", undo=True) as tx:
            for _ in range(rng.randrange(1, 7)):
                write_step(rng, tx, model, clock)
        move = rng.random()
        if move < 0.3:
            store.flush()
        elif move < 0.5:
            store.compact(full=rng.random() < 0.5)
        elif move < 0.7:
            store.close()
            store = T4DX.open("store", options=TINY, clock=clock, fs=fs)
    while stack:
        name, before = stack.pop()
        store.undo(name)
        assert logical(store) == before, name
        if rng.random() < 0.4:
            store.close()
            store = T4DX.open("store", options=TINY, clock=clock, fs=fs)
            assert logical(store) == before, name
    assert store.verify("deep").ok


def test_what_undoes_transactions_is_counted_apart(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "store", dim=2, options=Options(undo_keep=2)) as store:
        store.insert_many([Item(id=f"item {n}", content="x" * 100) for n in range(50)])
        assert store.stats()["undo_bytes"] == 0
        sizes = []
        for night in range(3):
            with store.transaction(id=f"night {night}", undo=True) as tx:
                tx.delete_many([f"item {10 * night + n}" for n in range(10)])
            store.compact()
            sizes.append(store.stats()["undo_bytes"])
        assert 0 < sizes[0] < sizes[1]
        assert sizes[2] == pytest.approx(sizes[1], rel=0.1)  # the first night is forgotten
        assert sizes[2] < store.stats()["bytes"]


def test_an_edge_that_an_undo_reopens_keeps_what_a_rule_made_of_its_weight(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2) as store:
        store.insert(Item(id="a"), [Edge("a", "b", "CAUSES", weight=1.0)])
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), scale(0.5))
        with store.transaction(id="night", undo=True) as tx:
            tx.insert_many((), [Edge("a", "b", "CAUSES", weight=0.9)])
        store.undo("night")
        assert [edge.weight for edge in store.edges()] == [0.5]
