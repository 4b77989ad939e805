"""`t4dm study rank_search`: trains one model for each LoRA rank and set of layers, and says which to take."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.console import Console
from rich.table import Table

from t4dm.errors import FolderExistsError, NoTextForSearchError, SearchJobError, SettingError
from t4dm.studies.rank_search import (
    RANKS,
    TARGETS,
    Job,
    Outcome,
    Recommendation,
    Row,
    jobs,
    read_outcome,
    recommend,
    rows,
)
from t4dm.training.run_record import RunRecord, read_run
from t4dm.viz.rank_page import write_rank_page

SEED = 1234
JOBS = "jobs"
Train = Callable[[list[str]], int]
"""Runs `t4dm train` with these words in a process of its own; returns its exit code."""


class Search(NamedTuple):
    """What was asked for."""

    text: list[str]
    ranks: str
    targets: str
    seeds: str
    overrides: list[str]


def study_rank_search(
    *,
    text: Sequence[Path],
    ranks: str = ",".join(map(str, RANKS)),
    targets: str = ",".join(TARGETS),
    seeds: str = str(SEED),
    overrides: Sequence[str] = (),
    out: Path | None = None,
    train: Train | None = None,
) -> Path:
    """Train what is missing, one process for each job; write results.json, results.csv and rank_search.html.

    A folder of an earlier call goes on where that one stopped: finished jobs are kept, others start anew.

    Args:
        text: files whose held-out part gives the perplexity.
        ranks, targets, seeds: comma-separated; every combination is a job.
        overrides: of every training, such as `["model=qwen25_05b", "trainer=gpu"]`.
        out: the folder of the study; a dated one among the outputs by default.
        train: how a training is started; a process by default.

    Returns:
        The path of the page.

    Raises:
        NoTextForSearchError: no text file.
        SettingError: a rank, a set of layers or a seed that is none.
        FolderExistsError: `out` holds something else than such a study.
        SearchJobError: a training failed; the others that were finished are kept.
    """
    files = [Path(file) for file in text]
    if not files or not all(file.is_file() for file in files):
        raise NoTextForSearchError(next((str(file) for file in files if not file.is_file()), None))
    wanted = jobs(ranks=_numbers("--ranks", ranks), targets=_words(targets), seeds=_numbers("--seeds", seeds))
    folder = out or _dated()
    search = Search([str(file.resolve()) for file in files], ranks, targets, seeds, list(overrides))
    _check_folder(folder, search)
    with RunRecord.open(
        folder,
        config=search._asdict(),
        seed=wanted[0].seed,
        app="study",
        experiment="rank_search",
        command=_command(search),
    ) as record:
        (folder / "FAILED").unlink(missing_ok=True)  # of an earlier call
        found = _all(folder, wanted, search, train or _process)
        table = rows(found)
        chosen = recommend(table)
        record.write_json("results.json", _results(table, chosen, found))
        _write_csv(folder / "results.csv", table)
        page = write_rank_page(folder)
    show(table, chosen)
    return page


def show(table: Sequence[Row], chosen: Recommendation | None) -> None:
    """The table and the recommendation on the terminal."""
    console, shown = Console(), Table(title="LoRA ranks and layers")
    heads = ("rank", "layers", "parameters", "perplexity", "recall", "memory MiB", "seconds", "tokens/s")
    for head in heads:
        shown.add_column(head, justify="left" if head == "layers" else "right")
    for row in table:
        mark = " *" if chosen is not None and row == chosen.row else ""
        shown.add_row(
            f"{row.rank}{mark}",
            row.targets,
            f"{row.parameters:,}",
            f"{row.perplexity:.4g}",
            f"{row.recall:.1%}",
            f"{row.memory_mib:,.0f}",
            f"{row.seconds:.0f}",
            f"{row.tokens_per_s:,.0f}",
        )
    console.print(shown)
    if chosen is not None:
        console.print(f"* rank {chosen.row.rank} on {chosen.row.targets}: {chosen.reason}", highlight=False)


def _all(folder: Path, wanted: Sequence[Job], search: Search, train: Train) -> list[Outcome]:
    told, found = Console(stderr=True), list[Outcome]()
    for number, job in enumerate(wanted, 1):
        place = folder / JOBS / job.name
        outcome = read_outcome(place, job)
        told.print(
            f"{number}/{len(wanted)} {job.name}{' (kept)' if outcome else ''}", style="dim", highlight=False
        )
        if outcome is None:
            shutil.rmtree(place, ignore_errors=True)  # what did not finish starts anew
            code = train(_train_words(job, place, search))
            outcome = read_outcome(place, job) if code == 0 else None
            if outcome is None:
                raise SearchJobError(job.name, str(place), code=code, study=str(folder))
        found.append(outcome)
    return found


def _train_words(job: Job, place: Path, search: Search) -> list[str]:
    files = ",".join(f"'{file}'" for file in search.text)
    return [
        "experiment=rank_search",
        f"data.text.files=[{files}]",
        *job.overrides(),
        *search.overrides,
        f"hydra.run.dir={place}",
    ]


def _process(words: list[str]) -> int:
    """`python -m t4dm.apps.train`: its own memory, so that its peak is its own."""
    done = subprocess.run([sys.executable, "-m", "t4dm.apps.train", *words], stdout=subprocess.DEVNULL)
    if done.returncode in (-2, 130):
        raise KeyboardInterrupt
    return done.returncode


def _check_folder(folder: Path, search: Search) -> None:
    """A folder is new, or of the same search: more ranks, layers or seeds may be asked of it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if folder.is_dir() and (folder / "run.json").is_file():
        told = read_run(folder)
        config = folder / "config.yaml"
        old = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {}
        same = (old.get("text"), old.get("overrides")) == (search.text, search.overrides)
        if told.get("experiment") == "rank_search" and same:
            return
    raise FolderExistsError(str(folder))


def _results(
    table: Sequence[Row], chosen: Recommendation | None, found: Sequence[Outcome]
) -> dict[str, object]:
    best = None if chosen is None else {"row": chosen.row._asdict(), "reason": chosen.reason}
    each = [{**outcome._asdict(), "job": outcome.job.name} for outcome in found]
    return {"rows": [row._asdict() for row in table], "recommendation": best, "jobs": each}


def _write_csv(path: Path, table: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(table)


def _numbers(name: str, typed: str) -> list[int]:
    try:
        return [int(part) for part in _words(typed)]
    except ValueError:
        raise SettingError(name, typed, f"write whole numbers, such as {name} 8,16") from None


def _words(typed: str) -> list[str]:
    return [part.strip() for part in typed.split(",") if part.strip()]


def _command(search: Search) -> list[str]:
    named = [word for file in search.text for word in ("--text", file)]
    sets = ["--ranks", search.ranks, "--targets", search.targets, "--seeds", search.seeds]
    return ["t4dm", "study", "rank_search", *named, *sets, *search.overrides]


def _dated() -> Path:
    root = Path(os.environ.get("T4DM_OUTPUTS", "outputs"))
    return root / "study" / "rank_search" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
