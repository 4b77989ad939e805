"""Time as the data tells it: the clock of the store, the gate and the night during training.

Wall time would give every run other ages and other validity times; the time of the events makes a run
repeatable, and lets a memory be a week old after a minute of training.
"""

from __future__ import annotations

from typing import final


@final
class EventClock:
    """A clock that stands where the latest event left it. Never goes back.

    Args:
        start: seconds.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)

    def __call__(self) -> float:
        """Seconds."""
        return self._now

    def advance(self, to: float) -> None:
        """Move to the time of an event, in seconds; an earlier one changes nothing."""
        self._now = max(self._now, float(to))
