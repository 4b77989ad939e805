"""A power cut at every call to the disk: the state found is one of the states there were, and holds what was
acknowledged.
"""

from __future__ import annotations

import errno
import functools
import random

import pytest
from simulated_fs import Crash, SimulatedFileSystem
from store_model import DIM, Model, Ticks, digest, write_step

from t4dm import errors
from t4dm.t4dx import T4DX, Options

MODES = ("all", "synced", "some")


def options(durability: str) -> Options:
    sizes = {"memtable_items": 10, "max_deltas": 2, "max_segments": 2, "txn_part_bytes": 200}
    return Options(durability=durability, idle_marker=0, **sizes)


def work(
    fs: SimulatedFileSystem, seen: dict[int, object] | None, acked: list[int], *, durability: str
) -> None:
    """Some thirty writes with flushes, compactions, a transaction in parts and a reopen; `seen[lsn]` is the
    state.
    """
    rng, clock, model = random.Random(7), Ticks(), Model()
    store = T4DX.open("store", dim=DIM, options=options(durability), clock=clock, fs=fs)
    if seen is not None:
        seen[0] = digest(store)
    for step in range(26):
        if step in (9, 19):
            store.flush()
        elif step == 15:
            store.close()
            store = T4DX.open("store", options=options(durability), clock=clock, fs=fs)
        elif step == 23:
            store.compact()
        elif step == 12:
            with store.transaction() as tx:
                for _ in range(6):
                    write_step(rng, tx, model, clock)
        else:
            write_step(rng, store, model, clock)
        if seen is not None:
            seen[store.lsn] = digest(store)
        acked.append(store.lsn)
    store.close()


@functools.cache
def states(durability: str) -> tuple[dict[int, object], int, list[str]]:
    fs, seen = SimulatedFileSystem(), {}
    work(fs, seen, [], durability=durability)
    return seen, fs.calls, fs.log


def check(fs: SimulatedFileSystem, seen: dict[int, object], at_least: int, what: str) -> None:
    if not fs.exists("store") or not any(n.startswith("MANIFEST") for n in fs.listdir("store")):
        assert at_least == 0, what
        return
    with T4DX.open("store", dim=DIM, options=options("os"), fs=fs) as store:
        assert store.lsn >= at_least, f"{what}: LSN {store.lsn}, but {at_least} was acknowledged"
        assert store.lsn in seen, f"{what}: half of a batch is there"
        assert digest(store) == seen[store.lsn], what
        report = store.verify("deep")
        assert report.ok, (what, report.problems)
    calls = fs.calls
    with T4DX.open("store", options=options("os"), fs=fs) as store:
        assert digest(store) == seen[store.lsn], what
    assert fs.calls == calls, f"{what}: a second open changed {fs.log[calls:]}"


def crash_everywhere(durability: str, *, stride: int, seed: int = 0) -> None:
    seen, calls, _ = states(durability)
    for number in range(1 + seed % stride, calls + 1, stride):
        fs, acked = SimulatedFileSystem(crash_at=number, seed=number), [0]
        with pytest.raises(Crash):
            work(fs, None, acked, durability=durability)
        for mode in MODES if stride == 1 else (MODES[number % 3],):
            kept = mode == "all" or durability == "sync"
            found = fs.after_crash(mode, seed=number + seed)
            check(found, seen, acked[-1] if kept else 0, f"call {number} of {calls} ({fs.log[-1]}), {mode}")


@pytest.mark.parametrize("durability", ["sync", "os"])
def test_a_power_cut_leaves_a_state_that_was_and_all_that_was_acknowledged(durability: str) -> None:
    crash_everywhere(durability, stride=11)


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["sync", "os"])
def test_a_power_cut_at_every_single_call(durability: str) -> None:
    crash_everywhere(durability, stride=1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 400, 40))
def test_a_second_power_cut_during_recovery_is_harmless(first: int) -> None:
    seen, calls, _ = states("sync")
    number = min(first + 1, calls)
    fs, acked = SimulatedFileSystem(crash_at=number, seed=first), [0]
    with pytest.raises(Crash):
        work(fs, None, acked, durability="sync")
    for again in range(1, 12):
        half = fs.after_crash("some", seed=again, crash_at=again)
        try:
            T4DX.open("store", dim=DIM, options=options("os"), fs=half).close()
        except Crash:
            check(half.after_crash("some", seed=again), seen, acked[-1], f"call {number}, then {again}")


def inject(number: int, *, error: int, forever: bool) -> None:
    """One failing call: the store says so by name, keeps its answers, and a reopen finds all that was
    acknowledged.
    """
    seen, _, _ = states("sync")
    fs, acked = SimulatedFileSystem(fail_at=number, error=error, forever=forever, seed=number), [0]
    try:
        work(fs, None, acked, durability="sync")
    except errors.StoreFullError:
        assert error == errno.ENOSPC
    except (errors.StorePoisonedError, OSError):
        pass
    for mode in ("all", "synced"):
        check(
            fs.after_crash(mode, seed=number),
            seen,
            acked[-1],
            f"call {number} failed ({fs.log[number - 1]}), {mode}",
        )


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_a_failing_call_loses_nothing_that_was_acknowledged(error: int) -> None:
    calls = states("sync")[1]
    for number in range(1, calls + 1, 23):
        inject(number, error=error, forever=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("forever", [False, True])
def test_every_failing_call_loses_nothing_that_was_acknowledged(error: int, forever: bool) -> None:
    for number in range(1, states("sync")[1] + 1):
        inject(number, error=error, forever=forever)
