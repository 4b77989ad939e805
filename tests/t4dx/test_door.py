"""What is refused at the door, by name, with the fix, and without a trace in the store."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem

from t4dm import errors
from t4dm.t4dx import T4DX, AffineClip, Edge, EdgeFilter, EdgeType, Filter, Item, Options

ONES = np.ones(3, np.float32)


@pytest.fixture
def store() -> T4DX:
    fs, options = SimulatedFileSystem(), Options(durability="os")
    store = T4DX.open("store", dim=3, options=options, clock=lambda: 100.0, fs=fs)
    store.insert_many(
        [Item(id="a", vector=ONES), Item(id="b")], [Edge("a", "b", "CAUSES"), Edge("a", "b", "PART_OF")]
    )
    return store


BAD_ITEMS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"id": ""}, errors.ItemError, r"non-empty string, not ''; make one with new_id"),
    ({"id": 7}, errors.ItemError, r"non-empty string, not 7"),
    ({"id": "\ud800"}, errors.ItemError, "not valid Unicode"),
    ({"vector": np.ones(4)}, errors.VectorError, r"shape \(4,\), the store holds \[3\]; pass 3 numbers"),
    ({"vector": np.ones((1, 3))}, errors.VectorError, r"shape \(1, 3\)"),
    ({"vector": np.array([1, np.nan, 0])}, errors.VectorError, "NaN or infinity; drop it or repair it"),
    ({"vector": np.array([1, np.inf, 0])}, errors.VectorError, "NaN or infinity"),
    ({"vector": np.full(3, 1e30)}, errors.VectorError, r"norm 1\.7e\+30; divide it by its norm"),
    ({"type": "dream"}, errors.ItemError, "choose one of episodic, semantic, procedural"),
    ({"kappa": 1.5}, errors.ItemError, r"kappa of item 'x' is 1\.5; it lies in \[0, 1\], clip it"),
    ({"importance": math.nan}, errors.ItemError, "importance of item 'x' is nan"),
    ({"access_count": -1}, errors.ItemError, "whole number from 0 on"),
    ({"event_time": 1.7e12}, errors.ItemError, "looks like milliseconds; divide it by 1000"),
    ({"event_time": math.nan}, errors.ItemError, "event_time of item 'x' is nan; give seconds"),
    ({"record_time": math.inf, "event_time": 1.0}, errors.ItemError, "record_time of item 'x' is inf"),
    ({"valid_from": 9.0, "valid_until": 8.0}, errors.ItemError, "swap valid_from and valid_until"),
    ({"record_until": 8.0}, errors.ItemError, "record_until of item 'x' is set by the store"),
    ({"metadata": {"x": object()}}, errors.ItemError, "metadata of item 'x' holds what cannot be stored"),
    ({"metadata": {1: 2}}, errors.ItemError, "mapping with string keys"),
    ({"content": b"bytes"}, errors.ItemError, r"content and session are strings"),
]


@pytest.mark.parametrize(("fields", "error", "words"), BAD_ITEMS)
def test_a_bad_item_is_refused_before_anything_is_logged(
    store: T4DX, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    lsn, size = store.lsn, store.stats()["wal_bytes"]
    with pytest.raises(error, match=words):
        store.insert_many([Item(id="good"), Item(**{"id": "x", **fields})])
    assert (store.lsn, store.stats()["wal_bytes"]) == (lsn, size)
    assert "good" not in store


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        (
            Edge("a", "b", "KNOWS"),
            r"edge type 'KNOWS' is not known .*options=Options\(edge_types=\('KNOWS',\)\)",
        ),
        (Edge("a", "b", "CAUSES", weight=1.2), r"weight of edge 'a' -> 'b' is 1\.2"),
        (Edge("a", "", "CAUSES"), "non-empty string"),
        (Edge("a", "b", "CAUSES", valid_from=1.7e12), "looks like milliseconds"),
        (Edge("a", "b", "CAUSES", properties={"x": {1}}), "properties of edge .* cannot be stored"),
    ],
)
def test_a_bad_edge_is_refused_with_its_items(store: T4DX, edge: Edge, words: str) -> None:
    with pytest.raises((errors.EdgeError, errors.ItemError), match=words):
        store.insert(Item(id="good"), [edge])
    assert "good" not in store


def test_an_id_or_edge_twice_in_one_insert_is_refused(store: T4DX) -> None:
    with pytest.raises(errors.ItemError, match="'x' is twice in one insert"):
        store.insert_many([Item(id="x"), Item(id="x")])
    with pytest.raises(errors.ItemError, match="twice in one insert"):
        store.insert_many([Item(id=f"{n}") for n in range(1500)] + [Item(id="0")])
    with pytest.raises(errors.EdgeError, match="twice in one insert"):
        store.insert(Item(id="x"), [Edge("x", "a", "CAUSES"), Edge("x", "a", EdgeType.CAUSES)])


def test_updates_name_what_is_missing(store: T4DX) -> None:
    for write in (
        lambda: store.update_fields("z", kappa=0.5),
        lambda: store.merge_kappa(["a", "z"], 0.5),
        lambda: store.add_accesses({"z": 1}),
        lambda: store.delete("z"),
        lambda: store.close_item("z"),
    ):
        with pytest.raises(errors.ItemNotFoundError, match=r"no item 'z' .*store\.get\('z'\)"):
            write()
    assert store.get("a").kappa == 0.0
    with pytest.raises(
        errors.EdgeNotFoundError, match=r"no edge 'a' -> 'b' of type SIMILAR_TO; .*store\.edges"
    ):
        store.update_edge_weight("a", "b", 0.1, edge_type="SIMILAR_TO")
    with pytest.raises(errors.EdgeNotFoundError, match="of any type"):
        store.update_edge_weight("b", "a", 0.1, edge_type=None)
    with pytest.raises(errors.EdgeError, match=r"joined by CAUSES, PART_OF; say which: edge_type='CAUSES'"):
        store.update_edge_weight("a", "b", 0.1, edge_type=None)
    with pytest.raises(errors.EdgeNotFoundError):
        store.delete_edge("b", "a", edge_type="CAUSES")


@pytest.mark.parametrize("field", ["content", "vector", "record_time", "nonsense"])
def test_versioned_fields_are_not_updated_in_place(store: T4DX, field: str) -> None:
    with pytest.raises(
        errors.ItemError, match=rf"'{field}' of item 'a' .* insert the item again to supersede it"
    ):
        store.update_fields("a", **{field: "x"})


@pytest.mark.parametrize(
    "op", [(-1.0, 0.0, 0.0, 1.0), (1.0, math.nan, 0.0, 1.0), (1.0, 0.0, 0.0, 2.0), (1, 0, 1, 0)]
)
def test_operators_that_leave_the_unit_interval_are_refused(store: T4DX, op: tuple[float, ...]) -> None:
    with pytest.raises(errors.EdgeError, match=r"weights stay in \[0, 1\]|is no operator"):
        store.batch_scale_weights(EdgeFilter(), AffineClip(*op))


@pytest.mark.parametrize(
    ("query", "k", "error", "words"),
    [
        (np.ones(4), 1, errors.VectorError, r"shape \[4\]; pass \[3\] or \[Q, 3\]"),
        (np.array([1, np.nan, 0]), 1, errors.VectorError, "NaN or infinity"),
        (ONES, -1, errors.FilterError, "k is -1"),
    ],
)
def test_bad_queries_are_refused(store: T4DX, query: Any, k: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        store.search(query, k)


def test_bad_filters_are_refused(store: T4DX) -> None:
    with pytest.raises(errors.FilterError, match=r"write kappa=\(0\.2, 0\.8\)"):
        Filter(kappa=0.5)  # type: ignore[arg-type]
    with pytest.raises(errors.FilterError, match="NaN side"):
        Filter(event_time=(math.nan, 1))
    with pytest.raises(errors.FilterError, match="session of a filter is a string or several"):
        Filter(session=3)  # type: ignore[arg-type]
    with pytest.raises(errors.FilterError, match="2 filters for 3 queries"):
        store.search(np.ones((3, 3), np.float32), 1, [Filter(), Filter()])
    with pytest.raises(errors.FilterError, match="cannot order by 'content'"):
        store.scan(order="content")
    with pytest.raises(errors.FilterError, match="depth=1"):
        store.traverse("a", depth=0)


def test_opening_explains_itself(store: T4DX) -> None:
    fs = store._fs
    with pytest.raises(errors.StoreLockedError, match="is open for writing by pid"):
        T4DX.open("store", fs=fs)
    store.close()
    with pytest.raises(errors.StoreMissingError, match=r"T4DX\.open\('nowhere', dim=1024\)"):
        T4DX.open("nowhere", fs=fs)
    assert not fs.exists("nowhere")
    with pytest.raises(errors.StoreDimensionError, match="size 3, not 5; open it with dim=3"):
        T4DX.open("store", dim=5, fs=fs)
    with pytest.raises(errors.OptionError, match="choose one of sync, interval, os"):
        T4DX.open("store", options=Options(durability="never"), fs=fs)
    with pytest.raises(errors.OptionError, match="dim is 0"):
        T4DX.open("new", dim=0, fs=fs)
    with T4DX.open("store", read_only=True, fs=fs) as reader:
        assert reader.read_only
        with pytest.raises(errors.ReadOnlyStoreError, match="opened with read_only=True"):
            reader.delete("a")


def test_registered_edge_types_are_remembered(store: T4DX) -> None:
    fs = store._fs
    store.close()
    with T4DX.open("store", options=Options(durability="os", edge_types=("KNOWS",)), fs=fs) as again:
        again.insert(Item(id="c"), [Edge("c", "a", "KNOWS")])
    with T4DX.open("store", options=Options(durability="os"), fs=fs) as again:
        assert [edge.type for edge in again.edges("c")] == ["KNOWS"]
        again.insert(Item(id="d"), [Edge("d", "a", "KNOWS")])
