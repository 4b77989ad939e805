"""The checker of short histories: what it lets pass, what it refuses, and that it bites on broken engines."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from reliability import concurrency
from reliability.histories import CALLS, DONE, MISSING, Call, check, explained, literal, parsed, record
from reliability.rows import FOLDER, Fault, Wrong, attempt

from t4dm.t4dx import T4DX

Row = tuple[int, int, str, list[Any], Any]
HALF = ("insert", ["a", 0.5], DONE)
BOTH = ("transaction", [["update_fields", "a", 0.25], ["update_fields", "b", 0.25]], DONE)


def made(*rows: Row) -> list[Call]:
    """A history by hand; the threads do not matter to the checker."""
    return [Call(since, until, place, *rest) for place, (since, until, *rest) in enumerate(rows)]


def names(rows: list[Call] | None) -> list[str]:
    assert rows is not None
    return [call.name for call in rows]


def two_items() -> tuple[Row, Row]:
    return (0, 1, *HALF), (2, 3, "insert", ["b", 0.5], DONE)


def test_calls_one_after_the_other_are_explained_in_their_order() -> None:
    calls = made(
        (0, 1, "get", ["a"], None),
        (2, 3, *HALF),
        (4, 5, "merge_kappa", ["a", 0.5], DONE),
        (6, 7, "snapshot", ["a", "b"], [0.75, None]),
        (8, 9, "delete", ["a"], DONE),
        (10, 11, "update_fields", ["a", 0.25], MISSING),
        (12, 13, "count", [0.0], 0),
    )
    assert explained(calls) == calls


def test_a_read_beside_a_write_may_see_it_or_not() -> None:
    for seen in (None, 0.5):
        assert explained(made((0, 3, *HALF), (1, 2, "get", ["a"], seen))) is not None


def test_overlapping_calls_are_put_into_the_only_order_that_fits() -> None:
    calls = made(
        (0, 1, *HALF),
        (2, 9, "merge_kappa", ["a", 0.5], DONE),
        (3, 8, "update_fields", ["a", 0.0], DONE),
        (4, 5, "get", ["a"], 0.0),
        (6, 7, "count", [0.5], 1),
    )
    assert names(explained(calls)) == ["insert", "update_fields", "get", "merge_kappa", "count"]


def test_a_call_that_was_refused_comes_before_the_write_that_it_did_not_see() -> None:
    calls = made((0, 3, *HALF), (1, 2, "merge_kappa", ["a", 0.5], MISSING), (4, 5, "get", ["a"], 0.5))
    assert names(explained(calls)) == ["merge_kappa", "insert", "get"]


def test_a_refused_transaction_changes_nothing() -> None:
    calls = made(
        (0, 1, *HALF),
        (2, 3, *BOTH[:2], MISSING),
        (4, 5, "get", ["a"], 0.5),
    )
    assert explained(calls) == calls
    assert explained([*calls[:2], calls[2]._replace(answer=0.25)]) is None


def test_a_stale_read_after_an_acknowledged_write_is_refused() -> None:
    stale = (4, 5, "get", ["a"], 0.5)
    assert explained(made((0, 1, *HALF), (2, 3, "update_fields", ["a", 0.25], DONE), stale)) is None
    assert explained(made((0, 1, *HALF), (2, 4, "update_fields", ["a", 0.25], DONE), (3, 5, *stale[2:])))


def test_a_read_that_runs_back_beside_a_write_is_refused() -> None:
    write = (2, 9, "update_fields", ["a", 0.25], DONE)
    new, old = ("get", ["a"], 0.25), ("get", ["a"], 0.5)
    assert explained(made((0, 1, *HALF), write, (3, 4, *old), (5, 6, *new)))
    assert explained(made((0, 1, *HALF), write, (3, 4, *new), (5, 6, *old))) is None
    assert explained(made((0, 1, *HALF), write, (3, 5, *new), (4, 6, *old)))


def test_half_a_transaction_is_refused() -> None:
    for seen, fine in (([0.5, 0.5], True), ([0.25, 0.25], True), ([0.25, 0.5], False), ([0.5, 0.25], False)):
        for kind in ("get_many", "snapshot"):
            calls = made(*two_items(), (4, 7, *BOTH), (5, 6, kind, ["a", "b"], seen))
            assert (explained(calls) is not None) == fine


def test_two_reads_amid_a_transaction_cannot_show_one_half_each() -> None:
    halves = (5, 6, "get", ["b"], 0.25), (7, 8, "get", ["a"], 0.5)
    assert explained(made(*two_items(), (4, 9, *BOTH), *halves)) is None


def test_a_lost_update_of_merge_kappa_is_refused() -> None:
    merge = ("merge_kappa", ["a", 0.5], DONE)
    merges = (2, 5, *merge), (3, 4, *merge)
    for kappa, fine in ((0.875, True), (0.75, False)):
        calls = made((0, 1, *HALF), *merges, (6, 7, "get", ["a"], kappa))
        assert (explained(calls) is not None) == fine


def test_a_count_of_what_was_never_there_at_one_time_is_refused() -> None:
    moved = ("transaction", [["delete", "a"], ["insert", "b", 0.5]], DONE)
    for found, fine in ((0, False), (1, True), (2, False)):
        calls = made((0, 1, *HALF), (2, 5, *moved), (3, 4, "count", [0.0], found))
        assert (explained(calls) is not None) == fine


def test_an_error_that_no_dict_has_is_refused() -> None:
    assert explained(made((0, 1, *HALF), (2, 3, "get", ["a"], "CorruptionError: a 'file'"))) is None


def test_fifteen_calls_at_once_are_searched_in_no_time() -> None:
    many = [(0, 100, "merge_kappa", ["a", 0.5], DONE) for _ in range(14)]
    first = (-2, -1, "insert", ["a", 0.0], DONE)
    started = time.perf_counter()
    assert explained(made(first, *many, (0, 100, "get", ["a"], 0.3))) is None
    assert time.perf_counter() - started < 5.0  # in all their orders it would take years


def test_a_failure_tells_the_whole_history_and_its_verdict_repeats_alone() -> None:
    calls = made((0, 1, *HALF), (2, 3, "get", ["a"], "it's gone"))
    for _ in range(2):
        tried, failure = attempt(concurrency.RUNNER, literal(calls))
        assert failure is not None
        assert (tried, failure.kind) == (1, "wrong")
        assert '0-1   thread 0: insert("a", 0.5) -> "done"' in failure.message
        assert failure.command == f"{FOLDER} concurrency --case '{literal(calls)}'"
    assert "'" not in literal(calls)
    assert parsed(literal(calls)) == calls


def test_a_change_takes_twenty_histories_and_a_night_two_thousand() -> None:
    for tier, wanted in (("pr", 20), ("nightly", 2000)):
        found = concurrency.cases(1, concurrency.RUNNER.sizes[tier])
        assert sum(case.startswith("history ") for case in found) == wanted


def test_the_store_is_explained_and_what_it_answered_is_more_than_refusals() -> None:
    calls = record(5)
    assert explained(calls)
    assert sum(call.answer == MISSING for call in calls) < len(calls) / 2


def readers_keep_their_previous_version(patch: pytest.MonkeyPatch) -> None:
    """Each thread reads what was current at its read before."""
    kept, present = threading.local(), T4DX._present

    def stale(store: T4DX) -> Any:
        now = present(store)
        old, kept.version = getattr(kept, "version", now), now
        return old if old.cut.layout.types is now.cut.layout.types else now

    patch.setattr(T4DX, "_present", stale)


def transactions_are_published_in_halves(patch: pytest.MonkeyPatch) -> None:
    """Readers may look between the operations of one commit."""

    def apply(store: T4DX, batch: list[Any], journal: Any) -> None:
        for op in batch:
            store._state.apply(op)
            store._publish()
            time.sleep(2e-3)
        journal.applied(store._state.lsn)

    patch.setattr(T4DX, "_apply", apply)
    patch.setitem(CALLS, "transaction", 30)


def merges_read_before_they_write(patch: pytest.MonkeyPatch) -> None:
    """kappa is read, and written as a value: what came between is lost."""

    def merge(store: Any, ids: list[str], eta: float) -> int:
        changes = {item.id: item.kappa for item in store.get_many(ids) if item is not None}
        time.sleep(1e-2)
        for one in ids:
            store.update_fields(one, kappa=changes.get(one, 0.0) * (1 - eta) + eta)
        return int(store.lsn)

    patch.setattr(T4DX, "merge_kappa", merge)
    patch.setitem(CALLS, "merge_kappa", 30)  # so that they meet each other, however busy the machine


def writes_return_before_they_are_seen(patch: pytest.MonkeyPatch) -> None:
    """What a commit changed is published by the next one."""
    publish = T4DX._publish

    def late(store: T4DX) -> None:
        waiting = getattr(store, "_waiting", None)
        store._waiting = store._state.cut()
        if waiting is None:
            publish(store)
        else:
            store._cut = waiting

    patch.setattr(T4DX, "_publish", late)


SABOTAGE = (
    readers_keep_their_previous_version,
    transactions_are_published_in_halves,
    merges_read_before_they_write,
    writes_return_before_they_are_seen,
)


@pytest.mark.parametrize("break_it", SABOTAGE)
def test_a_broken_store_is_caught_within_sixty_histories(
    break_it: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    for seed in range(60):
        try:
            check(str(seed))
        except Wrong as fault:
            with pytest.raises(Fault, match="no order of"):
                check(fault.case)
            return
    raise AssertionError("sixty histories showed nothing")
