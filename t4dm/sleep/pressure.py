"""When to sleep: pressure that builds with experience and drains with replay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from t4dm.errors import SettingError

__all__ = ["SleepPressure"]

WAKE_HOURS = 18.2
SLEEP_HOURS = 4.2


@final
class SleepPressure:
    """Process S of the two-process model (Borbély 1982; Daan, Beersma & Borbély 1984), on a clock of
    activity.

    Awake S rises towards 1, ``S <- 1 + (S - 1) * exp(-a / tau_wake)``; asleep it falls, ``S <- S * exp(-r /
    tau_sleep)``. In the paper a and r are hours, tau_wake = 18.2 h and tau_sleep = 4.2 h. A model has no
    day, and adenosine follows activity anyway: here a counts stored items and r replayed ones, and only the
    ratio 18.2 : 4.2 is kept. `items_per_night` items of error 0 lift S from the lower threshold to the
    upper one; replaying 34 % as many takes it back. Two thresholds give hysteresis: a night, once due,
    stays due until S has fallen to the lower one.

    Args:
        items_per_night: stored items between two nights.
        upper: S at which sleep is due.
        lower: S at which it ends; also S at the start.
        error_gain: how much more a surprising item tires: each counts ``1 + error_gain * error``.
        idle_seconds: sleep is also due after this many seconds without a new item, if there was one since
            the last night. None waits for pressure alone.
        circadian: amplitude C of a daily swing of the upper threshold, ``upper + C * sin(2 pi t / 24 h)``;
            0 for none.
    """

    def __init__(
        self,
        *,
        items_per_night: float = 1000.0,
        upper: float = 0.67,
        lower: float = 0.17,
        error_gain: float = 0.0,
        idle_seconds: float | None = None,
        circadian: float = 0.0,
    ) -> None:
        if items_per_night <= 0:
            raise SettingError(
                "sleep.pressure.items_per_night",
                items_per_night,
                "set it to a number above 0, or take sleep=none",
            )
        if not 0.0 < lower < upper < 1.0:
            raise SettingError(
                "sleep.pressure.lower", f"{lower} with upper={upper}", "set them to 0 < lower < upper < 1"
            )
        self.tau_wake = items_per_night / math.log((1.0 - lower) / (1.0 - upper))
        self.tau_sleep = self.tau_wake * SLEEP_HOURS / WAKE_HOURS
        self.upper = upper
        self.lower = lower
        self.error_gain = error_gain
        self.idle_seconds = idle_seconds
        self.circadian = circadian
        self.level = lower
        self._due = False
        self._last_item: float | None = None

    def record(self, items: float, error: float = 0.0, *, now: float | None = None) -> None:
        """Count stored items and their mean prediction error (never below 0); `now` in seconds starts the
        idle timer.
        """
        if items <= 0:
            return
        activity = items * (1.0 + self.error_gain * max(0.0, error))
        self.level = 1.0 + (self.level - 1.0) * math.exp(-activity / self.tau_wake)
        self._last_item = now if now is not None else self._last_item

    def due(self, now: float) -> bool:
        """Whether to sleep at time `now` (seconds)."""
        limit = self.upper + self.circadian * math.sin(2.0 * math.pi * now / 86_400.0)
        idle = self._last_item is not None and self.idle_seconds is not None
        tired = self.level >= limit or (
            idle and now - float(self._last_item or 0.0) >= float(self.idle_seconds or 0.0)
        )
        self._due = self.level > self.lower and (self._due or tired)
        return self._due

    def slept(self, replayed: float, *, finished: bool = True) -> None:
        """Drain the pressure by a night's replay.

        Args:
            replayed: items replayed.
            finished: the night did all there was to do. S then ends at the lower threshold at most, because
                otherwise a store with little left to replay would be due again at once, for ever.
        """
        self.level *= math.exp(-replayed / self.tau_sleep)
        if finished:
            self.level = min(self.level, self.lower)
        if self.level <= self.lower:
            self._due, self._last_item = False, None

    def state_dict(self) -> dict[str, Any]:
        """Numbers and nothing else, for a checkpoint."""
        return {"level": self.level, "due": self._due, "last_item": self._last_item}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.level, self._due, self._last_item = float(state["level"]), bool(state["due"]), state["last_item"]
