"""One whole night: the phases decide, one transaction writes, compaction folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from t4dm.memory.memory import Memory
from t4dm.sleep.downscale import Downscale
from t4dm.sleep.night import Night, Phase
from t4dm.sleep.nrem import Nrem
from t4dm.sleep.prune import Prune
from t4dm.sleep.rem import Rem
from t4dm.sleep.report import Inventory, SleepReport, take_inventory
from t4dm.spiking.stack import CorticalStack
from t4dm.t4dx import new_id

__all__ = ["nightly", "run_cycle"]


def nightly() -> tuple[Phase, ...]:
    """The usual night: NREM, REM, edge downscaling, PRUNE."""
    return Nrem(), Rem(), Downscale(), Prune()


def run_cycle(
    memory: Memory,
    stack: CorticalStack | None,
    *,
    phases: Sequence[Phase] | None = None,
    clock: Callable[[], float],
    rng: np.random.Generator,
    compact: bool = True,
) -> SleepReport:
    """Sleep once.

    Accesses counted while awake are logged first, because forgetting asks for them. Then each phase
    decides, seeing the decisions before its own; all of them are written as one transaction, so that a
    crash at any moment leaves the evening's store or the morning's, and every boost is applied exactly
    once. Physical compaction comes after and changes nothing logical.

    Args:
        memory: its store is consolidated.
        stack: replays the chosen items; None replays nothing and strengthens no edge.
        phases: in their order; `nightly()` by default.
        clock: the time in seconds, as items and edges will carry it.
        rng: every random choice, and the ids of what is made.
        compact: whether to fold the store's files afterwards.

    Returns:
        What was done.
    """
    started = time.perf_counter()
    memory.flush_accesses()
    before = take_inventory(memory.store)
    night = Night(
        store=memory.store, view=memory.store.snapshot(), stack=stack, now=clock(), rng=rng, cycle=new_id(rng)
    )
    for phase in nightly() if phases is None else phases:
        phase.decide(night)
    night.commit()
    if compact:
        memory.store.compact()
    after = take_inventory(memory.store)
    return _report(night, before=before, after=after, seconds=time.perf_counter() - started)


def _report(night: Night, *, before: Inventory, after: Inventory, seconds: float) -> SleepReport:
    samples: dict[str, list[dict[str, Any]]] = {
        kind: [dict(s) for s in lines] for kind, lines in night.samples.items()
    }
    return SleepReport(
        cycle=night.cycle,
        started=night.now,
        seconds=seconds,
        replayed=len(night.replayed),
        prototypes=len(night.prototypes),
        merged=len(night.merged),
        pruned=len(night.doomed),
        spared=len(night.spared),
        superseded=len(night.closed),
        edges_strengthened=night.strengthened,
        edges_downscaled=night.downscaled,
        before=before,
        after=after,
        replayed_ids=tuple(night.replayed[:64]),
        samples=samples,
    )
