"""`t4dm generate`: text from a trained model, with the memories of its run."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from omegaconf import DictConfig

from t4dm.apps import finished
from t4dm.apps.assembly import open_store, port, streams
from t4dm.apps.job import app, guarded, run
from t4dm.config import check, plain
from t4dm.model.generate import generate as continuation
from t4dm.t4dx import T4DX
from t4dm.training.event_clock import EventClock
from t4dm.training.run_record import RunRecord


def generate(cfg: DictConfig) -> str:
    """Continue `cfg.prompt` on the terminal and in generated.txt; the run's store is read from a copy.

    Raises:
        RunFolderError: `cfg.run` is no run folder with a checkpoint.
    """
    check(cfg, whole=True)
    c, folder = plain(cfg), Path(cfg.paths.output)
    trained, rngs = finished.load(Path(c["run"]), changes={}), streams(c["seed"])
    clock = EventClock()
    with (
        RunRecord.open(
            folder, config=c, seed=c["seed"], app="generate", experiment=c["name"], parent=c["run"]
        ),
        open_store(trained.config, clock=clock, bundle=trained.bundle, folder=folder / "store") as store,
    ):
        clock.advance(_latest_event(store))
        pieces = [c["prompt"]]
        sys.stdout.write(c["prompt"])
        for piece in continuation(
            trained.parts.model,
            c["prompt"],
            max_new_tokens=c["max_new_tokens"],
            memory=port(store, clock=clock, rng=rngs.memory),
            session=_newest_session(store) if c["session"] is None else c["session"],
            temperature=c["temperature"],
            generator=torch.Generator().manual_seed(c["seed"]),
        ):
            sys.stdout.write(piece)
            sys.stdout.flush()
            pieces.append(piece)
        sys.stdout.write("\n")
        (folder / "generated.txt").write_text("".join(pieces) + "\n", encoding="utf-8")
    return "".join(pieces)


def _latest_event(store: T4DX | None) -> float:
    """When the last event was: ages count from there, so what is newer outranks what it superseded."""
    return 0.0 if store is None else float(store.column("event_time").max(initial=0.0))


def _newest_session(store: T4DX | None) -> str:
    """Whose memories were written last."""
    newest = next(iter(store.scan(limit=1, order="-record_time")), None) if store is not None else None
    return "" if newest is None else newest.session


def objective(cfg: DictConfig) -> None:
    """Generate; there is nothing to optimise."""
    generate(cfg)


@app("generate")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    run(main, "generate")
