"""Failures that stores of this kind had while all their tests were green: one test for each."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from reliability.kill9 import batch_of, expected_of, make_batch

from t4dm.t4dx import T4DX, Item, Options
from t4dm.t4dx.fs import OsFileSystem

READS_PER_FSYNC = 25
PATIENCE = 20.0  # seconds; only a reader that waits for the writer takes as long


class CountingDisk(OsFileSystem):
    """Every fsync of the log lasts until so many reads were finished meanwhile; counts those that gave up."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.fsyncs = self.gave_up = 0
        self.held = False

    def append_to(self, path: str) -> Any:
        log, disk = super().append_to(path), self

        class Log:
            def __getattr__(self, name: str) -> Any:
                return getattr(log, name)

            def sync(self) -> None:
                disk.wait_for_readers()
                log.sync()

        return Log()

    def wait_for_readers(self) -> None:
        if not self.held:
            return
        self.fsyncs += 1
        until, wanted = time.monotonic() + PATIENCE, self.reads + READS_PER_FSYNC
        while self.reads < wanted:
            if time.monotonic() > until:
                self.gave_up += 1
                return
            time.sleep(0.0005)


def test_readers_do_not_collapse_beside_a_writer(tmp_path: Path) -> None:
    """Counted, not timed: a lock around reads, held over an fsync, would leave no read during any of them."""
    disk, stop = CountingDisk(), threading.Event()
    with T4DX.open(tmp_path / "s", dim=4, options=Options(durability="sync"), fs=disk) as store:
        store.insert_many([Item(id=f"i{n}", vector=np.ones(4, np.float32)) for n in range(20)])

        def read() -> None:
            while not stop.is_set():
                assert len(store.search(np.ones(4), 3)) == 3
                assert store.get("i7") is not None
                disk.reads += 1

        reader = threading.Thread(target=read)
        reader.start()
        disk.held = True
        for number in range(12):
            store.insert(Item(id=f"new{number}"))
        disk.held = False
        stop.set()
        reader.join(PATIENCE)
        assert store.count() == 32
    assert disk.fsyncs >= 12
    assert disk.gave_up == 0


def test_restarts_flushes_and_merges_between_them_multiply_nothing(tmp_path: Path) -> None:
    items, edges = {}, {}
    for restart in range(3):
        with T4DX.open(tmp_path / "s", dim=4, clock=lambda: 1.0) as store:
            for number in range(restart * 8, restart * 8 + 8):
                make_batch(store, 0, number)
            items, edges = expected_of(0, restart * 8 + 8)
            store.flush() if restart % 2 else store.compact()
        with T4DX.open(tmp_path / "s") as store:
            assert {item.id: item.kappa for item in store.scan()} == items
            assert {(e.source, e.target): e.weight for e in store.edges()} == edges
            assert len(store.search(np.ones(4), 500)) == len(items)
    assert len(batch_of(0, 0)[0]) == 2


def test_kappa_on_disk_does_not_stall_over_sixteen_nights(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=4) as store:
        store.insert(Item(id="memory", kappa=0.0))
    for _ in range(16):
        with T4DX.open(tmp_path / "s") as store:
            with store.transaction() as tx:
                tx.merge_kappa(["memory"], 0.1)
            store.compact()
    with T4DX.open(tmp_path / "s") as store:
        assert abs(store.get("memory").kappa - (1.0 - 0.9**16)) < 1e-12


def test_prototypes_are_not_made_again_every_night(tmp_path: Path) -> None:
    for _ in range(5):
        with T4DX.open(tmp_path / "s", dim=4) as store:
            if store.get("prototype") is None:
                store.insert(Item(id="prototype", type="semantic"))
            store.compact()
            assert store.stats()["item_rows"] == 1
