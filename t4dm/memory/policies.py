"""What a recall may see: query policies that become filters of the store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, final

from t4dm.t4dx import Filter, Hit

__all__ = ["AnyPolicy", "EpisodicPolicy", "Policy", "ProceduralPolicy", "SemanticPolicy"]

EPISODIC_KAPPA = 0.3
SEMANTIC_KAPPA = 0.7
DAY = 86_400.0


class Policy(Protocol):
    """Turns an intention into a filter, and may re-rank what the filter let through.

    Attributes:
        oversample: hits to fetch for each one wanted; 1 where the order is the store's own.
    """

    @property
    def oversample(self) -> int: ...

    def where(self, *, now: float) -> Filter:
        """The filter at time `now` (seconds)."""
        ...

    def score(self, hit: Hit) -> float:
        """The score to rank by; higher is better."""
        ...


@final
class AnyPolicy:
    """Every item, by cosine alone.

    Args:
        current_only: leave out what no longer holds, for example what a newer item has superseded.
    """

    oversample = 1

    def __init__(self, *, current_only: bool = False) -> None:
        self.current_only = current_only

    def where(self, *, now: float) -> Filter:
        return Filter(valid_at=now if self.current_only else None)

    def score(self, hit: Hit) -> float:
        return hit.score


@final
class EpisodicPolicy:
    """Recent, unconsolidated experience: kappa below 0.3 within the last `window` seconds.

    Args:
        window: how far back, in seconds. None looks at all the past.
        kappa: upper end (excluded) of the consolidation gradient.
    """

    oversample = 1

    def __init__(self, *, window: float | None = DAY, kappa: float = EPISODIC_KAPPA) -> None:
        self.window = window
        self.kappa = kappa

    def where(self, *, now: float) -> Filter:
        # Times are half open, kappa is closed: the next floats let this very moment in and kappa = 0.3 out.
        since = None if self.window is None else now - self.window
        until = math.nextafter(now, math.inf)
        return Filter(kappa=(None, math.nextafter(self.kappa, -math.inf)), event_time=(since, until))

    def score(self, hit: Hit) -> float:
        return hit.score


@final
class SemanticPolicy:
    """Consolidated knowledge of any age: kappa of at least 0.7."""

    oversample = 1

    def __init__(self, *, kappa: float = SEMANTIC_KAPPA) -> None:
        self.kappa = kappa

    def where(self, *, now: float) -> Filter:
        return Filter(kappa=(self.kappa, None))

    def score(self, hit: Hit) -> float:
        return hit.score


@final
class ProceduralPolicy:
    """Skills, ranked by how often they worked.

    The rank is ``cosine * (successes + 1) / (trials + 2)``, Laplace's rule of succession on the item's
    metadata ``successes`` and ``failures``, so one lucky trial does not beat a long good record.
    """

    def __init__(self, *, oversample: int = 4) -> None:
        self.oversample = oversample

    def where(self, *, now: float) -> Filter:
        return Filter(type="procedural")

    def score(self, hit: Hit) -> float:
        return hit.score * success_rate(hit.item.metadata)


def success_rate(metadata: Mapping[str, Any]) -> float:
    """Expected success of a skill, in (0, 1); 0.5 for one never tried (Laplace)."""
    successes = float(metadata.get("successes", 0))
    failures = float(metadata.get("failures", 0))
    return (successes + 1.0) / (successes + failures + 2.0)
