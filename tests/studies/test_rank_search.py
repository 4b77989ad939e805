"""A search for a LoRA rank: its jobs, their figures, what is recommended, and the command."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from t4dm.apps.study_rank_search import JOBS, study_rank_search
from t4dm.errors import (
    BrokenRunFileError,
    FolderExistsError,
    NoTextForSearchError,
    SearchJobError,
    SettingError,
)
from t4dm.studies.rank_search import Job, Outcome, jobs, read_outcome, recommend, rows

FAST = [
    *("debug=fast", "exam.recall.episodes=2", "sleep=none", "storage=ram", "data.recall.lanes=2"),
    *("+data.text.batch_size=2", "trainer.limit_train_batches=2", "trainer.limit_val_batches=2"),
]


def outcome(rank: int, targets: str, *, perplexity: float, recall: float, seed: int = 1) -> Outcome:
    parameters = rank * {"qv": 100, "all": 700}[targets]
    return Outcome(Job(rank, targets, seed), parameters, perplexity, recall, 500.0, 60.0, 1000.0)


def test_every_combination_is_a_job_and_small_ranks_come_first() -> None:
    made = jobs(ranks=[64, 8, 8], targets=["all", "qv"], seeds=[2, 1])
    assert [job.name for job in made] == [
        *("r8-all-s2", "r8-qv-s2", "r64-all-s2", "r64-qv-s2"),
        *("r8-all-s1", "r8-qv-s1", "r64-all-s1", "r64-qv-s1"),
    ]
    assert made[1].overrides() == ["model.lora.rank=8", "model.lora.targets=[q_proj,v_proj]", "seed=2"]


def test_means_and_errors_are_taken_over_the_seeds() -> None:
    found = [outcome(8, "qv", perplexity=p, recall=r, seed=s) for s, p, r in ((1, 10.0, 0.5), (2, 14.0, 0.7))]
    (row,) = rows(found)
    assert (row.rank, row.targets, row.seeds, row.parameters) == (8, "qv", 2, 800)
    assert (row.perplexity, row.perplexity_error) == (12.0, pytest.approx(2.0))
    assert (row.recall, row.recall_error) == (pytest.approx(0.6), pytest.approx(0.1))
    assert math.isnan(rows(found[:1])[0].perplexity_error)


def test_the_fewest_parameters_that_are_as_good_as_the_best_are_recommended() -> None:
    found = rows(
        [
            outcome(8, "qv", perplexity=10.2, recall=0.9),
            outcome(16, "qv", perplexity=10.04, recall=0.89),
            outcome(64, "qv", perplexity=10.0, recall=0.9),
            outcome(64, "all", perplexity=10.01, recall=0.8),
        ]
    )
    chosen = recommend(found)
    assert chosen is not None
    assert (chosen.row.rank, chosen.row.targets) == (16, "qv")
    assert "at most 10.05 (best 10) and a recall of at least 88.0% (best 90.0%)" in chosen.reason


def test_where_no_row_has_both_the_perplexity_decides_and_it_is_said() -> None:
    found = rows(
        [outcome(8, "qv", perplexity=12.0, recall=0.9), outcome(64, "qv", perplexity=9.0, recall=0.2)]
    )
    chosen = recommend(found)
    assert chosen is not None
    assert chosen.row.rank == 64
    assert chosen.reason.startswith("no row has both")
    assert chosen.reason.endswith("the best recall is 90.0% at rank 8 on qv")
    assert recommend([]) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ranks": "0"}, "--ranks=0 does not work; write ranks from 1 on"),
        ({"ranks": "eight"}, "--ranks=eight does not work; write whole numbers"),
        ({"targets": "qkv"}, "--targets=qkv does not work; choose from qv, attention, all"),
    ],
)
def test_a_wrong_word_is_one_line(tmp_path: Path, options: dict[str, str], said: str) -> None:
    text = tmp_path / "book.txt"
    text.write_text("words")
    with pytest.raises(SettingError, match=said):
        study_rank_search(text=[text], out=tmp_path / "out", **options)


def test_a_search_without_a_text_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(NoTextForSearchError, match="needs a text; name one: t4dm study rank_search --text"):
        study_rank_search(text=[])
    with pytest.raises(NoTextForSearchError, match=r"there is no text file .*gone\.txt"):
        study_rank_search(text=[tmp_path / "gone.txt"])


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A search of two ranks whose trainings really run, each in a process of its own: text, folder."""
    root = tmp_path_factory.mktemp("search")
    text = root / "book.txt"
    text.write_text(
        "\n\n".join(f"Once there was a king of {n} castles, and he was content." for n in range(200))
    )
    study_rank_search(text=[text], ranks="2,4", targets="qv", seeds="3", overrides=FAST, out=root / "out")
    return text, root / "out"


