"""Which LoRA rank, on which layers: the jobs of a search, what each came to, and what to take.

A job is a training of its own, in a process of its own; here are only its name, its overrides and its
figures, read from the run folder that it leaves.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, Final, NamedTuple

from t4dm.errors import BrokenRunFileError, SettingError

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "qv": ("q_proj", "v_proj"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
"""Sets of linear layers by name."""
RANKS: Final = (8, 16, 32, 64)
NEAR: Final = 0.005
"""Share by which a perplexity may lie above the best and still count as the same, of a single seed."""


class Job(NamedTuple):
    """One training."""

    rank: int
    targets: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder."""
        return f"r{self.rank}-{self.targets}-s{self.seed}"

    def overrides(self) -> list[str]:
        """What makes it of the experiment's config."""
        layers = ",".join(TARGETS[self.targets])
        return [f"model.lora.rank={self.rank}", f"model.lora.targets=[{layers}]", f"seed={self.seed}"]


class Outcome(NamedTuple):
    """What a job came to."""

    job: Job
    parameters: int
    """Of LoRA."""
    perplexity: float
    """exp of the held-out text's cross-entropy in nats per token."""
    recall: float
    """Share of the exam's questions beyond the window that are answered exactly, with the memory."""
    memory_mib: float
    """Peak resident memory of the process, on a GPU the peak of the GPU's."""
    seconds: float
    """Of training, without nights and exam."""
    tokens_per_s: float
    """The median step."""


class Row(NamedTuple):
    """The means of one rank and target set over its seeds; errors are standard errors, NaN for one seed."""

    rank: int
    targets: str
    seeds: int
    parameters: int
    perplexity: float
    perplexity_error: float
    recall: float
    recall_error: float
    memory_mib: float
    seconds: float
    tokens_per_s: float


class Recommendation(NamedTuple):
    """The smallest row that is as good as the best, and why."""

    row: Row
    reason: str


def jobs(*, ranks: Iterable[int], targets: Iterable[str], seeds: Iterable[int]) -> list[Job]:
    """All of them, the smallest ranks first.

    Raises:
        SettingError: a rank below 1, or an unknown set of layers.
    """
    sets = list(dict.fromkeys(targets))
    for name in sets:
        if name not in TARGETS:
            raise SettingError("--targets", name, f"choose from {', '.join(TARGETS)}")
    wanted = sorted(set(ranks))
    for rank in wanted:
        if rank < 1:
            raise SettingError("--ranks", rank, "write ranks from 1 on, such as --ranks 8,16")
    return [Job(rank, name, seed) for seed in dict.fromkeys(seeds) for rank in wanted for name in sets]


def read_outcome(folder: Path, job: Job) -> Outcome | None:
    """The figures of a finished job; None for one that is absent or did not finish.

    Raises:
        BrokenRunFileError: a file of a finished run cannot be read.
    """
    try:
        status = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("status")
        if status != "done":
            return None
        told = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        loss = told["losses"]["text_val"]
        cells = told["recall"]["memory"].values()
        rates, vram = _columns(folder / "metrics.csv", "time/tokens_per_s", "vram/peak_gib")
        gpu = max(vram, default=0.0) * 1024
        return Outcome(
            job=job,
            parameters=int(told["parameters"]["lora"]),
            perplexity=math.exp(loss) if loss is not None else math.nan,
            recall=fmean(float(cell["mean"]) for cell in cells),
            memory_mib=gpu or float(told["peak_memory_mib"]),
            seconds=float(told["seconds"]["train"]),
            tokens_per_s=median(rates) if rates else math.nan,
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise BrokenRunFileError(folder, f"its figures cannot be read ({error})") from error


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Means over seeds, by the number of parameters."""
    groups: dict[tuple[int, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.job.rank, outcome.job.targets), []).append(outcome)
    made = [_row(rank, targets, found) for (rank, targets), found in groups.items()]
    return sorted(made, key=lambda row: (row.parameters, row.targets))


def recommend(found: Sequence[Row]) -> Recommendation | None:
    """The fewest parameters whose perplexity and recall both lie within one standard error of the best (the
    one-standard-error rule, Breiman et al. 1984); with one seed, within NEAR of the best perplexity and two
    points of the best recall. None where no row is finished.
    """
    sound = [row for row in found if math.isfinite(row.perplexity)]
    if not sound:
        return None
    sharpest = min(sound, key=lambda row: row.perplexity)
    highest = max(sound, key=lambda row: row.recall)
    most = sharpest.perplexity + _or(sharpest.perplexity_error, NEAR * sharpest.perplexity)
    least = highest.recall - _or(highest.recall_error, 0.02)
    good = [row for row in sound if row.perplexity <= most and row.recall >= least]
    if not good:
        fits = [row for row in sound if row.perplexity <= most]
        chosen = min(fits, key=lambda row: row.parameters)
        return Recommendation(
            chosen,
            f"no row has both; this one has the fewest parameters with a perplexity of at most {most:.4g}, "
            f"the best recall is {highest.recall:.1%} at rank {highest.rank} on {highest.targets}",
        )
    chosen = min(good, key=lambda row: row.parameters)
    return Recommendation(
        chosen,
        f"the fewest parameters with a perplexity of at most {most:.4g} (best {sharpest.perplexity:.4g}) and "
        f"a recall of at least {least:.1%} (best {highest.recall:.1%})",
    )


def _row(rank: int, targets: str, found: Sequence[Outcome]) -> Row:
    def of(name: str) -> list[float]:
        return [float(getattr(outcome, name)) for outcome in found]

    return Row(
        rank=rank,
        targets=targets,
        seeds=len(found),
        parameters=found[0].parameters,
        perplexity=fmean(of("perplexity")),
        perplexity_error=_error(of("perplexity")),
        recall=fmean(of("recall")),
        recall_error=_error(of("recall")),
        memory_mib=max(of("memory_mib")),
        seconds=fmean(of("seconds")),
        tokens_per_s=fmean(of("tokens_per_s")),
    )


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _or(error: float, otherwise: float) -> float:
    return error if math.isfinite(error) else otherwise


def _columns(file: Path, *names: str) -> list[list[float]]:
    """The finite numbers of some columns of a CSV."""
    found: list[list[float]] = [[] for _ in names]
    with file.open(newline="", encoding="utf-8") as opened:
        for line in csv.DictReader(opened):
            for values, name in zip(found, names, strict=True):
                text: Any = line.get(name) or line.get(f"{name}_step") or "nan"
                if math.isfinite(number := float(text)):
                    values.append(number)
    return found
