"""What verify(deep) says of a state: nothing of a sound one; and where a lookup misses what is there."""

from __future__ import annotations

from pathlib import Path

from t4dm.t4dx import T4DX, Edge, Item
from t4dm.t4dx.contradictions import of_state


def test_a_sound_state_has_no_contradiction_and_a_lost_lookup_is_one(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "store", dim=2, clock=lambda: 5.0) as store:
        store.insert_many([Item(id="a"), Item(id="b")], [Edge("a", "b", "RELATES_TO")])
        state = store._state
        assert of_state(state) == []
        state.memtable._rows.pop("a")
        found = of_state(state)
        assert found
        assert all(problem.startswith("the memtable: ") for problem in found)
