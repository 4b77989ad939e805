"""What a night did, in numbers and examples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np

from t4dm.t4dx import T4DX

__all__ = ["KAPPA_BINS", "Inventory", "SleepReport", "take_inventory"]

KAPPA_BINS = 20
SAMPLE_KINDS = ("replayed", "cluster", "pruned", "superseded")
_COUNTS = (
    "replayed",
    "prototypes",
    "merged",
    "pruned",
    "spared",
    "superseded",
    "edges_strengthened",
    "edges_downscaled",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """A store at one moment: how much it holds, and how consolidated it is.

    Attributes:
        items: stored items.
        edges: stored edges.
        bytes: on disk, without what past nights could be taken back with.
        kappa: counts in 20 equal bins over [0, 1]; 1 falls in the last.
        mean_kappa: mean over all items; 0 for an empty store.
    """

    items: int
    edges: int
    bytes: int
    kappa: tuple[int, ...]
    mean_kappa: float


def take_inventory(store: T4DX) -> Inventory:
    """Count a store's items by kappa, from one column."""
    stats = store.stats()
    kappas = store.column("kappa").astype(np.float64)
    counts = np.histogram(kappas, bins=KAPPA_BINS, range=(0.0, 1.0))[0]
    return Inventory(
        items=len(kappas),
        edges=int(stats["edges"]),
        bytes=int(stats["bytes"]) - int(stats["undo_bytes"]),  # what could be taken back is no memory
        kappa=tuple(int(count) for count in counts),
        mean_kappa=math.fsum(kappas) / len(kappas) if len(kappas) else 0.0,  # whatever the order of the rows
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SleepReport:
    """One sleep cycle.

    Attributes:
        cycle: id of the night; new edges and prototypes carry it.
        started: seconds, by the memory's clock.
        seconds: wall time of the whole cycle.
        replayed: items replayed, each once.
        prototypes: prototypes made.
        merged: items that a cluster took in.
        pruned: items deleted.
        spared: items kept only because a prototype would lose its last member.
        superseded: items found to be superseded.
        edges_strengthened: edges whose weight replay changed.
        edges_downscaled: edges whose weight homeostasis lowered.
        before: inventory in the evening.
        after: inventory in the morning.
        replayed_ids: ids of the first replayed items.
        samples: readable examples for each of `SAMPLE_KINDS`.
    """

    cycle: str
    started: float
    seconds: float
    replayed: int
    prototypes: int
    merged: int
    pruned: int
    spared: int
    superseded: int
    edges_strengthened: int
    edges_downscaled: int
    before: Inventory
    after: Inventory
    replayed_ids: tuple[str, ...] = ()
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Numbers for a logger, names with their wing and unit."""
        return {
            "sleep/replayed_items": float(self.replayed),
            "sleep/prototypes": float(self.prototypes),
            "sleep/merged_items": float(self.merged),
            "sleep/pruned_items": float(self.pruned),
            "sleep/spared_items": float(self.spared),
            "sleep/superseded_items": float(self.superseded),
            "sleep/edges_strengthened": float(self.edges_strengthened),
            "sleep/edges_downscaled": float(self.edges_downscaled),
            "sleep/items_before": float(self.before.items),
            "sleep/items_after": float(self.after.items),
            "sleep/bytes_before": float(self.before.bytes),
            "sleep/bytes_after": float(self.after.bytes),
            "sleep/kappa_mean": self.after.mean_kappa,
            "sleep/seconds": self.seconds,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values in one flat dict, ready for a line of nights.jsonl."""
        line = {name: getattr(self, name) for name in (*_COUNTS, "cycle", "started", "seconds")}
        for when, inventory in (("before", self.before), ("after", self.after)):
            line |= {f"{name}_{when}": value for name, value in asdict(inventory).items()}
        line |= {f"kappa_{when}": list(line[f"kappa_{when}"]) for when in ("before", "after")}
        line |= {f"{kind}_samples": self.samples.get(kind, []) for kind in SAMPLE_KINDS}
        return line | {"replayed_ids": list(self.replayed_ids)}
