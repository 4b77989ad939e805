"""All columns of metrics.csv from its first row on.

A CSV that learns of a metric late must be rewritten as a whole, each time; a reader that follows it sees
its columns move. So whatever a run will log is named before its first step, with a row of NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.loggers import CSVLogger

from t4dm.training.metrics_csv import MetricsCsv


def open_columns(trainer: Any, names: Iterable[str]) -> None:
    """Log NaN under `names` and the `metric_names` of every callback, to those loggers that write a CSV."""
    every = [
        *names,
        *(name for callback in trainer.callbacks for name in getattr(callback, "metric_names", ())),
    ]
    nothing: dict[str, Any] = {name: float("nan") for name in ("epoch", *dict.fromkeys(every))}
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger | MetricsCsv):
            logger.log_metrics(nothing, step=trainer.global_step)


def log_now(trainer: Any, values: Mapping[str, float]) -> None:
    """Log at the current step, whatever `log_every_n_steps` says; for what happens rarely."""
    for logger in trainer.loggers:
        logger.log_metrics({"epoch": trainer.current_epoch, **values}, step=trainer.global_step)
        logger.save()
