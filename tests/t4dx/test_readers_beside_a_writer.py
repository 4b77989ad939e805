"""Readers never wait for a writer: a lock around reads, held over an fsync, costs most of the searches."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np

from t4dm.t4dx import T4DX, Item, Options
from t4dm.t4dx.fs import LogFile, OsFileSystem

SECONDS = 20.0  # only a deadlock takes as long


class HeldLog:
    """A log file whose sync stands still while `held` is set."""

    def __init__(self, log: LogFile, held: threading.Event, waiting: threading.Event) -> None:
        self._log, self._held, self._waiting = log, held, waiting
        self.write, self.truncate, self.close = log.write, log.truncate, log.close
        self.allocate = log.allocate

    def sync(self) -> None:
        if self._held.is_set():
            self._waiting.set()
            while self._held.is_set():
                time.sleep(0.001)
        self._log.sync()


class SlowDisk(OsFileSystem):
    """The real file system with a log whose sync can be held."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.waiting = threading.Event(), threading.Event()

    def append_to(self, path: str) -> LogFile:
        return HeldLog(super().append_to(path), self.held, self.waiting)


def item(name: str) -> Item:
    return Item(id=name, content=name, vector=np.ones(4, np.float32))


def test_search_get_and_scan_do_not_wait_for_an_fsync(tmp_path: Path) -> None:
    disk = SlowDisk()
    with T4DX.open(tmp_path / "store", dim=4, options=Options(durability="sync"), fs=disk) as store:
        store.insert(item("before"))
        disk.held.set()
        writer = threading.Thread(target=store.insert, args=(item("after"),))
        writer.start()
        try:
            assert disk.waiting.wait(SECONDS)
            answers: list[object] = []

            def read() -> None:
                answers.append(store.search(np.ones(4, np.float32), 1)[0].id)
                answers.append(store.get("before").id)
                answers.append(len(list(store.scan())))

            reader = threading.Thread(target=read)
            reader.start()
            reader.join(SECONDS)
            assert not reader.is_alive(), "a reader waits for the writer's fsync"
            assert writer.is_alive(), "the fsync was not held: the test shows nothing"
            assert answers[1] == "before"
        finally:
            disk.held.clear()
            writer.join(SECONDS)
        assert store.get("after").id == "after"
