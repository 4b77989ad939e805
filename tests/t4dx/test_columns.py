"""Columns with a log of patches: each reader sees the values of its LSN, and a write copies nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Edge, Item, Options, deltas
from t4dm.t4dx.columns import Column, Metas
from t4dm.t4dx.memtable import Memtable
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.rules import Rules
from t4dm.t4dx.sources import Source
from t4dm.t4dx.types import Collection


def test_each_lsn_has_its_own_values() -> None:
    column = Column(np.zeros(4), upto=0)
    for seq, (row, value) in enumerate([(1, 0.5), (2, 0.25), (1, 0.75)], start=1):
        column.log.add(row, value, seq)
    assert [column.array(lsn, 4).tolist() for lsn in range(4)] == [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.5, 0.0, 0.0],
        [0.0, 0.5, 0.25, 0.0],
        [0.0, 0.75, 0.25, 0.0],
    ]
    assert [column.at(1, lsn) for lsn in range(4)] == [0.0, 0.5, 0.5, 0.75]
    assert [column.stamp(1, lsn) for lsn in range(4)] == [0, 1, 1, 3]
    assert column.now(1) == 0.75
    assert column.entries(1, 3) == ([2, 1], [0.25, 0.75], [2, 3])
    assert column.entries(0, 2) == ([1, 2], [0.5, 0.25], [1, 2])


def test_an_array_that_a_reader_holds_never_changes_and_is_shared_while_nothing_does() -> None:
    column = Column(np.zeros(3), upto=0)
    column.log.add(0, 1.0, 1)
    held = column.array(1, 3)
    assert column.array(1, 3) is held
    column.log.add(0, 2.0, 2)
    assert column.array(2, 3).tolist() == [2.0, 0.0, 0.0]
    assert held.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_random_patches_agree_with_a_list_per_lsn(seed: int) -> None:
    rng, column, states = random.Random(seed), Column(np.arange(6.0), upto=0), [list(range(6))]
    for seq in range(1, 40):
        now = list(states[-1])
        rows = rng.sample(range(6), rng.randrange(1, 4))
        values = [rng.random() for _ in rows]
        if rng.random() < 0.5:
            column.log.extend(rows, values, [seq] * len(rows))
        else:
            for row, value in zip(rows, values, strict=True):
                column.log.add(row, value, seq)
        for row, value in zip(rows, values, strict=True):
            now[row] = value
        states.append(now)
    for lsn in rng.sample(range(40), 40):
        assert column.array(lsn, 6).tolist() == states[lsn]
        assert [column.at(row, lsn) for row in range(6)] == states[lsn]


def test_patches_of_one_row_twice_in_one_operation_keep_the_last() -> None:
    column = Column(np.zeros(2), upto=0)
    column.log.extend([1, 1], [0.25, 0.5], [7, 7])
    assert column.array(7, 2).tolist() == [0.0, 0.5]
    assert column.at(1, 7) == 0.5


def test_replaced_metadata_follows_the_lsn_as_well() -> None:
    metas = Metas(upto=3, taken={4: (b"old", 2)})
    metas.log.add(4, b"new", 5)
    metas.log.add(1, b"one", 6)
    assert [metas.at(4, lsn) for lsn in (4, 5)] == [b"old", b"new"]
    assert metas.all(5) == {4: b"new"}
    assert metas.all(6) is metas.all(6)
    assert metas.entries(1, 9) == ([4, 1], [b"new", b"one"], [5, 6])
    assert metas.folded(6) == {4: (b"new", 5), 1: (b"one", 6)}


def test_folding_keeps_what_came_later_and_disturbs_no_reader() -> None:
    types = EdgeTypes()
    draft = Memtable(Collections([Collection("default", 2)])).draft(lsn=0)
    draft.part = draft.part.replace(n=3)
    draft.n = 3
    draft.patch("items", "kappa", 0, 0.5, seq=4)
    draft.patch("items", "kappa", 1, 0.25, seq=8)
    draft.patch("items", "metadata", 2, b"\x80", seq=5)
    before = draft.view(4, Rules(types))
    deltas.settle(draft, deltas.fold(draft, Rules(types), 5))
    kappa = draft.part.items["kappa"]
    assert kappa.base[:3].tolist() == [0.5, 0.0, 0.0]
    assert kappa.stamps[:3].tolist() == [4, 0, 0]
    assert kappa.at(1, 8) == 0.25
    assert kappa.entries(3, 9) == ([0, 1], [0.5, 0.25], [4, 8])
    assert draft.meta(2) == b"\x80"
    assert before.items["kappa"][:3].tolist() == [0.5, 0.0, 0.0]
    assert before.metas == {}


def test_a_write_costs_the_same_in_a_large_store() -> None:
    """Counted in bytes of arrays that a write makes, not in time: none grows with the store."""
    store = T4DX.open(
        "store", dim=2, options=Options(durability="os"), clock=Ticks(), fs=SimulatedFileSystem()
    )
    store.insert_many([Item(id=f"{n}") for n in range(3000)])
    store.flush()
    parts = [part for part in store._cut.layout.parts]
    for n in range(50):
        store.update_fields(f"{n}", kappa=0.5)
        store.insert(Item(id=f"x{n}"))
    assert store._cut.layout.parts == tuple(parts), "no column was copied, no part was replaced"
    assert all(column._made is None for part in parts for column in part.items.values())


def test_both_kinds_of_source_answer_the_same_questions() -> None:
    store = T4DX.open(
        "store", dim=2, options=Options(durability="os"), clock=Ticks(), fs=SimulatedFileSystem()
    )
    store.insert_many([Item(id="a", content="text"), Item(id="b")], [Edge("a", "b", "CAUSES")])
    memtable: Source = store._cut.layout.parts[0].source
    store.flush()
    segment: Source = store._cut.layout.parts[1].source
    for source in (memtable, segment):
        assert [source.id_at(row) for row in source.rows_of("a")] == ["a"]
        assert source.text_at(0) == ("text", b"")
        assert source.label(source.code_of("b")) == "b"
        assert list(source.edges_between("a", "b")) == list(source.edge_rows("b", incoming=True)) == [0]
        assert (source.rows_of("c"), source.code_of("c")) == ((), -1)
