"""The page of metrics lists what a run logs, each with its unit, and nothing else."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from t4dm.apps.train import RunResult
from t4dm.training.surrogate_phase import SurrogatePhase

PAGE = Path(__file__).resolve().parents[2] / "docs/training.md"
ROW = re.compile(r"^\| `([a-z_]+/\w+)` \| ([^|]+) \| [^|]+ \|$", re.M)
OPTIONAL = {"train/reconstruction_error"}  # with a weight above 0


def listed() -> dict[str, str]:
    return {one(name): unit.strip() for name, unit in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def one(name: str) -> str:
    """Columns that there are one of for each block or distance are listed once."""
    return re.sub(r"(block|accuracy_)\d+", r"\g<1>N", name)


def test_the_page_lists_the_columns_of_a_run(finished_run: RunResult) -> None:
    with (finished_run.folder / "metrics.csv").open(newline="") as file:
        logged = {one(name) for name in next(csv.reader(file))} - {"epoch", "step"}
    assert set(listed()) == logged | OPTIONAL


def test_what_is_optional_is_logged_where_it_is_chosen(make_world) -> None:
    world = make_world()
    plain, more = (
        {*SurrogatePhase(model=world.model, reconstruction_weight=weight).step_metrics}
        for weight in (0.0, 0.1)
    )
    assert more - plain == OPTIONAL


def test_each_has_a_unit_and_a_name_that_ends_in_a_unit_agrees_with_it() -> None:
    units = listed()
    assert all(units.values())
    for ending, unit in {
        "_mib": "MiB",
        "_gib": "GiB",
        "/seconds": "seconds",
        "_items": "items",
        "_per_s": "tokens a second",
        "accuracy": "share",
        "/loss": "nats",
    }.items():
        named = [name for name in units if name.endswith(ending)]
        assert named
        assert all(units[name].startswith(unit) for name in named), ending
