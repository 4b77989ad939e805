"""The ledger of one night: phases decide into it, nothing is written until it is committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np
import torch

from t4dm.plasticity.stdp import STDPParams, stdp_change
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import T4DX, Edge, EdgeType, Filter, Item
from t4dm.t4dx.operators import IDENTITY, AffineClip, add, scale
from t4dm.t4dx.reader import Reader

__all__ = ["ASSOCIATIONS", "Night", "Phase", "Sample", "weight_change"]

# Associations learn; MERGED_FROM, SUPERSEDES and their like state facts, and a fact has no strength.
ASSOCIATIONS = (
    EdgeType.TEMPORAL_AFTER,
    EdgeType.TEMPORAL_BEFORE,
    EdgeType.RELATES_TO,
    EdgeType.SIMILAR_TO,
    EdgeType.DERIVED_FROM,
    EdgeType.CAUSES,
    EdgeType.HAS_CONTEXT,
)


class Sample(dict[str, object]):
    """A readable line of the report: plain values only."""


class Phase(Protocol):
    """One stage of sleep. It reads the store and what the stages before it decided, and adds its own
    decisions.
    """

    def decide(self, night: Night) -> None: ...


@final
@dataclass(kw_only=True, eq=False)
class Night:
    """Decisions of one sleep cycle.

    `kappa` shows a phase the effect of the phases before it; `commit` writes everything as one transaction,
    so that a crash leaves either the evening or the morning.

    Attributes:
        store: written by `commit`, and by nothing else.
        view: the store as it was in the evening; what phases read.
        stack: the cortical stack that replays, or None for a model without one.
        now: start of the night, seconds.
        rng: every random choice of the night.
        cycle: id of the night; prototypes and new edges carry it.
    """

    store: T4DX
    view: Reader
    stack: CorticalStack | None
    now: float
    rng: np.random.Generator
    cycle: str
    boosts: list[tuple[tuple[str, ...], float]] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    prototypes: list[Item] = field(default_factory=list)
    weights: dict[tuple[str, str, str], AffineClip] = field(default_factory=dict)
    metadata: dict[str, dict[str, object]] = field(default_factory=dict)
    closed: dict[str, float] = field(default_factory=dict)
    doomed: dict[str, str] = field(default_factory=dict)
    replayed: list[str] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)
    spared: list[str] = field(default_factory=list)
    strengthened: int = 0
    downscaled: int = 0
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    _kappa: dict[str, list[float]] = field(default_factory=dict)

    def boost(self, ids: Sequence[str], eta: float) -> None:
        """Decide kappa <- kappa + eta * (1 - kappa) for each id, once."""
        if ids:
            self.boosts.append((tuple(dict.fromkeys(ids)), eta))
            for name in dict.fromkeys(ids):
                self._kappa.setdefault(name, []).append(eta)

    def kappa(self, item: Item) -> float:
        """kappa as it will be in the morning, as far as decided."""
        kappa = item.kappa
        for eta in self._kappa.get(item.id, ()):
            kappa += eta * (1.0 - kappa)
        return kappa

    def scan(self, where: Filter, *, kappa: tuple[float, float]) -> Iterator[Item]:
        """Stored items of a filter whose kappa, with tonight's boosts, lies in [lo, hi)."""
        for item in self.view.scan(where):
            if kappa[0] <= self.kappa(item) < kappa[1]:
                yield item

    def sample(self, kind: str, limit: int = 8, **values: object) -> None:
        """Keep the first few examples of what was done, for the report."""
        lines = self.samples.setdefault(kind, [])
        if len(lines) < limit:
            lines.append(Sample(values))

    def strengthen(self, edge: Edge, up: float, down: float, rule: STDPParams) -> None:
        """Decide w <- w + dw for a stored edge: LTP and LTD as `stdp_change` applies them at its weight."""
        self._change(edge, add(weight_change(self.weight(edge), up, down, rule)))
        self.strengthened += 1

    def downscale(self, edge: Edge, factor: float) -> None:
        """Decide w <- factor * w for an edge that is stored."""
        self._change(edge, scale(factor))
        self.downscaled += 1

    def weight(self, edge: Edge) -> float:
        """An edge's weight as it will be in the morning, as far as decided."""
        return self.weights.get(_key(edge), IDENTITY)(edge.weight)

    def _change(self, edge: Edge, operator: AffineClip) -> None:
        """Operators compose in their order: adding and clamping do not commute with scaling."""
        self.weights[_key(edge)] = self.weights.get(_key(edge), IDENTITY).then(operator)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.boosts or self.edges or self.prototypes or self.weights or self.metadata) and not (
            self.closed or self.doomed
        )

    def commit(self) -> None:
        """Write every decision as one transaction. Deletions come last, so that they hide whatever touched
        them. `store.undo(cycle)` takes the night back; a cycle that is known already, because the rng was
        seeded alike, gets the LSN of its evening as a suffix.
        """
        if self.empty:
            return
        taken = any(known.id == self.cycle for known in self.store.transactions())
        name = f"{self.cycle}-{self.view.lsn}" if taken else self.cycle
        with self.store.transaction(id=name, undo=True) as tx:
            for ids, eta in self.boosts:
                tx.merge_kappa(ids, eta)
            tx.insert_many(self.prototypes, self.edges)
            tx.update_edge_weights([(*key, operator) for key, operator in self.weights.items()])
            for name, metadata in self.metadata.items():
                tx.update_fields(name, metadata=metadata)
            for name, until in self.closed.items():
                tx.update_fields(name, valid_until=until)
            tx.delete_many(self.doomed)


def weight_change(weight: float, up: float, down: float, rule: STDPParams) -> float:
    """`stdp_change` of a single weight."""
    rise, fall, now = (torch.tensor(value, dtype=torch.float64) for value in (up, down, weight))
    return float(stdp_change(rise, fall, now, rule))


def _key(edge: Edge) -> tuple[str, str, str]:
    return edge.source, edge.target, str(edge.type)
