"""Sleep beside a serving model: a thread that runs the same cycle when pressure asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Self, final

import numpy as np

from t4dm.memory.memory import Memory
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.night import Phase
from t4dm.sleep.pressure import SleepPressure
from t4dm.sleep.report import SleepReport
from t4dm.spiking.stack import CorticalStack

__all__ = ["SleepService"]


@final
class SleepService:
    """Consolidation in the background, for serving only; training sleeps in the foreground, deterministic
    and measured.

    The thread wakes every `poll` seconds of real time, or at `nudge`, and runs `run_cycle` if sleep is due.
    Readers and writers of the store go on meanwhile: the store publishes the night in one step. Give the
    stack a copy of its own if the serving model trains. A failed night stops the service and is raised by
    `stop`.

    Args:
        memory: what to consolidate.
        stack: replays; may be None.
        pressure: decides when; `record` it through `recorded`.
        phases: as for `run_cycle`.
        clock: the time in seconds.
        rng: the nights' own generator.
        poll: seconds between two looks at the pressure.
        on_report: called with each report, in the thread.
    """

    def __init__(
        self,
        memory: Memory,
        stack: CorticalStack | None,
        *,
        pressure: SleepPressure,
        clock: Callable[[], float],
        rng: np.random.Generator,
        phases: Sequence[Phase] | None = None,
        poll: float = 1.0,
        on_report: Callable[[SleepReport], object] | None = None,
    ) -> None:
        self.reports: list[SleepReport] = []
        self._memory, self._stack, self._pressure = memory, stack, pressure
        self._clock, self._rng, self._phases = clock, rng, phases
        self._poll, self._on_report = poll, on_report
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None

    def recorded(self, items: float, error: float = 0.0) -> None:
        """Tell the pressure of stored items, from any thread."""
        with self._lock:
            self._pressure.record(items, error, now=self._clock())

    def nudge(self) -> None:
        """Look at the pressure now."""
        self._wake.set()

    def start(self) -> Self:
        """Start the thread, once."""
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="t4dm-sleep", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Let a running night finish, end the thread, log the accesses and flush the store.

        Raises:
            Exception: whatever ended the service early.
        """
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        self._memory.flush_accesses()
        self._memory.store.flush()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._sleep_if_due()
            except Exception as failure:
                self._failure = failure
                return
            self._wake.wait(self._poll)
            self._wake.clear()

    def _sleep_if_due(self) -> None:
        with self._lock:
            due = self._pressure.due(self._clock())
        if not due:
            return
        report = run_cycle(self._memory, self._stack, phases=self._phases, clock=self._clock, rng=self._rng)
        with self._lock:
            self._pressure.slept(report.replayed)
        self.reports.append(report)
        if self._on_report is not None:
            self._on_report(report)
