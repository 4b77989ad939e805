"""summary.json: what a run came to, in figures."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping
from typing import Any

from t4dm.apps.assembly import Plain
from t4dm.apps.exam import scores_part
from t4dm.evaluation.recall import RecallScores
from t4dm.sleep.report import take_inventory
from t4dm.t4dx import T4DX
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.sleep import SleepCallback

LOSSES = {"train": "train/ce", "val": "val/loss", "text_val": "text_val/loss"}


def summary(
    c: Plain,
    *,
    scores: RecallScores | None,
    trainer: Any,
    store: T4DX | None,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Gather it.

    Args:
        c: of the run.
        scores: of the exam, None without one.
        trainer: Lightning's, after the fit.
        store: still open, None without one.
        seconds: wall time that this process trained (nights included) and sat the exam.
    """
    write = next((x for x in trainer.callbacks if isinstance(x, MemoryWriteCallback)), None)
    sleep = next((x for x in trainer.callbacks if isinstance(x, SleepCallback)), None)
    inventory = None if store is None else take_inventory(store)
    asleep = sleep.seconds if sleep else 0.0
    offered, written = (write.offered, write.written) if write else (0, 0)
    return {
        "experiment": c["name"],
        "seed": c["seed"],
        **scores_part(scores),
        "parameters": _parameters(trainer.lightning_module.model),
        "losses": {name: _metric(trainer, metric) for name, metric in LOSSES.items()},
        "items": {
            "offered": offered,
            "written": written,
            "stored": inventory.items if inventory else 0,
            "pruned": sleep.pruned if sleep else 0,
            "prototypes": sleep.prototypes if sleep else 0,
        },
        "kappa": {"mean": inventory.mean_kappa, "hist": list(inventory.kappa)} if inventory else None,
        "write_rate": written / offered if offered else None,
        "seconds": {
            "train": round(seconds["train"] - asleep, 3),
            "sleep": round(asleep, 3),
            "evaluate": round(seconds["evaluate"], 3),
            "total": round(seconds["train"] + seconds["evaluate"], 3),
        },
        "peak_memory_mib": round(peak_memory_mib(), 1),
        "nights": sleep.nights if sleep else 0,
    }


def _parameters(model: Any) -> dict[str, int]:
    """How many there are of each kind that learns."""
    lora = sum(p.numel() for name, p in model.language_model.named_parameters() if "lora_" in name)
    stack = 0 if model.stack is None else sum(p.numel() for p in model.stack.parameters())
    return {
        "lora": lora,
        "stack": stack,
        "projections": sum(p.numel() for p in model.projection_parameters()),
    }


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _metric(trainer: Any, name: str) -> float | None:
    value = trainer.callback_metrics.get(name)
    return float(value) if value is not None and math.isfinite(float(value)) else None
