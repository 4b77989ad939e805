"""Memory: batches in, recalls out, one record each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.memory.memory import Memory, novelty
from t4dm.t4dx import T4DX, EdgeType

EYE = torch.eye(4)


class Clock:
    """A time that the test moves by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _open(path: Path, *, clock: Clock, seed: int = 0) -> Memory:
    return Memory(T4DX.open(path / "s", dim=4, clock=clock), clock=clock, rng=np.random.default_rng(seed))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(tmp_path: Path, clock: Clock) -> Memory:
    return _open(tmp_path, clock=clock)


def test_what_was_written_is_read(memory: Memory, clock: Clock) -> None:
    ids = memory.write(
        EYE, ["a", "b", "c", "d"], [0.9] * 4, tokens=[[1], [2, 3], [], [4]], event_times=[90.0] * 4
    )
    clock.now = 150.0
    query = torch.tensor([[0.0, 3.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    recall = memory.read(query, k=2)
    assert recall.ids == [[ids[1], ids[2]], [ids[3], sorted([ids[0], ids[1], ids[2]])[0]]]
    assert recall.contents[0] == ["b", "c"]
    assert recall.tokens[0] == [[2, 3], []]
    assert torch.equal(recall.vectors[0], EYE[1:3])
    assert recall.ages[0].tolist() == [60.0, 60.0]
    torch.testing.assert_close(recall.scores[0], torch.tensor([3.0, 1.0]) / 10**0.5)
    assert recall.mask.all()
    assert recall.vectors.dtype == torch.float32


def test_rows_with_fewer_hits_are_padded(memory: Memory) -> None:
    memory.write(EYE[:1], ["a"], [1.0])
    recall = memory.read(EYE[:2], k=3)
    assert recall.mask.tolist() == [[True, False, False]] * 2
    assert recall.vectors.shape == (2, 3, 4)
    assert not recall.vectors[:, 1:].any()
    assert [len(row) for row in recall.ids] == [1, 1]


def test_an_empty_memory_recalls_nothing(memory: Memory) -> None:
    recall = memory.read(EYE, k=2)
    assert not recall.mask.any()
    assert recall.ids == [[], [], [], []]
    assert novelty(recall).tolist() == [1.0] * 4


def test_novelty_is_one_minus_the_best_cosine(memory: Memory) -> None:
    memory.write(EYE[:1], ["a"], [1.0])
    query = torch.tensor([[1.0, 0.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(novelty(memory.read(query, k=2)), torch.tensor([0.0, 0.4, 1.0]))


def test_sessions_do_not_see_each_other(memory: Memory) -> None:
    memory.write(EYE[:2], ["anna's", "ben's"], [1.0, 1.0], sessions=["anna", "ben"])
    recall = memory.read(EYE[:2], k=4, sessions=["ben", "anna"])
    assert recall.contents == [["ben's"], ["anna's"]]


def test_the_gate_decides_and_becomes_importance(memory: Memory) -> None:
    ids = memory.write(EYE, list("abcd"), torch.tensor([0.2, 0.5, 0.49, 0.8]), prediction_errors=[1, 2, 3, 4])
    assert [name is None for name in ids] == [True, False, True, False]
    assert memory.store.count() == 2
    item = memory.store.get(str(ids[3]))
    assert item is not None
    assert item.importance == pytest.approx(0.8)
    assert item.metadata["tau"] == pytest.approx(0.8)
    assert item.metadata["prediction_error"] == 4.0
    assert (item.kappa, item.event_time, item.record_time) == (0.0, 100.0, 100.0)


def test_a_batch_is_one_record(memory: Memory) -> None:
    before = memory.store.lsn
    memory.write(EYE, list("abcd"), [1.0] * 4, sessions=["s"] * 4)
    assert memory.store.stats()["edges"] == 3
    records_of_one = memory.store.lsn - before
    memory.write(EYE[:1], ["e"], [1.0], sessions=["s"])
    assert memory.store.lsn - before - records_of_one == records_of_one


def test_a_closed_gate_writes_no_record(memory: Memory) -> None:
    before = memory.store.lsn
    assert memory.write(EYE, list("abcd"), [0.1] * 4) == [None] * 4
    assert memory.store.lsn == before


def test_items_are_tied_to_what_was_recalled_and_to_the_one_before(memory: Memory) -> None:
    (old,) = memory.write(EYE[:1], ["old"], [1.0], sessions=["s"])
    assert old is not None
    first, second = memory.write(
        EYE[1:3], ["x", "y"], [1.0, 1.0], sessions=["s", "s"], links=[[old, old, "gone"], []]
    )
    edges = {(e.source, e.target, str(e.type)) for e in memory.store.edges()}
    after, derived = str(EdgeType.TEMPORAL_AFTER), str(EdgeType.DERIVED_FROM)
    assert edges == {(first, old, after), (second, first, after), (first, old, derived)}


def test_link_type_can_be_chosen(memory: Memory) -> None:
    (old,) = memory.write(EYE[:1], ["old"], [1.0], sessions=["a"])
    memory.write(EYE[1:2], ["x"], [1.0], sessions=["b"], links=[[str(old)]], link_type=EdgeType.RELATES_TO)
    assert [e.type for e in memory.store.edges()] == [EdgeType.RELATES_TO]


def test_the_chain_of_a_session_goes_on_after_reopening(tmp_path: Path, clock: Clock) -> None:
    memory = _open(tmp_path, clock=clock)
    first = memory.write(EYE[:2], ["a", "b"], [1.0, 1.0], sessions=["s", "t"])
    memory.store.close()
    memory = _open(tmp_path, clock=clock, seed=1)
    (later,) = memory.write(EYE[2:3], ["c"], [1.0], sessions=["s"])
    assert [(e.source, e.target) for e in memory.store.edges()] == [(later, first[0])]


def test_the_chain_skips_what_was_forgotten(memory: Memory) -> None:
    first, second = memory.write(EYE[:2], ["a", "b"], [1.0, 1.0], sessions=["s", "s"])
    memory.store.delete(str(second))
    (third,) = memory.write(EYE[2:3], ["c"], [1.0], sessions=["s"])
    assert [(e.source, e.target) for e in memory.store.edges()] == [(third, first)]


def test_a_reseeded_generator_overwrites_nothing(tmp_path: Path, clock: Clock) -> None:
    """Ids come from the rng; the same seed after a resume would draw the same ids again."""
    memory = _open(tmp_path, clock=clock, seed=7)
    memory.write(EYE, list("abcd"), [1.0] * 4)
    memory.store.close()
    memory = _open(tmp_path, clock=clock, seed=7)
    memory.write(EYE, list("efgh"), [1.0] * 4)
    assert sorted(item.content for item in memory.store.scan()) == list("abcdefgh")


def test_accesses_are_counted_in_ram_and_logged_once(memory: Memory) -> None:
    a, b, *_ = memory.write(EYE, list("abcd"), [1.0] * 4)
    before = memory.store.lsn
    for _ in range(3):
        memory.read(EYE[:1], k=1)
    memory.read(EYE[1:2], k=1)
    memory.read(EYE[2:3], k=1, count=False)
    assert memory.store.lsn == before
    assert memory.flush_accesses() == 2
    counts = {item.id: item.access_count for item in memory.store.scan()}
    assert (counts[str(a)], counts[str(b)], sum(counts.values())) == (3, 1, 4)
    assert memory.flush_accesses() == 0


def test_accesses_of_a_deleted_item_are_dropped(memory: Memory) -> None:
    (a,) = memory.write(EYE[:1], ["a"], [1.0])
    memory.read(EYE[:1], k=1)
    memory.store.delete(str(a))
    assert memory.flush_accesses() == 0


def test_the_recall_is_on_the_device_of_the_queries(memory: Memory) -> None:
    memory.write(EYE, list("abcd"), [1.0] * 4)
    recall = memory.read(EYE.half(), k=1)
    assert recall.vectors.device == EYE.device
    assert torch.equal(recall.vectors[:, 0], EYE)


def test_columns_of_another_length_are_named(memory: Memory) -> None:
    with pytest.raises(ValueError, match="tokens has 1 entries for 4 keys"):
        memory.write(EYE, list("abcd"), [1.0] * 4, tokens=[[1]])
    with pytest.raises(ValueError, match="sessions has 1 entries for 4 queries"):
        memory.read(EYE, k=1, sessions=["s"])
    with pytest.raises(ValueError, match=r"pass \[rows, D\]"):
        memory.read(EYE[0], k=1)
    assert memory.store.count() == 0
