"""`t4dm evaluate`: the exam of a finished run again, with other questions or distances."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from t4dm.apps import exam, finished
from t4dm.apps.assembly import streams
from t4dm.apps.job import app, guarded, run
from t4dm.apps.summary import peak_memory_mib
from t4dm.config import build, check, chosen, plain
from t4dm.training.callbacks.progress import RunBar
from t4dm.training.run_record import RunRecord
from t4dm.viz.closing_table import closing_table


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Sit the exam of `cfg.exam` with the model of `cfg.run`; the summary that is written.

    Raises:
        RunFolderError: `cfg.run` is no run folder with a checkpoint.
    """
    check(cfg, whole=True)
    c, began = plain(cfg), time.monotonic()
    trained = finished.load(Path(c["run"]), changes={"exam": c["exam"]})
    folder = Path(c["paths"]["output"])
    with RunRecord.open(
        folder, config=c, seed=c["seed"], app="evaluate", experiment=trained.config["name"], parent=c["run"]
    ) as record:
        rngs = streams(c["seed"])
        phases = [build(phase) for phase in chosen(trained.config["sleep"]["phases"])]
        with RunBar() as bar:
            scores = exam.sit(
                trained.config, trained.parts, folder=folder, phases=phases, rng=rngs.exam, bar=bar
            )
        told = {
            "experiment": trained.config["name"],
            "seed": c["seed"],
            **exam.scores_part(scores),
            "seconds": {"total": round(time.monotonic() - began, 3)},
            "peak_memory_mib": round(peak_memory_mib(), 1),
        }
        record.write_json("summary.json", told)
    Console().print(closing_table(told))
    return told


def objective(cfg: DictConfig) -> float | None:
    """Evaluate; mean accuracy of the arm `memory` for a sweeper."""
    cells = evaluate(cfg)["recall"].get("memory", {}).values()
    return sum(cell["mean"] for cell in cells) / len(cells) if cells else None


@app("evaluate")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    run(main, "evaluate")
