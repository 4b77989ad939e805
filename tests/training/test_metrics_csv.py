"""metrics.csv: rows as they come, columns as they appear."""

from __future__ import annotations

import csv
from pathlib import Path

from t4dm.training.metrics_csv import MetricsCsv


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_new_metric_adds_a_column_and_keeps_the_rows(tmp_path: Path) -> None:
    log = MetricsCsv(folder=tmp_path)
    log.log_metrics({"train/loss": 2.5, "epoch": 0}, step=1)
    log.log_metrics({"train/loss": 2.0, "epoch": 0}, step=2)
    log.log_metrics({"val/loss": 3.0, "epoch": 0}, step=2)
    assert rows(tmp_path / "metrics.csv") == [
        {"epoch": "0", "step": "1", "train/loss": "2.5", "val/loss": ""},
        {"epoch": "0", "step": "2", "train/loss": "2.0", "val/loss": ""},
        {"epoch": "0", "step": "2", "train/loss": "", "val/loss": "3.0"},
    ]


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    log = MetricsCsv(folder=tmp_path)
    log.log_metrics({"a": 1.0}, step=0)
    log.log_metrics({"a": 2.0}, step=1)
    assert [row["a"] for row in rows(tmp_path / "metrics.csv")] == ["1.0", "2.0"]


def test_rows_after_finalize_are_appended(tmp_path: Path) -> None:
    log = MetricsCsv(folder=tmp_path)
    log.log_metrics({"a": 1.0}, step=0)
    log.finalize("success")
    log.log_metrics({"a": 2.0}, step=1)
    log.finalize("success")
    assert [row["a"] for row in rows(tmp_path / "metrics.csv")] == ["1.0", "2.0"]
