"""Stop in order: a signal asks, the loop ends at a safe point, the store is flushed, the bundle written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, final

__all__ = ["Shutdown"]


@final
class Shutdown:
    """A context in which SIGINT and SIGTERM only set a flag.

    A handler runs between any two bytecodes, so it must not write: it may interrupt the very write it would
    repeat. It sets `requested`; the loop looks at it between steps, leaves, and on leaving the context the
    steps registered with `on_exit` run in their order (flush, then bundle), each even if an earlier one
    failed. A second signal raises KeyboardInterrupt, for a loop that does not look. Crash-only: nothing
    relies on this having run.

    Outside the main thread no handler can be set; the flag is then set by `request` alone.

    Example:
        >>> with Shutdown() as shutdown:
        ...     shutdown.on_exit(lambda: None)
        ...     shutdown.request()
        ...     shutdown.requested
        True
    """

    def __init__(self, *, signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self._signals = signals
        self._event = threading.Event()
        self._previous: dict[signal.Signals, Any] = {}
        self._steps: list[Callable[[], object]] = []
        self.signum: int | None = None

    @property
    def requested(self) -> bool:
        """Whether to stop at the next safe point."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask for the stop, as a signal would."""
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a stop is asked for, at most `timeout` seconds; whether it was."""
        return self._event.wait(timeout)

    def on_exit(self, step: Callable[[], object]) -> None:
        """Register a step for the end of the context; steps run in the order of registration."""
        self._steps.append(step)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in self._signals}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failures: list[Exception] = []
        try:
            for step in self._steps:
                try:
                    step()
                except Exception as failure:
                    failures.append(failure)
        finally:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous = {}
        if failures:
            raise failures[0] if len(failures) == 1 else ExceptionGroup("shutdown steps failed", failures)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._event.is_set():
            raise KeyboardInterrupt
        self.signum = signum
        self._event.set()
