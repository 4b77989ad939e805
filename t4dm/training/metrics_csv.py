"""metrics.csv in the run folder: the record of a run's figures; every other logger is a mirror of it.

Lightning's own CSVLogger wants a folder of its own and deletes the metrics.csv that it finds there.
"""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from lightning.pytorch.loggers.logger import Logger


@final
class MetricsCsv(Logger):
    """Appends one row for each logged step; a new metric adds a column, empty in the rows before it.

    Args:
        folder: of the run; the file is `folder/metrics.csv`.
    """

    def __init__(self, *, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.columns: list[str] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        """Of the run; also where Lightning puts what callbacks leave."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Nothing: config.yaml holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row; values are numbers, `step` is the optimiser's."""
        row = {"epoch": metrics.get("epoch", ""), "step": "" if step is None else step, **metrics}
        new = [name for name in row if name not in self.columns]
        if new:
            self._extend(new)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow(row)

    def _extend(self, new: list[str]) -> None:
        rows: list[dict[str, str]] = []
        if self.columns and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as old:
                rows = list(csv.DictReader(old))
        self.columns += new
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(".metrics.csv.part")
        with beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        beside.replace(self.path)
