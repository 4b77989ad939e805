"""One field of many items, in one record."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from t4dm.errors import ItemError, ItemNotFoundError, TransactionError
from t4dm.t4dx import T4DX, Filter, Item
from t4dm.t4dx.locating import MANY

COLLIDING = "fee72ef6c8dd", "547c1be46ecd"


@pytest.fixture
def store(tmp_path: Path):
    with T4DX.open(tmp_path / "s", dim=2) as opened:
        opened.insert_many([Item(id=f"m{n}", kappa=n / 8) for n in range(4)])
        opened.flush()
        opened.insert_many([Item(id=f"m{n}", kappa=n / 8) for n in range(4, 8)])
        yield opened


def kappas(store: T4DX) -> list[float]:
    return [item.kappa for item in store.get_many(f"m{n}" for n in range(8))]


def test_all_named_items_get_the_value_and_no_other(store: T4DX) -> None:
    before = store.lsn
    store.update_many(["m1", "m6", "m3"], kappa=0.9)
    assert kappas(store) == [0.0, 0.9, 0.25, 0.9, 0.5, 0.625, 0.9, 0.875]
    assert store.lsn == before + 1


def test_several_fields_and_an_id_twice(store: T4DX) -> None:
    store.update_many(["m2", "m2", "m5"], kappa=0.1, metadata={"seen": True}, type="semantic")
    for name in ("m2", "m5"):
        item = store.get(name)
        assert (item.kappa, item.metadata, item.type) == (0.1, {"seen": True}, "semantic")


def test_it_is_there_after_a_reopen_with_and_without_a_flush(store: T4DX) -> None:
    store.update_many([f"m{n}" for n in range(0, 8, 2)], kappa=0.75)
    store.flush()
    store.update_many(["m0", "m7"], kappa=0.5)
    store.close()
    with T4DX.open(store.path) as again:
        assert kappas(again) == [0.5, 0.125, 0.75, 0.375, 0.75, 0.625, 0.75, 0.5]


def test_one_unknown_item_changes_nothing(store: T4DX) -> None:
    before = kappas(store)
    with pytest.raises(ItemNotFoundError, match="m9"):
        store.update_many(["m1", "m9"], kappa=0.9)
    assert kappas(store) == before


def test_a_wrong_value_is_refused_for_all(store: T4DX) -> None:
    with pytest.raises(ItemError, match=r"kappa of the 2 items is 1\.5; it lies in \[0, 1\], clip it first"):
        store.update_many(["m1", "m2"], kappa=1.5)
    with pytest.raises(ItemError, match="'content' of the 1 items cannot be updated in place"):
        store.update_many(["m1"], content="new")


def test_an_older_snapshot_keeps_the_old_values(store: T4DX) -> None:
    snapshot = store.snapshot()
    store.update_many(["m0", "m4"], kappa=1.0)
    assert (snapshot.get("m0").kappa, snapshot.get("m4").kappa) == (0.0, 0.5)
    assert (store.get("m0").kappa, store.get("m4").kappa) == (1.0, 1.0)


def test_no_items_is_no_write(store: T4DX) -> None:
    before = store.lsn
    assert store.update_many([], kappa=0.5) == before
    assert store.lsn == before


def test_in_a_transaction_it_sees_what_came_before(store: T4DX) -> None:
    with store.transaction() as tx:
        tx.insert(Item(id="m8", kappa=0.0))
        tx.update_many(["m8", "m0"], kappa=0.3)
    assert (store.get("m8").kappa, store.get("m0").kappa) == (0.3, 0.3)


def test_an_item_that_the_same_transaction_replaced_is_updated_in_its_new_version(store: T4DX) -> None:
    """The check finds the flushed version, the operation must find the one inserted meanwhile."""
    with store.transaction() as tx:
        tx.update_fields("m1", kappa=0.2)
        tx.insert(Item(id="m1", kappa=0.4, content="again"))
        tx.update_many(["m1", "m2"], kappa=0.6)
    item = store.get("m1")
    assert (item.kappa, item.content) == (0.6, "again")
    assert store.history("m1")[1].kappa == 0.2


def crowd(store: T4DX) -> dict[str, float]:
    """300 items over two segments and the memtable; some superseded, some patched, some gone."""
    names = [f"c{n}" for n in range(300)]
    store.insert_many([Item(id=name, kappa=0.5) for name in names[:120]])
    store.flush()
    store.insert_many([Item(id=name, kappa=0.5) for name in names[100:200]])  # 20 of them supersede
    store.update_many(names[:3], kappa=0.25)
    store.flush()
    store.insert_many([Item(id=name, kappa=0.5) for name in names[190:]])
    store.delete_many(["c7", "c150", "c250"])
    store.insert(Item(id="c150", kappa=0.75))
    return {item.id: item.kappa for item in store.scan() if item.id.startswith("c")}


def test_many_together_are_what_one_by_one_gives(store: T4DX, tmp_path: Path) -> None:
    expected = crowd(store)
    chosen = [name for place, name in enumerate(sorted(expected)) if place % 3]
    assert len(chosen) >= MANY
    store.update_many(chosen, kappa=0.125, access_count=7, type="semantic")
    store.merge_kappa(chosen, 0.5)
    for name, kappa in expected.items():
        item, picked = store.get(name), name in chosen
        assert item.kappa == (0.5625 if picked else kappa)
        assert (item.access_count, item.type) == ((7, "semantic") if picked else (0, "episodic"))
    store.close()
    with T4DX.open(store.path) as again:
        assert {item.id for item in again.scan() if item.access_count == 7} == set(chosen)
        again.compact()
        assert {item.id: item.kappa for item in again.scan() if item.id in chosen} == dict.fromkeys(
            chosen, 0.5625
        )


def test_one_unknown_or_deleted_item_among_many_is_named(store: T4DX) -> None:
    expected = crowd(store)
    for absent in ("c7", "nobody"):
        with pytest.raises(ItemNotFoundError, match=absent):
            store.update_many([*expected, absent], kappa=1.0)
    assert {name: store.get(name).kappa for name in expected} == expected


def test_ids_of_one_hash_are_told_apart(tmp_path: Path) -> None:
    """CRC-32 of both is the same; only one of them is stored, then both."""
    first, second = COLLIDING
    assert zlib.crc32(first.encode()) == zlib.crc32(second.encode())
    others = [f"o{n}" for n in range(MANY)]
    with T4DX.open(tmp_path / "t", dim=2) as store:
        store.insert_many([Item(id=name) for name in [first, *others]])
        store.flush()
        with pytest.raises(ItemNotFoundError, match=second):
            store.update_many([*others, second], kappa=1.0)
        store.insert(Item(id=second))
        store.compact()
        store.update_many([*others, second], kappa=0.25)
        assert (store.get(first).kappa, store.get(second).kappa) == (0.0, 0.25)


def test_a_filter_names_the_items_in_all_parts_of_the_store(store: T4DX) -> None:
    before = store.lsn
    store.update_where(Filter(kappa=(0.25, 0.625)), importance=1.0, type="semantic")
    assert [item.id for item in store.scan(Filter(importance=(1.0, 1.0)))] == ["m2", "m3", "m4", "m5"]
    assert [item.id for item in store.scan(Filter(type="semantic"))] == ["m2", "m3", "m4", "m5"]
    assert store.lsn == before + 2
    store.update_where(Filter(kappa=(0.25, 0.625)), kappa=0.0)
    assert kappas(store) == [0.0, 0.125, 0.0, 0.0, 0.0, 0.0, 0.75, 0.875]


def test_a_filter_that_nothing_passes_writes_nothing(store: T4DX) -> None:
    before = store.lsn
    assert store.update_where(Filter(kappa=(0.99, 1.0)), kappa=0.5) == before
    assert store.update_where(Filter()) == before


def test_an_update_by_a_filter_is_there_after_a_reopen(store: T4DX) -> None:
    store.update_where(Filter(ids=("m1", "m6", "absent")), kappa=0.5, metadata={"seen": 1})
    store.close()
    with T4DX.open(store.path) as again:
        assert kappas(again) == [0.0, 0.5, 0.25, 0.375, 0.5, 0.625, 0.5, 0.875]
        assert [item.id for item in again.scan(Filter(where={"seen": 1}))] == ["m1", "m6"]


@pytest.mark.parametrize("prefix", ["plain", "ä", "nul\0"])
def test_an_update_by_a_filter_finds_thousands_as_an_update_by_ids_does(tmp_path: Path, prefix: str) -> None:
    names = [f"{prefix}-{n * n}" for n in range(40 * MANY)]
    with T4DX.open(tmp_path / "s", dim=2) as store:
        for start in range(0, len(names), 1000):
            store.insert_many(
                [
                    Item(id=name, event_time=float(n))
                    for n, name in enumerate(names[start : start + 1000], start)
                ]
            )
            store.flush()
        store.insert(Item(id=names[7], event_time=7.0))
        store.delete(names[8])
        store.update_where(Filter(event_time=(5.0, 2000.0)), kappa=0.75)
        changed = set(names[5:2000]) - {names[8]}
        assert {item.id for item in store.scan(Filter(kappa=(0.75, 0.75)))} == changed
        store.compact()
        assert {item.id for item in store.scan(Filter(kappa=(0.75, 0.75)))} == changed


def test_a_filter_after_another_write_of_the_same_transaction_is_refused(store: T4DX) -> None:
    tx = store.transaction()
    tx.update_fields("m1", kappa=1.0)
    tx.update_where(Filter(kappa=(0.9, 1.0)), importance=0.0)
    with pytest.raises(TransactionError, match="an update by a filter looks at the store as it was before"):
        tx.__exit__(None, None, None)
    with store.transaction() as tx:
        tx.update_where(Filter(kappa=(0.7, 1.0)), importance=0.0)
        tx.update_fields("m1", kappa=1.0)
    assert [item.importance for item in store.get_many(["m1", "m6", "m7"])] == [0.5, 0.0, 0.0]


def test_an_update_by_a_filter_can_be_undone(store: T4DX) -> None:
    with store.transaction(id="night", undo=True) as tx:
        tx.update_where(Filter(kappa=(0.5, 1.0)), kappa=0.25)
    assert kappas(store) == [0.0, 0.125, 0.25, 0.375, 0.25, 0.25, 0.25, 0.25]
    store.undo("night")
    assert kappas(store) == [n / 8 for n in range(8)]
