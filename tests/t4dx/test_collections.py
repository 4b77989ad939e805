"""Several collections in one store: each with its own vector size and metric, one graph over all."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem

from t4dm import errors
from t4dm.t4dx import T4DX, Collection, Edge, Item, Options


def fresh(fs: SimulatedFileSystem | None = None, **kwargs: object) -> T4DX:
    options = Options(durability="os")
    return T4DX.open("store", options=options, fs=fs or SimulatedFileSystem(), **{"dim": 2, **kwargs})


def test_each_collection_is_searched_alone_and_survives_flush_compaction_and_a_crash() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    assert store.create_collection("notes", dim=3) == Collection("notes", 3, "cosine")
    store.insert_many(
        [
            Item(id="a", vector=np.ones(2)),
            Item(id="n", vector=np.array([1.0, 0.0, 0.0]), collection="notes"),
            Item(id="m", vector=np.array([0.0, 1.0, 0.0]), collection="notes"),
        ],
        [Edge("a", "n", "RELATES_TO")],
    )
    for step in (lambda: None, store.flush, store.compact):
        step()
        for seen in (store, T4DX.open("store", read_only=True, fs=fs.after_crash("all"))):
            assert seen.search(np.ones(2), 9).ids == ["a"]
            assert seen.search([0.1, 1.0, 0.0], 9, collection="notes").ids == ["m", "n"]
            assert seen.get("n").collection == "notes"
            assert seen.get("n").vector.tolist() == [1.0, 0.0, 0.0]
            assert seen.traverse("a")[0].item.id == "n"
            assert [item.id for item in seen.scan()] == ["a", "m", "n"]


def test_a_collection_is_known_after_a_crash_that_follows_its_creation() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    store.create_collection("notes", dim=3, metric="l2")
    again = fresh(fs.after_crash("synced"), dim=None)
    assert again.collections() == {
        "default": Collection("default", 2, "cosine"),
        "notes": Collection("notes", 3, "l2"),
    }


def test_a_collection_is_made_once_and_refused_when_it_differs() -> None:
    store = fresh()
    store.create_collection("notes", dim=3)
    store.create_collection("notes", dim=3)
    assert list(store.collections()) == ["default", "notes"]
    with pytest.raises(errors.CollectionExistsError, match="exists with dim=3 and metric='cosine'"):
        store.create_collection("notes", dim=4)
    with pytest.raises(errors.OptionError, match="metric is 'hamming'; choose one of cosine, dot, l2"):
        store.create_collection("other", dim=4, metric="hamming")
    with pytest.raises(errors.OptionError, match="dim is 0"):
        store.create_collection("other", dim=0)
    with pytest.raises(errors.OptionError, match="a collection's name is a non-empty string"):
        store.create_collection("", dim=4)


def test_an_unknown_collection_is_named_with_what_to_type() -> None:
    store = fresh()
    with pytest.raises(errors.UnknownCollectionError, match=r"no collection 'x' .*create_collection\('x'"):
        store.insert(Item(id="a", collection="x"))
    with pytest.raises(errors.UnknownCollectionError):
        store.search(np.ones(2), 1, collection="x")


def test_an_id_lives_in_one_collection() -> None:
    store = fresh()
    store.create_collection("notes", dim=3)
    store.insert(Item(id="a"))
    with pytest.raises(errors.ItemError, match="item 'a' lives in collection 'default', not 'notes'"):
        store.insert(Item(id="a", collection="notes"))
    with pytest.raises(errors.ItemError, match="twice in one insert"):
        store.insert_many([Item(id="b"), Item(id="b", collection="notes")])

    def both() -> None:
        with store.transaction() as tx:
            tx.insert(Item(id="c", collection="notes"))
            tx.insert(Item(id="c"))

    with pytest.raises(errors.ItemError, match="lives in collection 'notes'"):
        both()
    store.delete("a")
    store.insert(Item(id="a", collection="notes"))
    assert store.get("a").collection == "notes"
    assert store.get("c") is None


def test_a_metric_that_differs_from_the_store_is_refused() -> None:
    fs = SimulatedFileSystem()
    fresh(fs, metric="dot").close()
    fresh(fs).close()
    with pytest.raises(errors.StoreMetricError, match="by dot, not l2; open it with metric='dot'"):
        fresh(fs, metric="l2")


def test_an_edge_type_registered_at_run_time_survives_a_crash() -> None:
    fs = SimulatedFileSystem()
    store = fresh(fs)
    with pytest.raises(errors.EdgeError, match="'LIKES' is not known"):
        store.insert_many([], [Edge("a", "b", "LIKES")])
    store.register_edge_type("LIKES")
    store.register_edge_type("LIKES")
    store.insert_many([], [Edge("a", "b", "LIKES")])
    again = fresh(fs.after_crash("all"))
    assert [edge.type for edge in again.edges()] == ["LIKES"]
