"""`t4dm study`: the runs of a sweep as one table, mean and 95 % interval over the seeds."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from rich.console import Console

from t4dm.apps.job import app, guarded, run
from t4dm.config import check, plain
from t4dm.errors import NoRunsError
from t4dm.evaluation.intervals import mean_interval
from t4dm.training.run_record import RunRecord
from t4dm.viz.closing_table import closing_table

Summary = Mapping[str, Any]


def study(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """Gather the summaries below `cfg.runs`, by what was typed except for the seed.

    Writes results.json (`{what was typed: {"chance", "seeds", "recall": {arm: {distance: {"mean", "ci"}}}}}`)
    and results.csv, one row for each arm and distance.

    Raises:
        NoRunsError: no run below `cfg.runs` has a summary.
    """
    check(cfg, whole=True)
    c, folder = plain(cfg), Path(cfg.paths.output)
    groups = gather(Path(c["runs"]))
    results = {name: over_seeds(summaries) for name, summaries in sorted(groups.items())}
    with RunRecord.open(folder, config=c, seed=c["seed"], app="study", experiment=c["name"]) as record:
        record.write_json("results.json", results)
        _write_csv(folder / "results.csv", results)
    console = Console()
    for name, result in results.items():
        console.print(closing_table({**result, "experiment": name}))
    console.print(f"results: {folder / 'results.json'}", highlight=False, soft_wrap=True)
    return results


def gather(root: Path) -> dict[str, list[Summary]]:
    """Summaries of finished runs by their overrides without the seed.

    Raises:
        NoRunsError: there is none.
    """
    groups: dict[str, list[Summary]] = defaultdict(list)
    for file in sorted(root.rglob("summary.json")) if root.is_dir() else []:
        told = json.loads(file.read_text(encoding="utf-8"))
        if told.get("recall"):
            groups[_typed(file.parent) or told["experiment"]].append(told)
    if not groups:
        raise NoRunsError(str(root), kind="finished run with recall in its summary.json")
    return dict(groups)


def _typed(folder: Path) -> str:
    file = folder / "overrides.yaml"
    overrides = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else []
    return " ".join(sorted(o for o in overrides or [] if not o.startswith("seed=")))


def over_seeds(summaries: Iterable[Summary]) -> dict[str, Any]:
    """Mean and 95 % interval of each cell: Student's over several runs, a single run's own otherwise."""
    runs = list(summaries)
    cells: dict[str, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for told in runs:
        for arm, row in told["recall"].items():
            for distance, cell in row.items():
                cells[arm][distance].append(cell)
    return {
        "chance": runs[0]["chance"],
        "seeds": [told["seed"] for told in runs],
        "recall": {
            arm: {distance: _cell(found) for distance, found in row.items()} for arm, row in cells.items()
        },
    }


def _cell(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    if len(found) == 1:
        return dict(found[0])
    mean, half = mean_interval([float(cell["mean"]) for cell in found])
    questions = sum(int(cell.get("n", 0)) for cell in found)
    return {"mean": mean, "ci": [max(0.0, mean - half), min(1.0, mean + half)], "n": questions}


def _write_csv(path: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["what", "runs", "arm", "distance", "mean", "low", "high", "questions"])
        for name, result in results.items():
            for arm, row in result["recall"].items():
                for distance, cell in row.items():
                    low, high = cell["ci"]
                    n = len(result["seeds"])
                    writer.writerow([name, n, arm, distance, cell["mean"], low, high, cell.get("n", "")])


def objective(cfg: DictConfig) -> None:
    """Gather; there is nothing to optimise."""
    study(cfg)


@app("study")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    run(main, "study")
