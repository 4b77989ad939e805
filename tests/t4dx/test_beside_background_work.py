"""What a harness of interleaved flushes and compactions found, each as small as it gets."""

from __future__ import annotations

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
