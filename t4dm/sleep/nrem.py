"""NREM: choose what to keep, replay it through the cortex, strengthen what was replayed together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np

from t4dm.sleep.night import ASSOCIATIONS, Night, weight_change
from t4dm.sleep.replay import Replay
from t4dm.sleep.supersede import find_superseded
from t4dm.t4dx import Edge, EdgeType, Filter, Item

__all__ = ["Nrem", "priority"]

_MIN_ERROR = 1e-3


def priority(item: Item, *, kappa: float) -> float:
    """How much an item deserves a replay: prediction error * importance * (1 - kappa), never quite 0.

    Surprise and value decide, as in awake replay of the hippocampus (Mattar & Daw 2018); the last factor
    turns to fresh items once the old ones are stable.
    """
    error = max(_MIN_ERROR, float(item.metadata.get("prediction_error", 0.0)))
    return error * max(_MIN_ERROR, item.importance) * (1.0 - kappa)


@final
class Nrem:
    """Replay the most deserving items once each, in the order in which each session lived them.

    kappa of every replayed item rises by ``eta * (1 - kappa)``: repeated nights bring it past any threshold
    below 1, which fixed steps that stop at 0.3 cannot. The spikes that replay evokes change the edges
    between consecutive items of a session by STDP; where two consecutive items share no edge and fired
    together, RELATES_TO is made.

    Args:
        max_replays: items of one night.
        eta: step of kappa.
        kappa_below: items at or above are consolidated and rest.
        temperature: 0 takes the highest priorities; above 0 samples without replacement, with probability
            in proportion to ``priority ** (1 / temperature)`` (Gumbel top-k).
        replay: how vectors become spikes, and spikes weight changes.
        supersede_threshold: cosine from which a newer item of the session with another content supersedes
            an older one: SUPERSEDES is made and the old item's validity ends. None leaves supersession
            alone.
    """

    def __init__(
        self,
        *,
        max_replays: int = 256,
        eta: float = 0.15,
        kappa_below: float = 0.7,
        temperature: float = 0.0,
        replay: Replay | None = None,
        supersede_threshold: float | None = None,
    ) -> None:
        self.max_replays = max_replays
        self.eta = eta
        self.kappa_below = kappa_below
        self.temperature = temperature
        self.replay = Replay() if replay is None else replay
        self.supersede_threshold = supersede_threshold

    def decide(self, night: Night) -> None:
        chosen = self._supersede(night, self._choose(night))
        night.boost([item.id for item in chosen], self.eta)
        night.replayed += [item.id for item in chosen]
        for item in chosen:
            error = float(item.metadata.get("prediction_error", 0.0))
            night.sample(
                "replayed", id=item.id, content=item.content, prediction_error=error, kappa=night.kappa(item)
            )
        if night.stack is not None:
            self._learn(night, by_session(chosen))

    def _choose(self, night: Night) -> list[Item]:
        def rank(item: Item) -> tuple[float, str]:
            score = math.log(priority(item, kappa=night.kappa(item)))
            return score + (self.temperature * night.rng.gumbel() if self.temperature else 0.0), item.id

        found = night.scan(Filter(type=("episodic", "procedural")), kappa=(0.0, self.kappa_below))
        valid = (item for item in found if item.vector is not None and item.valid_until > night.now)
        return heapq.nlargest(self.max_replays, valid, key=rank)

    def _supersede(self, night: Night, chosen: list[Item]) -> list[Item]:
        """Close what newer items replaced; the replaced are not replayed."""
        if self.supersede_threshold is None:
            return chosen
        for new, old, cosine in find_superseded(night.view, chosen, threshold=self.supersede_threshold):
            # An item whose validity would end before it began was recorded out of order; it keeps its start.
            night.closed[old.id] = max(new.event_time, math.nextafter(old.valid_from, math.inf))
            night.edges.append(_edge(night, new.id, old.id, EdgeType.SUPERSEDES, weight=min(1.0, cosine)))
            night.sample("superseded", id=old.id, content=old.content, by=new.content, cosine=cosine)
        return [item for item in chosen if item.id not in night.closed]

    def _learn(self, night: Night, sessions: Sequence[Sequence[Item]]) -> None:
        assert night.stack is not None
        sequences = [
            np.stack([np.asarray(item.vector, dtype=np.float32) for item in items]) for items in sessions
        ]
        replayed = self.replay(night.stack, sequences)
        known = _associations(night, [item.id for items in sessions for item in items])
        for items, links in zip(sessions, replayed, strict=True):
            parts = zip(links.up.tolist(), links.down.tolist(), strict=True)
            for before, after, (up, down) in zip(items[:-1], items[1:], parts, strict=True):
                edges = known.get(frozenset((before.id, after.id)), [])
                for edge in edges:
                    night.strengthen(edge, up, down, self.replay.stdp)
                if not edges and up > down:
                    weight = weight_change(0.0, up, down, self.replay.stdp)
                    night.edges.append(_edge(night, after.id, before.id, EdgeType.RELATES_TO, weight=weight))


def by_session(items: Iterable[Item]) -> list[list[Item]]:
    """Each session's items in the order of their event times."""
    sessions: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: (item.session, item.event_time, item.id)):
        sessions.setdefault(item.session, []).append(item)
    return list(sessions.values())


def _associations(night: Night, ids: Sequence[str]) -> dict[frozenset[str], list[Edge]]:
    """The associations among some items, by their pair of ends."""
    found: dict[frozenset[str], list[Edge]] = {}
    for edge in night.view.edges(source=tuple(ids), target=tuple(ids), edge_type=ASSOCIATIONS):
        found.setdefault(frozenset((edge.source, edge.target)), []).append(edge)
    return found


def _edge(night: Night, source: str, target: str, kind: EdgeType, *, weight: float) -> Edge:
    return Edge(
        source,
        target,
        kind,
        weight=max(0.0, weight),
        valid_from=night.now,
        record_time=night.now,
        properties={"cycle": night.cycle},
    )
