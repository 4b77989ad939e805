"""What the door says to values that are unusual or wrong, and to handles that are closed."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks, digest

from t4dm.errors import (
    EdgeError,
    FilterError,
    ItemError,
    ReadOnlyStoreError,
    StoreClosedError,
)
from t4dm.t4dx import T4DX, Edge, EdgeFilter, F, Filter, Item, Options
from t4dm.t4dx.history import life_of


@pytest.fixture
def fs() -> SimulatedFileSystem:
    return SimulatedFileSystem()


@pytest.fixture
def store(fs: SimulatedFileSystem) -> T4DX:
    return opened(fs)


def opened(fs: SimulatedFileSystem, **options: object) -> T4DX:
    return T4DX.open("s", dim=2, options=Options(**{"durability": "os", **options}), clock=Ticks(), fs=fs)


def test_items_are_equal_by_what_they_say_and_stand_in_sets_by_their_id() -> None:
    assert Item(id="a") != "a"
    assert len({Item(id="a", record_time=1.0), Item(id="a", record_time=1.0)}) == 1
    assert len({Item(id="a", record_time=1.0), Item(id="a", record_time=2.0)}) == 2
    assert len({Edge("a", "b", "CAUSES"), Edge("a", "b", "CAUSES"), Edge("a", "b", "PART_OF")}) == 2


def test_hits_show_ids_and_scores(store: T4DX) -> None:
    store.insert(Item(id="a", vector=[3.0, 4.0]))
    assert repr(store.search([1.0, 0.0], 1)) == "Hits([('a', 0.6)])"


def test_a_handle_tells_its_size_and_refuses_everything_once_closed(store: T4DX) -> None:
    assert store.dim == store.snapshot()._read().dim == 2
    store.insert(Item(id="a"))
    store.close()
    for call in (store.count, store.flush, store.compact, store.transactions, store.collections):
        with pytest.raises(StoreClosedError, match="s is closed"):
            call()
    with pytest.raises(StoreClosedError):
        store.insert(Item(id="b"))


def test_a_reader_makes_no_names(fs: SimulatedFileSystem, store: T4DX) -> None:
    reader = T4DX.open("s", read_only=True, fs=fs)
    with pytest.raises(ReadOnlyStoreError):
        reader.register_edge_type("ECHOES")
    with pytest.raises(ReadOnlyStoreError):
        reader.create_collection("images", dim=3)


def test_a_field_of_the_wrong_kind_is_refused_before_anything_is_logged(store: T4DX) -> None:
    store.insert(Item(id="a"))
    before = store.lsn
    with pytest.raises(ItemError, match="type of item 'a' cannot be 'dream'; choose one of episodic"):
        store.update_fields("a", type="dream")
    with pytest.raises(EdgeError, match="record_until of edge 'a' -> 'b' is set by the store"):
        store.insert_many([], [Edge("a", "b", "CAUSES", record_until=9.0)])
    assert store.lsn == before


@pytest.mark.parametrize("value", [None, "high", [0.5], 1 + 2j])
@pytest.mark.parametrize("field", ["kappa", "access_count", "event_time"])
def test_what_is_no_number_is_refused_by_name(store: T4DX, field: str, value: Any) -> None:
    with pytest.raises(ItemError, match=f"{field} of item 'a' is .*; give a number"):
        store.insert(Item(id="a", **{field: value}))
    assert store.count() == store.lsn == 0
    store.insert(Item(id="a"))
    with pytest.raises(ItemError, match=f"{field} of item 'a' is .*; give a number"):
        store.update_fields("a", **{field: value})


def test_metadata_may_be_any_mapping_empty_or_not(store: T4DX) -> None:
    store.insert(Item(id="a", metadata=MappingProxyType({})))
    store.insert(Item(id="b", metadata=MappingProxyType({"n": 1})))
    assert [dict(item.metadata) for item in store.scan(order="id")] == [{}, {"n": 1}]
    store.update_fields("b", metadata=MappingProxyType({}))
    assert store.get("b").metadata == {}


def test_edges_have_no_fields_of_items(store: T4DX) -> None:
    with pytest.raises(FilterError, match="a condition on an edge looks at its properties"):
        list(store.edges(where=EdgeFilter(where=(F("why") == "x") & ~(F("@kappa") > 0.5))))


def test_a_filter_of_names_takes_only_names(store: T4DX) -> None:
    with pytest.raises(FilterError, match=r"session of a filter is a string or several, not \('a', 3\)"):
        store.count(Filter(session=("a", 3)))  # type: ignore[arg-type]
    with pytest.raises(FilterError, match="no column 'colour'; choose one of"):
        store.column("colour")


def test_at_most_includes_the_bound(store: T4DX) -> None:
    store.insert_many([Item(id=f"{n}", metadata={"n": n}) for n in range(4)])
    assert [item.id for item in store.scan(Filter(where=F("n") <= 2), order="id")] == ["0", "1", "2"]


def test_writes_of_nothing_write_nothing(store: T4DX) -> None:
    assert store.update_edge_weights([]) == store.merge_kappa([], 0.5) == store.add_accesses({}) == 0
    assert store.lsn == 0


def test_the_life_of_an_id_begins_anew_after_a_deletion(store: T4DX) -> None:
    store.insert(Item(id="a"), [Edge("a", "b", "CAUSES")])
    store.delete("a")
    store.insert(Item(id="a"), [Edge("a", "c", "CAUSES")])
    assert [(written.lsn, type(written.version).__name__) for written in life_of(store, "a")] == [
        (4, "Item"),
        (5, "Edge"),
    ]


def test_the_end_of_an_item_can_be_undone(store: T4DX) -> None:
    store.insert(Item(id="a"))
    before = digest(store)
    with store.transaction(id="end", undo=True) as tx:
        tx.close_item("a")
    assert store.get("a") is None
    store.undo("end")
    assert digest(store) == before


def test_many_that_tie_are_ordered_by_their_ids_up_to_the_limit(store: T4DX) -> None:
    names = [f"{n * 7919 % 1000:03}" for n in range(600)]  # in no order
    store.insert_many([Item(id=name, kappa=0.5) for name in names])
    store.insert(Item(id="low", kappa=0.25))
    first = sorted(names)[:4]
    assert [item.id for item in store.scan(order="-kappa", limit=4)] == first
    assert [item.id for item in store.scan(order="kappa", limit=4)] == ["low", *first[:3]]


def test_more_comparisons_than_are_remembered_are_made_anew(store: T4DX) -> None:
    store.insert_many([Item(id=f"{n}", metadata={"name": f"n{n}"}) for n in range(3)])
    counts = [store.count(Filter(where=F("name") == f"n{n}")) for n in range(70)]
    assert counts == [1, 1, 1] + [0] * 67
    assert store.count(Filter(where=F("name") == "n0")) == 1


def test_a_bound_beyond_all_floats_is_above_every_number(store: T4DX) -> None:
    store.insert_many([Item(id=name, metadata={"n": n}) for name, n in (("a", -5), ("b", 2**63), ("c", 7))])
    assert store.count(Filter(where=F("n") < 10**400)) == store.count(Filter(where=F("n") > -(10**400))) == 3
    assert store.count(Filter(where=F("n") > 10**400)) == store.count(Filter(where=F("n") < -(10**400))) == 0


def test_more_items_than_are_remembered_are_found_again(fs: SimulatedFileSystem) -> None:
    store = opened(fs)
    store.insert_many([Item(id=f"{n}") for n in range(4200)])
    for n in range(4200):
        store.update_fields(f"{n}", access_count=n)
    store.update_fields("0", access_count=7)
    assert store.get("0").access_count == 7
    assert [store.get(f"{n}").access_count for n in (1, 4095, 4096, 4199)] == [1, 4095, 4096, 4199]
