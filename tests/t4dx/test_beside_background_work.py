"""What a harness of interleaved flushes and compactions found, each as small as it gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reliability.options import options
from simulated_fs import SimulatedFileSystem

from t4dm.t4dx import T4DX, EdgeFilter, Item
from t4dm.t4dx.deltas import fold
from t4dm.t4dx.operators import scale
from t4dm.t4dx.types import Edge


def test_a_compaction_ends_although_writers_change_what_it_has_folded() -> None:
    fs = SimulatedFileSystem()
    with T4DX.open("s", dim=2, options=options(durability="os", max_deltas=1), fs=fs) as store:
        store.insert_many([Item(id=f"i{n}") for n in range(5)])
        store.flush()
        for value in (0.25, 0.5):
            for n in range(5):
                store.update_fields(f"i{n}", importance=value)
            if value == 0.25:
                store.flush()
        fs.fail_at, fs.forever = fs.calls + 100, True  # an endless one would end there
        store._upkeep.compact(full=False)
        assert store.stats()["bytes_written"]["columns"] == 5 * 8
        assert [item.importance for item in store.scan()] == [0.5] * 5
        fs.fail_at = 0


def test_a_fold_keeps_the_lsn_of_a_patch_that_is_newer_than_a_rule() -> None:
    with T4DX.open("s", dim=2, options=options(durability="os"), fs=SimulatedFileSystem()) as store:
        store.insert(Item(id="a"), [Edge("a", "b", "CAUSES"), Edge("a", "c", "CAUSES")])
        store.update_edge_weight("a", "c", -0.25, edge_type="CAUSES")
        store.flush()
        store.update_edge_weight("a", "c", -0.25, edge_type="CAUSES")
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), scale(0.5))
        rule = store.lsn
        store.update_edge_weight("a", "b", -0.25, edge_type="CAUSES")
        state = store._state
        [draft] = state.segments
        folded = fold(draft, state.rules, store.lsn).columns["edges", "weight"]()
        stamps = {draft.source.edge_ends(row)[1]: int(folded.stamps[row]) for row in range(2)}
        assert stamps == {"b": rule + 1, "c": rule}


def beside_a_merge(store: T4DX, act: Callable[[], None]) -> None:
    """Merge all segments; `act` is what others do after its files were written."""
    upkeep, catch_up = store._upkeep, store._upkeep._catch_up

    def caught_up(*args: Any) -> int:
        del upkeep._catch_up
        act()
        return catch_up(*args)

    upkeep._catch_up = caught_up
    store.compact()


def two_segments(fs: SimulatedFileSystem) -> T4DX:
    store = T4DX.open("s", dim=2, options=options(durability="os", max_deltas=1), fs=fs)
    store.insert(Item(id="a"), [Edge("a", "b", "CAUSES", 0.75), Edge("a", "c", "CAUSES", 0.75)])
    store.flush()
    store.insert(Item(id="b"))
    store.flush()
    return store


def test_a_rule_that_was_flushed_beside_a_merge_outlives_the_rewriting_of_the_columns() -> None:
    fs = SimulatedFileSystem()

    def act() -> None:
        store.batch_scale_weights(EdgeFilter(type="CAUSES"), scale(0.5))
        store.update_edge_weight("a", "c", 0.125, edge_type="CAUSES")
        store.flush()

    with two_segments(fs) as store:
        beside_a_merge(store, act)
        store._upkeep.compact(full=False)
        assert store.stats()["bytes_written"]["columns"] > 0
        assert {edge.target: edge.weight for edge in store.edges()} == {"b": 0.375, "c": 0.5}
    with T4DX.open("s", fs=fs) as store:
        assert {edge.target: edge.weight for edge in store.edges()} == {"b": 0.375, "c": 0.5}


def test_a_patch_that_was_flushed_beside_a_merge_and_then_patched_again_is_in_the_rewritten_column() -> None:
    fs = SimulatedFileSystem()

    def act() -> None:
        store.merge_kappa(["a"], 0.5)
        store.flush()
        store.merge_kappa(["a"], 0.5)

    with two_segments(fs) as store:
        beside_a_merge(store, act)
        store._upkeep.compact(full=False)
        assert store.stats()["bytes_written"]["columns"] > 0
        assert store.get("a").kappa == 0.75
    with T4DX.open("s", fs=fs) as store:  # the second one comes from the log, on top of the column
        assert store.get("a").kappa == 0.75
