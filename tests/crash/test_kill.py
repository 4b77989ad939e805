"""kill -9 of a real process on a real disk: every acknowledged write is back."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from t4dm.errors import StoreClosedError, StoreLockedError
from t4dm.t4dx import T4DX, Edge, Item, Options

HEAD = """
import os, sys
import numpy as np
from t4dm.t4dx import T4DX, Edge, Item, Options
def item(number):
    return Item(id=f"i{number}", vector=np.full(4, number + 1.0), content=f"c{number}", event_time=1.0)
options = Options(memtable_items=1000, durability=sys.argv[2])
store = T4DX.open(sys.argv[1], dim=4, options=options, clock=lambda: 1.0)
def ack(text):
    print(text, flush=True)
"""


def run(folder: Path, body: str, *, durability: str = "interval") -> list[str]:
    """Run a child that kills itself at the end; the lines it acknowledged before."""
    code = HEAD + body + "\nos.kill(os.getpid(), 9)\n"
    child = subprocess.run(
        [sys.executable, "-c", code, str(folder), durability],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == -9, child.stderr
    return child.stdout.split()


def test_2501_acknowledged_inserts_survive_kill_9_with_flush_threshold_1000(tmp_path: Path) -> None:
    body = """
for number in range(2501):
    store.insert(item(number))
    if number % 500 == 0 or number == 2500: ack(number)
"""
    assert run(tmp_path / "s", body)[-1] == "2500"
    with T4DX.open(tmp_path / "s") as store:
        assert store.count() == 2501
        assert store.stats()["segments"] in (1, 2)  # the second flush may have been under way
        assert {item.id for item in store.scan()} == {f"i{number}" for number in range(2501)}
        assert store.get("i1700").vector.tolist() == [1701.0] * 4


@pytest.mark.parametrize("durability", ["sync", "os"])
def test_overlays_on_flushed_items_are_read_and_survive_the_next_flush_and_kill_9(
    tmp_path: Path, durability: str
) -> None:
    body = """
store.insert_many([item(n) for n in range(10)], [Edge("i1", "i2", "RELATES_TO", 0.5)])
store.flush()
store.update_fields("i3", kappa=0.5)
store.update_edge_weight("i1", "i2", 0.25, edge_type="RELATES_TO")
store.delete("i9")
store.insert(item(10))
store.flush()
store.merge_kappa(["i3"], 0.5)
ack("done")
"""
    assert run(tmp_path / "s", body, durability=durability) == ["done"]
    for _ in range(2):
        with T4DX.open(tmp_path / "s") as store:
            assert store.get("i3").kappa == 0.75
            assert [edge.weight for edge in store.edges("i1")] == [0.75]
            assert store.get("i9") is None
            assert store.count() == 10


def test_kills_at_any_moment_lose_no_acknowledged_insert_and_leave_no_half_batch(tmp_path: Path) -> None:
    body = (
        HEAD.replace("memtable_items=1000", "memtable_items=900")
        + """
start = store.count()
for number in range(start, start + 6000, 2):
    pair = [item(number), item(number + 1)]
    store.insert_many(pair, [Edge(pair[0].id, pair[1].id, "CAUSES")])
    ack(number + 2)
"""
    )
    rng, acked = random.Random(3), 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", body, str(tmp_path / "s"), "interval"], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.3))
        child.kill()
        acked = max([acked, *(int(line) for line in child.stdout if line.endswith("\n"))])
        child.wait()
        child.stdout.close()
        with T4DX.open(tmp_path / "s") as store:
            count = store.count()
            assert count >= acked
            assert count % 2 == 0
            assert store.stats()["edges"] == count // 2
            assert {item.id for item in store.scan()} == {f"i{number}" for number in range(count)}


def test_compaction_and_kill_9_lose_none_of_100(tmp_path: Path) -> None:
    body = """
for start in (0, 50):
    store.insert_many([item(n) for n in range(start, start + 50)])
    store.flush()
store.compact()
ack("done")
"""
    assert run(tmp_path / "s", body) == ["done"]
    with T4DX.open(tmp_path / "s") as store:
        assert store.count() == 100
        assert store.stats()["segments"] == 1


def test_a_kill_inside_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    body = """
store.insert(item(0))
tx = store.transaction()
tx.__enter__()
tx.insert(item(1))
tx.delete("i0")
ack("open")
"""
    assert run(tmp_path / "s", body) == ["open"]
    with T4DX.open(tmp_path / "s") as store:
        assert [item.id for item in store.scan()] == ["i0"]


def test_three_clean_restarts_do_not_multiply_items(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=4) as store:
        store.insert_many([Item(id=f"i{n}", vector=np.ones(4, np.float32)) for n in range(10)])
    sizes = []
    for _ in range(3):
        with T4DX.open(tmp_path / "s") as store:
            assert store.count() == 10
            assert len(store.search(np.ones(4), 50)) == 10
            sizes.append(store.stats()["bytes"])
    assert len(set(sizes)) == 1


def test_the_lock_of_a_killed_writer_is_free_and_that_of_a_living_one_names_it(tmp_path: Path) -> None:
    run(tmp_path / "s", "ack('held')")
    with (
        T4DX.open(tmp_path / "s"),
        pytest.raises(StoreLockedError, match=r"pid \d+ on .* since \d{4}-.*read_only=True"),
    ):
        T4DX.open(tmp_path / "s")
    T4DX.open(tmp_path / "s").close()


def test_another_process_may_read_beside_the_writer(tmp_path: Path) -> None:
    code = (
        HEAD.replace("dim=4, options=", "read_only=True, options=")
        + "print(store.count(), store.get('i1').content)"
    )
    with T4DX.open(tmp_path / "s", dim=4) as store:
        store.insert_many([Item(id=f"i{n}", content=f"c{n}") for n in range(3)])
        store.flush()
        store.insert(Item(id="i9"))
        child = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "s"), "os"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert child.stdout.split() == ["4", "c1"]


def test_a_forked_child_can_neither_read_nor_write_and_does_not_keep_the_lock(tmp_path: Path) -> None:
    body = """
from t4dm.errors import StoreClosedError
store.insert(item(0))
child = os.fork()
if child == 0:
    for use in (lambda: store.get("i0"), lambda: store.insert(item(1)), store.flush):
        try:
            use()
            os._exit(1)
        except StoreClosedError as error:
            if "dead in this fork" not in str(error): os._exit(2)
    store.close()
    os._exit(0)
ack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
store.insert(item(2))
again = os.fork()
if again == 0:
    import time
    os.close(1), os.close(2)
    time.sleep(20)
    os._exit(0)
print(again, flush=True)
"""
    status, grandchild = run(tmp_path / "s", body)
    assert status == "0"
    try:
        with T4DX.open(tmp_path / "s") as store:  # while the second child still lives
            assert [item.id for item in store.scan()] == ["i0", "i2"]
    finally:
        os.kill(int(grandchild), signal.SIGKILL)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = T4DX.open(tmp_path / "s", dim=4, options=Options(durability="os"))
    store.insert(Item(id="a"), [Edge("a", "b", "CAUSES")])
    store.close()
    store.close()
    with pytest.raises(StoreClosedError, match=r"is closed; open it again: T4DX.open\("):
        store.get("a")
