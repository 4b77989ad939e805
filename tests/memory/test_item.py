"""MemoryItem and the store's rows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from t4dm.memory.item import MemoryItem
from t4dm.t4dx import T4DX, Edge, EdgeType

MEMORY = MemoryItem(
    id="m1",
    event_time=10.0,
    record_time=12.0,
    content="the milk is in the cellar",
    embedding=np.array([0.6, 0.8, 0.0], dtype=np.float32),
    valid_until=99.0,
    kappa=0.25,
    importance=0.75,
    session="anna",
    tokens=(5, 6, 7),
    prediction_error=1.5,
    tau=0.75,
    spike_trace=(0.5, 0.0),
    access_count=3,
    links=(Edge("m1", "m0", EdgeType.TEMPORAL_AFTER, valid_from=10.0, record_time=12.0),),
    metadata={"speaker": "anna"},
)


def test_a_memory_survives_the_store_and_a_reopening(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=3, clock=lambda: 12.0) as store:
        row, edges = MEMORY.to_store()
        store.insert(row, edges)
    with T4DX.open(tmp_path / "s", dim=3) as store:
        found = store.get("m1")
        assert found is not None
        again = MemoryItem.from_store(found, list(store.edges()))
    for name in MemoryItem.__slots__:
        if name == "embedding":
            np.testing.assert_array_equal(again.embedding, MEMORY.embedding)
        elif name == "valid_from":
            assert again.valid_from == 10.0  # the event time, where none was given
        elif name == "links":
            assert [(e.source, e.target, e.type) for e in again.links] == [
                ("m1", "m0", EdgeType.TEMPORAL_AFTER)
            ]
        else:
            assert getattr(again, name) == getattr(MEMORY, name), name


def test_defaults_are_a_fresh_episode_of_unlimited_validity() -> None:
    memory = MemoryItem(id="x", event_time=1.0, record_time=1.0)
    row, edges = memory.to_store()
    assert (row.kappa, row.type, row.valid_until, edges) == (0.0, "episodic", math.inf, ())
    assert "tokens" not in row.metadata


def test_edges_of_other_items_are_not_links() -> None:
    row, _ = MEMORY.to_store()
    other = Edge("m9", "m1", EdgeType.RELATES_TO)
    assert MemoryItem.from_store(row, [other]).links == ()
