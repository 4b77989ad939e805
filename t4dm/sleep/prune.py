"""PRUNE: forget what never mattered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from t4dm.sleep.night import Night
from t4dm.t4dx import EdgeType, Filter, Item

__all__ = ["Prune"]


@final
class Prune:
    """Delete the items that one predicate dooms, and nothing else.

    An item is doomed if it is weak, faint and unused: ``kappa < theta_forget`` with tonight's replay
    counted, ``importance * 2^(-age / half_life) < theta_importance`` (Ebbinghaus' forgetting curve), and it
    was never recalled. Or if a stored item of its session supersedes it and its validity has ended.
    Prototypes are never doomed, and the last remaining member of a prototype is spared: without it nothing
    would say where the prototype came from. Spared items are counted in the report.

    Args:
        theta_forget: kappa below which an item can be forgotten.
        theta_importance: decayed importance below which it can be.
        half_life: seconds in which importance halves; None for no decay.
        superseded: whether superseded items are forgotten too.
        dry_run: decide and report, delete nothing.
    """

    def __init__(
        self,
        *,
        theta_forget: float = 0.1,
        theta_importance: float = 0.1,
        half_life: float | None = 7 * 86_400.0,
        superseded: bool = True,
        dry_run: bool = False,
    ) -> None:
        self.theta_forget = theta_forget
        self.theta_importance = theta_importance
        self.half_life = half_life
        self.superseded = superseded
        self.dry_run = dry_run

    def faint(self, item: Item, *, kappa: float, now: float) -> bool:
        """The predicate for one item, with the kappa it will have in the morning."""
        age = max(0.0, now - item.event_time)
        importance = item.importance * (1.0 if self.half_life is None else 2.0 ** (-age / self.half_life))
        weak = kappa < self.theta_forget and importance < self.theta_importance
        return weak and item.access_count == 0 and item.type != "semantic"

    def decide(self, night: Night) -> None:
        doomed = dict(self._doomed(night))
        for name in self._last_members(night, doomed):
            night.spared.append(name)
            del doomed[name]
        for name, (item, reason) in doomed.items():
            night.sample("pruned", id=name, content=item.content, reason=reason, importance=item.importance)
            if not self.dry_run:
                night.doomed[name] = reason

    def _doomed(self, night: Night) -> Iterator[tuple[str, tuple[Item, str]]]:
        superseded = self._superseded(night) if self.superseded else set()
        for item in night.view.scan(Filter()):
            if item.id in superseded and item.type != "semantic":
                yield item.id, (item, "superseded")
            elif self.faint(item, kappa=night.kappa(item), now=night.now):
                yield item.id, (item, "forgotten")

    def _superseded(self, night: Night) -> set[str]:
        kind = str(EdgeType.SUPERSEDES)
        edges = [*night.view.edges(edge_type=kind), *(e for e in night.edges if str(e.type) == kind)]
        pairs = [(edge.source, edge.target) for edge in edges]
        newer = {item.id for item in night.view.get_many([source for source, _ in pairs]) if item is not None}
        older = {item.id: item for item in night.view.get_many([old for _, old in pairs]) if item is not None}
        return {
            old
            for new, old in pairs
            if new in newer and old in older and night.closed.get(old, older[old].valid_until) <= night.now
        }

    def _last_members(self, night: Night, doomed: dict[str, tuple[Item, str]]) -> list[str]:
        """One member, the most important, of every prototype that would otherwise lose its last."""
        kind = str(EdgeType.MERGED_FROM)
        members: dict[str, list[str]] = {}
        for edge in (*night.view.edges(edge_type=kind), *(e for e in night.edges if str(e.type) == kind)):
            members.setdefault(edge.source, []).append(edge.target)
        spared: dict[str, None] = {}
        for prototype in sorted(members):
            present = night.view.get_many(members[prototype])
            alive = [item for item in present if item is not None]
            if alive and all(item.id in doomed and item.id not in spared for item in alive):
                spared[max(alive, key=lambda item: (item.importance, item.event_time, item.id)).id] = None
        return list(spared)
