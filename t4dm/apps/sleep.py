"""`t4dm sleep`: one night for a copy of a run's store."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from t4dm.apps import finished
from t4dm.apps.assembly import open_store, port, streams
from t4dm.apps.job import app, guarded, run
from t4dm.config import build, check, chosen, plain
from t4dm.errors import NothingToSleepOnError
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.report import SleepReport
from t4dm.training.callbacks.sleep import night_line
from t4dm.training.event_clock import EventClock
from t4dm.training.run_record import RunRecord


def sleep(cfg: DictConfig) -> SleepReport:
    """Sleep once on a copy of the store of `cfg.run`; the run itself stays as it is.

    Raises:
        RunFolderError: `cfg.run` is no run folder with a checkpoint.
        NothingToSleepOnError: the run has no store, or the config no phases.
    """
    check(cfg, whole=True)
    c, folder = plain(cfg), Path(cfg.paths.output)
    phases = [build(phase) for phase in chosen(c["sleep"]["phases"])]
    trained, rngs, clock = finished.load(Path(c["run"]), changes={}), streams(c["seed"]), EventClock()
    with (
        RunRecord.open(
            folder, config=c, seed=c["seed"], app="sleep", experiment=c["name"], parent=c["run"]
        ) as record,
        open_store(trained.config, clock=clock, bundle=trained.bundle, folder=folder / "store") as store,
    ):
        memory = port(store, clock=clock, rng=rngs.memory)
        if memory is None or not phases:
            raise NothingToSleepOnError(c["run"])
        newest = next(iter(memory.store.scan(limit=1, order="-event_time")), None)
        clock.advance(0.0 if newest is None else newest.event_time)
        report = run_cycle(memory, trained.parts.model.stack, phases=phases, clock=clock, rng=rngs.sleep)
        line = {"night": 1, "step": 0, **report.to_json()}
        (folder / "nights.jsonl").write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
        record.write_json("summary.json", {"experiment": c["name"], "seed": c["seed"], "nights": 1})
    console = Console()
    console.print(night_line(1, report, step=0), highlight=False, soft_wrap=True)
    console.print(f"store: {folder / 'store'}", highlight=False, soft_wrap=True)
    return report


def objective(cfg: DictConfig) -> None:
    """Sleep; there is nothing to optimise."""
    sleep(cfg)


@app("sleep")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    run(main, "sleep")
