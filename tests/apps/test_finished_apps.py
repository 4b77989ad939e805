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
from t4dm.apps.generate import generate
from t4dm.apps.run_store import latest_event
from t4dm.apps.sleep import sleep
from t4dm.apps.study import gather, over_seeds, study
from t4dm.apps.train import RunResult
from t4dm.config import compose
from t4dm.errors import (
    NoPromptError,
    NoRunsError,
    NoStoreError,
    NothingToSleepOnError,
    PromptTooLongError,
    RunFolderError,
    SettingError,
    StoreDimensionError,
    StoreLockedError,
)
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


def test_ages_count_from_thelatest_event(tmp_path: Path) -> None:
    """At time 0 every age would be 0, and nothing would tell an update from what it superseded."""
    with T4DX.open(tmp_path / "store", dim=2, clock=lambda: 0.0) as store:
        assert latest_event(store) == 0.0
        for name, time in (("old", 60.0), ("new", 180.0)):
            store.insert(Item(id=name, content=name, event_time=time))
        assert latest_event(store) == 180.0
    assert latest_event(None) == 0.0


def told(folder: Path) -> list[dict]:
    return json.loads((folder / "generated.json").read_text())


def test_several_prompts_are_continued_as_each_alone(run: Path, tmp_path: Path) -> None:
    typed = [f"run='{run}'", "max_new_tokens=4"]
    both = generate(compose("generate", [*typed, "prompt=[' The color', ' Ben']"], output=tmp_path / "both"))
    alone = [
        generate(compose("generate", [*typed, f"prompt='{p}'"], output=tmp_path / p))
        for p in (" The color", " Ben")
    ]
    assert both == "\n".join(alone)
    assert [row["prompt"] for row in told(tmp_path / "both")] == [" The color", " Ben"]
    assert told(tmp_path / "both")[0]["searches"] == told(tmp_path / " The color")[0]["searches"]


def test_generate_writes_to_the_copy_only_when_asked(run: Path, tmp_path: Path) -> None:
    typed = [f"run='{run}'", "prompt=' The color of Anna is red. The food of Anna is'", "max_new_tokens=2"]
    generate(compose("generate", typed, output=tmp_path / "one"))
    generate(compose("generate", [*typed, "write=true"], output=tmp_path / "two"))
    counts = []
    for name in ("one", "two"):
        with T4DX.open(tmp_path / name / "store", read_only=True) as store:
            counts.append(store.count())
    offered = told(tmp_path / "two")[0]["offered"]
    kept = [each for each in offered if each["id"] is not None]
    assert told(tmp_path / "one")[0]["offered"] == []
    assert offered[0]["text"] == "The color of Anna is red."
    assert counts[1] == counts[0] + len(kept)
    with T4DX.open(tmp_path / "two" / "store", read_only=True) as store:
        newest = latest_event(store)
        assert all(store.get(each["id"]).content == each["text"] for each in kept)
    with T4DX.open(tmp_path / "one" / "store", read_only=True) as store:
        assert not kept or newest > latest_event(store)


def test_generate_goes_on_with_the_store_that_another_command_left(run: Path, tmp_path: Path) -> None:
    typed = [f"run='{run}'", "prompt=' Anna'", "max_new_tokens=1"]
    generate(compose("generate", typed, output=tmp_path / "one"))
    left = tmp_path / "one" / "store"
    generate(compose("generate", [*typed, f"store='{left}'"], output=tmp_path / "two"))
    assert not (tmp_path / "two" / "store").exists()
    with T4DX.open(left), pytest.raises(StoreLockedError, match="open for writing by"):
        generate(compose("generate", [*typed, f"store='{left}'"], output=tmp_path / "three"))
    with pytest.raises(NoStoreError, match="store=copy"):
        generate(compose("generate", [*typed, f"store='{tmp_path}/none'"], output=tmp_path / "four"))
    with T4DX.open(tmp_path / "other", dim=2, clock=lambda: 0.0):
        pass
    with pytest.raises(StoreDimensionError, match="holds vectors of size 2"):
        generate(compose("generate", [*typed, f"store='{tmp_path}/other'"], output=tmp_path / "five"))


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (["prompt=''"], NoPromptError),
        (["prompt=[a, '']"], NoPromptError),
        (["prompt=a", "temperature=-0.1"], SettingError),
        (["prompt=a", "top_p=1.5"], SettingError),
        (["prompt=a", "max_new_tokens=0"], SettingError),
        ([f"prompt='{'word ' * 600}'"], PromptTooLongError),
    ],
)
def test_a_wrong_prompt_or_setting_of_generate(
    run: Path, tmp_path: Path, typed: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        generate(compose("generate", [f"run='{run}'", *typed], output=tmp_path / "new"))
