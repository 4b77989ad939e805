"""More than is remembered, larger than is written at once, and an allocation that fails."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from reliability.io_errors import Memory
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.errors import StoreError
from t4dm.t4dx import T4DX, AffineClip, Edge, Item, Options

OS = Options(durability="os", memtable_items=100_000)


def opened(fs: SimulatedFileSystem) -> T4DX:
    return T4DX.open("s", dim=2, options=OS, clock=Ticks(), fs=fs)


def test_more_edges_than_are_remembered_are_found_again() -> None:
    store = opened(SimulatedFileSystem())
    store.insert_many([], [Edge("hub", f"{n}", "CAUSES", 0.0) for n in range(4200)])
    weights = {f"{n}": n / 8192 for n in range(4200)}
    store.update_edge_weights(
        [("hub", name, "CAUSES", AffineClip(0.0, weight, 0.0, 1.0)) for name, weight in weights.items()]
    )
    store.update_edge_weight("hub", "0", 0.5, edge_type="CAUSES")
    found = {edge.target: edge.weight for edge in store.edges(source="hub")}
    assert found == weights | {"0": 0.5}


def test_columns_larger_than_one_write_come_back_whole(tmp_path: Path) -> None:
    """A name of a session of 5 MB, a text of 9 MB: more than is written, synced or checked at once."""
    session, content = "s" * 5_000_000, "text" * 2_250_000
    with T4DX.open(tmp_path / "s", dim=2, options=OS) as store:
        store.insert(Item(id="a", session=session, content=content))
        store.flush()
    with T4DX.open(tmp_path / "s") as store:
        found = store.get("a")
        assert found is not None
        assert (found.session, found.content) == (session, content)
        assert store.verify("deep").ok
    [texts] = tmp_path.glob("s/segments/*/texts.npy")
    damaged = bytearray(texts.read_bytes())
    damaged[300_000] ^= 1
    texts.write_bytes(damaged)
    store = T4DX.open(tmp_path / "s", read_only=True)
    with pytest.raises(StoreError, match=r"texts\.npy: its checksum is wrong"):
        store.get("a")


def test_an_allocation_that_fails_anywhere_in_a_write_leaves_all_of_it_or_nothing() -> None:
    found = set()
    for at in range(1, 1000):
        fs = SimulatedFileSystem()
        store = opened(fs)
        store.insert(Item(id="a"))
        with contextlib.suppress(MemoryError, StoreError), Memory(at):
            store.insert(Item(id="b", vector=[1.0, 0.0]), [Edge("b", "a", "CAUSES")])
            break
        held = store.count(), len(list(store.edges()))
        with opened(fs.after_crash("all")) as again:
            kept = again.count(), len(list(again.edges()))
            assert again.verify("deep").ok
        assert held in ((1, 0), kept)
        found.add((held, kept, bool(store.stats()["poisoned"])))
    assert at > 30
    assert found >= {
        ((1, 0), (1, 0), False),  # before it was logged
        ((1, 0), (2, 1), True),  # logged and not applied: a reopen brings both together
        ((2, 1), (2, 1), False),  # all of it was done
    }
