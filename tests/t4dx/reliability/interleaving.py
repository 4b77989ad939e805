"""What other threads do while a flush or a compaction runs, in one thread and at chosen places, so that a run
repeats exactly.

The places are those at which no lock is held: the calls that write new files, and the moment between the
first catch-up and the swap, which is when a real thread has the best chance to come in between.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from reliability.disk import WatchedDisk

MAKING = ("create ", "write ", "fsync ", "rename ", "mkdir ")
NEW = ("/segments", "/deltas")
MOST = 4
"""Acts in one block: a compaction that always finds new segments would never end."""


class Amid:
    """Calls `act` at some places of the flush or compaction that runs inside the `with` block.

    Args:
        store: the writer.
        fs: its disk.
        act: what the others do; it must not flush where a flush is running.
        rng: which places.
        chance: of each call to the disk; the moment before the swap has more.
    """

    def __init__(
        self,
        store: Any,
        fs: WatchedDisk,
        act: Callable[[], None],
        rng: random.Random,
        *,
        chance: float = 0.08,
    ) -> None:
        self._upkeep, self._fs, self._act, self._rng, self._chance = store._upkeep, fs, act, rng, chance
        self._inside, self.acts, self._moments = False, 0, 2

    def __enter__(self) -> Amid:
        self._kept = self._fs.before, self._upkeep._threads
        # writers leave the flush to whoever is at it, as they do beside a thread
        self._upkeep._threads = [threading.current_thread()]
        self._fs.before = self._before
        catch_up = self._upkeep._catch_up

        def caught_up(*args: Any) -> int:
            reached: int = catch_up(*args)
            if self._moments > 0:
                self._moments -= 1
                self._maybe(0.7, most=MOST + 2)
            return reached

        self._upkeep._catch_up = caught_up
        return self

    def __exit__(self, *_: object) -> None:
        self._fs.before, self._upkeep._threads = self._kept
        del self._upkeep._catch_up

    def _before(self, what: str, torn: Any) -> None:
        if self._kept[0] is not None:
            self._kept[0](what, torn)
        if what.startswith(MAKING) and any(mark in what for mark in NEW):
            self._maybe(self._chance)

    def _maybe(self, chance: float, *, most: int = MOST) -> None:
        if not self._inside and self.acts < most and self._rng.random() < chance:
            self._inside = True
            self.acts += 1
            try:
                self._act()
            finally:
                self._inside = False
