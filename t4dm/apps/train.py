"""`t4dm train`: wake, sleep when tired, then the exam, the closing table and the report."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from t4dm.apps import assembly, exam, summary
from t4dm.apps.beginning import Beginning, begin, beginning
from t4dm.apps.job import app, guarded, run
from t4dm.apps.resume import filed_under, resumed
from t4dm.config import build, check, chosen, plain
from t4dm.persistence.bundle import Bundle
from t4dm.persistence.recovery import newest_bundle
from t4dm.t4dx import T4DX
from t4dm.training.bundle_io import BundleIO
from t4dm.training.callbacks.progress import RunBar
from t4dm.training.event_clock import EventClock
from t4dm.training.heap import keep_freed_memory
from t4dm.training.run_record import RunRecord
from t4dm.viz.closing_table import closing_table
from t4dm.viz.report import write_report


class RunResult(NamedTuple):
    """What a run leaves."""

    folder: Path
    summary: dict[str, Any]
    metrics: dict[str, float]
    """The last value of everything logged."""


def train(cfg: DictConfig, *, own_process: bool = False) -> RunResult:
    """Train as the config says and write the whole run folder.

    Args:
        cfg: composed.
        own_process: whether the process is there for this alone, and may keep the memory that it frees.

    Raises:
        T4DMError: a user's mistake; nothing written before is lost.
    """
    typed = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    c, parent = plain(cfg), cfg.get("resume")
    if parent:
        c, typed = resumed(Path(parent), typed, output=c["paths"]["output"])
    check(cfg, whole=True)
    assembly.one_device(c)
    if own_process and c.get("keep_freed_memory", True) and c["trainer"].get("accelerator") == "cpu":
        keep_freed_memory()
    other = c.get("init_from") if parent is None else None  # a run that goes on has begun
    start = beginning(Path(other)) if other else None
    folder = Path(c["paths"]["output"])
    record = RunRecord.open(
        folder, config=c, overrides=typed, seed=c["seed"], experiment=c["name"], parent=parent
    )
    with record:
        bundle = newest_bundle(Path(parent) / "checkpoints")[0] if parent else None
        result = _train(c, record, bundle, start)
    # Only now does the record say how the run ended.
    report = write_report(result.folder)
    Console().print(closing_table(result.summary))
    Console().print(f"report: {report}", soft_wrap=True, highlight=False)
    return result


def _train(c: assembly.Plain, record: RunRecord, bundle: Bundle | None, start: Beginning | None) -> RunResult:
    began, clock, rngs = time.monotonic(), EventClock(), assembly.streams(c["seed"])
    info = bundle.info if bundle else None
    with ExitStack() as stack, warnings.catch_warnings():
        # a resumed run has a folder of its own: that is the point
        warnings.filterwarnings("ignore", "The dirpath has changed")
        # Lightning's use of torch, not the user's
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        store = stack.enter_context(assembly.open_store(c, clock=clock, bundle=info))
        bar = stack.enter_context(RunBar())
        stack.callback(_end_mirrors)
        parts = assembly.assemble(c)
        phases = [build(phase) for phase in chosen(c["sleep"]["phases"])]
        given = {
            "model": parts.model,
            "memory": assembly.port(store, clock=clock, rng=rngs.memory),
            "writer": parts.writer,
            "clock": clock,
            "phases": phases,
            "pressure": next((build(node) for node in chosen({"": c["sleep"]["pressure"]})), None),
            "folder": record.path,
            "bar": bar,
        }
        module = build(c["phase"], **given)
        if start is not None:
            begin(module, parts.writer, start)
        trainer = _trainer(c, store, given)
        trainer.fit(module, parts.data, ckpt_path=info.path if info else None, weights_only=True)
        trained = time.monotonic()
        scores = exam.sit(c, parts, folder=record.path, phases=phases, rng=rngs.exam, bar=bar)
        seconds = {"train": trained - began, "evaluate": time.monotonic() - trained}
        told = summary.summary(c, scores=scores, trainer=trainer, store=store, seconds=seconds)
        record.write_json("summary.json", told)
    return RunResult(
        record.path, told, {key: float(value) for key, value in trainer.callback_metrics.items()}
    )


def _trainer(c: assembly.Plain, store: T4DX | None, given: Mapping[str, Any]) -> Any:
    nodes = chosen({**(c["callbacks"] or {}), "asleep": c["sleep"]["callback"]})
    return build(
        {**c["trainer"], "_partial_": True},
        callbacks=[build(node, **given) for node in nodes],
        logger=[build(node) for node in chosen(c["logger"])],
        plugins=[BundleIO(store=store)],
        default_root_dir=c["paths"]["output"],
    )


def _end_mirrors() -> None:
    """In a sweep the next job would go on in this one's wandb run."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def objective(cfg: DictConfig) -> float | None:
    """Train, and tell a sweeper the metric that `cfg.objective` names."""
    result = train(cfg, own_process=True)
    return result.metrics.get(cfg.objective)


@app("train")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    sys.argv += filed_under(sys.argv[1:])
    run(main, "train")