def test_each_training_leaves_its_figures(search: tuple[Path, Path]) -> None:
    found = [read_outcome(search[1] / JOBS / f"r{rank}-qv-s3", Job(rank, "qv", 3)) for rank in (2, 4)]
    small, large = found
    assert small is not None
    assert large is not None
    assert large.parameters == 2 * small.parameters == 4 * 4 * (2 * 128 + 128 + 64)
    for one in (small, large):
        assert 1.0 < one.perplexity < 1e5
        assert 0.0 <= one.recall <= 1.0
        assert one.memory_mib > 100
        assert one.tokens_per_s > 0


def test_the_table_the_results_and_the_page_say_the_same(search: tuple[Path, Path]) -> None:
    _, folder = search
    results = json.loads((folder / "results.json").read_text())
    with (folder / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["rank"]) for line in lines] == [2, 4] == [row["rank"] for row in results["rows"]]
    assert float(lines[0]["perplexity"]) == results["rows"][0]["perplexity"]
    page = (folder / "rank_search.html").read_text()
    assert f"Take rank {results['recommendation']['row']['rank']} on qv" in page
    assert page.count('class="chart"') == 2
    assert "One seed tells nothing of the spread" in page


def test_a_search_goes_on_from_what_is_finished(search: tuple[Path, Path]) -> None:
    text, folder = search
    kept = (folder / JOBS / "r2-qv-s3" / "run.json").stat().st_mtime_ns
    broken = folder / JOBS / "r4-qv-s3" / "run.json"
    told = json.loads(broken.read_text())
    broken.write_text(json.dumps({**told, "status": "interrupted"}))
    asked: list[list[str]] = []

    def train(words: list[str]) -> int:
        asked.append(words)
        return subprocess.run(
            [sys.executable, "-m", "t4dm.apps.train", *words], stdout=subprocess.DEVNULL
        ).returncode

    options = {
        "text": [text],
        "ranks": "2,4",
        "targets": "qv",
        "seeds": "3",
        "overrides": FAST,
        "out": folder,
    }
    study_rank_search(**options, train=train)
    assert [[word for word in words if word.startswith("model.lora.rank")] for words in asked] == [
        ["model.lora.rank=4"]
    ]
    assert (folder / JOBS / "r2-qv-s3" / "run.json").stat().st_mtime_ns == kept
    with pytest.raises(FolderExistsError):
        study_rank_search(**{**options, "overrides": ["trainer.max_epochs=1"]}, train=train)
    assert len(asked) == 1


def test_a_training_that_fails_is_named_and_the_folder_goes_on(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("words")
    with pytest.raises(SearchJobError, match=r"the training r8-qv-s1 failed with exit code 3: .*--out"):
        study_rank_search(
            text=[text], ranks="8", targets="qv", seeds="1", out=tmp_path / "o", train=lambda _: 3
        )
    told = json.loads((tmp_path / "o" / "run.json").read_text())
    assert told["status"] == "failed"
    with pytest.raises(SearchJobError, match="left no figures"):
        study_rank_search(
            text=[text], ranks="8", targets="qv", seeds="1", out=tmp_path / "o", train=lambda _: 0
        )


def test_figures_that_are_damaged_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "r8-qv-s1"
    folder.mkdir()
    assert read_outcome(folder, Job(8, "qv", 1)) is None
    (folder / "run.json").write_text('{"status": "done"}')
    (folder / "summary.json").write_text('{"losses": {}}')
    with pytest.raises(BrokenRunFileError, match="its figures cannot be read"):
        read_outcome(folder, Job(8, "qv", 1))
