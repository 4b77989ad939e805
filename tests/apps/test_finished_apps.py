"""What can be done with a finished run: evaluate, generate, sleep, study. The run itself stays as it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from t4dm.apps import finished
from t4dm.apps.evaluate import evaluate
from t4dm.apps.generate import _latest_event, generate
from t4dm.apps.sleep import sleep
from t4dm.apps.study import gather, over_seeds, study
from t4dm.apps.train import RunResult
from t4dm.config import compose
from t4dm.errors import NoRunsError, NothingToSleepOnError, RunFolderError
from t4dm.persistence.bundle import load_bundle
from t4dm.t4dx import T4DX, Item


@pytest.fixture
def run(finished_run: RunResult) -> Iterator[Path]:
    """The run; checked to be untouched afterwards."""

    def stamp() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*") if path.is_file()}

    before = stamp()
    yield finished_run.folder
    assert stamp() == before


def test_a_finished_run_is_loaded_with_what_it_learnt(run: Path) -> None:
    trained = finished.load(run, changes={})
    learnt = load_bundle(trained.bundle.path).tensors
    own = trained.parts.model.state_dict()
    assert learnt
    assert all(own[name].equal(tensor) for name, tensor in learnt.items())
    assert trained.parts.writer.gate.state_dict()["seen"] > 0


def test_evaluate_sits_the_exam_again(run: Path, tmp_path: Path) -> None:
    asked = ["exam.recall.episodes=2", "+exam.recall.task.distances=[1]", "exam.arms=[frozen,memory]"]
    told = evaluate(compose("evaluate", [f"run='{run}'", *asked], output=tmp_path / "again"))
    assert {arm: set(row) for arm, row in told["recall"].items()} == {"frozen": {"1"}, "memory": {"1"}}
    assert told["recall"]["memory"]["1"]["n"] == 2
    assert json.loads((tmp_path / "again/summary.json").read_text())["recall"] == told["recall"]


def test_generate_continues_the_prompt_the_same_way_each_time(run: Path, tmp_path: Path) -> None:
    typed = [f"run='{run}'", "prompt='The color'", "max_new_tokens=3"]
    first = generate(compose("generate", typed, output=tmp_path / "one"))
    second = generate(compose("generate", typed, output=tmp_path / "two"))
    assert first == second
    assert first.startswith("The color")
    assert (tmp_path / "one/generated.txt").read_text() == first + "\n"


def test_sleep_leaves_a_rested_copy(run: Path, tmp_path: Path) -> None:
    report = sleep(compose("sleep", [f"run='{run}'"], output=tmp_path / "night"))
    with T4DX.open(str(tmp_path / "night/store"), dim=None, read_only=True) as store:
        assert store.count() == report.after.items
    line = json.loads((tmp_path / "night/nights.jsonl").read_text())
    assert line["night"] == 1
    assert line["replayed"] == report.replayed > 0


def test_sleep_without_phases_is_a_mistake(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToSleepOnError, match="sleep=nightly"):
        sleep(compose("sleep", [f"run='{run}'", "sleep=none"], output=tmp_path / "night"))


@pytest.mark.parametrize("app", [evaluate, generate, sleep])
def test_a_folder_without_a_run_is_a_mistake(tmp_path: Path, app: object) -> None:
    name = app.__name__  # type: ignore[attr-defined]
    extra = ["prompt=a"] if name == "generate" else []
    with pytest.raises(RunFolderError, match=r"config\.yaml; list them: t4dm runs ls"):
        app(compose(name, [f"run='{tmp_path}'", *extra], output=tmp_path / "new"))  # type: ignore[operator]


def summarised(folder: Path, *, overrides: list[str], seed: int, right: float) -> None:
    folder.mkdir(parents=True)
    told = {
        "experiment": "e",
        "seed": seed,
        "chance": 0.25,
        "recall": {"memory": {"1": {"mean": right, "ci": [0.0, 1.0], "n": 8}}},
    }
    (folder / "summary.json").write_text(json.dumps(told))
    (folder / "overrides.yaml").write_text(yaml.safe_dump([*overrides, f"seed={seed}"]))


def test_study_gathers_by_what_was_typed_but_the_seed(tmp_path: Path) -> None:
    for seed, right in ((1, 0.5), (2, 0.75), (3, 1.0)):
        summarised(tmp_path / f"runs/{seed}", overrides=["ablation=none"], seed=seed, right=right)
    summarised(tmp_path / "runs/4", overrides=["ablation=no_memory"], seed=1, right=0.25)
    (tmp_path / "runs/5").mkdir()
    results = study(compose("study", [f"runs='{tmp_path / 'runs'}'"], output=tmp_path / "out"))
    assert list(results) == ["ablation=no_memory", "ablation=none"]
    whole = results["ablation=none"]
    assert whole["seeds"] == [1, 2, 3]
    # sd 0.25, t(0.975, 2) = 4.3027: half width 4.3027 * 0.25 / sqrt(3) = 0.6210, cut at 1
    assert whole["recall"]["memory"]["1"]["mean"] == pytest.approx(0.75)
    assert whole["recall"]["memory"]["1"]["ci"] == pytest.approx([0.1290, 1.0], abs=1e-4)
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["what"], row["runs"], row["questions"]) for row in rows] == [
        ("ablation=no_memory", "1", "8"),
        ("ablation=none", "3", "24"),
    ]


def test_study_takes_a_real_run(run: Path) -> None:
    result = over_seeds(next(iter(gather(run).values())))
    assert set(result["recall"]) >= {"memory", "shuffled"}


def test_study_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(NoRunsError, match=r"^no finished run .* below .*t4dm train experiment=first_night$"):
        gather(tmp_path)


def test_ages_count_from_the_latest_event(tmp_path: Path) -> None:
    """At time 0 every age would be 0, and nothing would tell an update from what it superseded."""
    with T4DX.open(tmp_path / "store", dim=2, clock=lambda: 0.0) as store:
        assert _latest_event(store) == 0.0
        for name, time in (("old", 60.0), ("new", 180.0)):
            store.insert(Item(id=name, content=name, event_time=time))
        assert _latest_event(store) == 180.0
    assert _latest_event(None) == 0.0
