"""`t4dm study block`: a run folder with a page, the same bytes for the same seed, a line for a mistake."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from t4dm.apps.study_block import study_block
from t4dm.apps.train import RunResult
from t4dm.errors import FolderExistsError, SeedOfARunError

Cli = Callable[..., tuple[int, str, str]]
TEXT = "Ann lives in Rome."


def test_the_verb_writes_a_run_folder_and_prints_the_path_of_the_page(t4dm: Cli) -> None:
    code, out, err = t4dm("study", "block", TEXT)
    assert (code, err) == (0, "")
    page = Path(out.strip())
    assert page.is_relative_to(Path(os.environ["T4DM_OUTPUTS"]) / "study" / "block")
    assert {path.name for path in page.parent.iterdir()} >= {
        "block.html",
        "inside.npz",
        "study.json",
        "run.json",
    }
    told = json.loads((page.parent / "run.json").read_text())
    assert told["command"] == ["t4dm", "study", "block", TEXT, "--seed", "1234"]
    assert (told["status"], told["seed"], told["app"]) == ("done", 1234, "study")
    html = page.read_text()
    assert "t4dm study block &#39;Ann lives in Rome.&#39; --seed 1234" in html
    assert f"<td>{told['versions']['torch']}</td>" in html
    code, listed, _ = t4dm("runs", "ls", "--root", page.parents[1])
    assert code == 0
    assert page.parent.name in listed


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    pages = [study_block(TEXT, seed=seed, out=tmp_path / f"{i}") for i, seed in enumerate((3, 3, 4))]
    one, again, other = (page.read_bytes() for page in pages)
    assert one == again
    arrays = [(page.parent / "inside.npz").read_bytes() for page in pages]
    assert arrays[0] == arrays[1]
    assert arrays[0] != arrays[2]
    assert one != other


def test_some_blocks_are_shown_and_a_wrong_choice_is_one_line(t4dm: Cli, tmp_path: Path) -> None:
    code, out, _ = t4dm("study", "block", TEXT, "--blocks", "1", "--out", tmp_path / "one")
    assert (code, out) == (0, f"{tmp_path / 'one' / 'block.html'}\n")
    html = (tmp_path / "one" / "block.html").read_text()
    assert '<section class="panel" id="block1">' in html
    assert '<section class="panel" id="block0">' not in html
    assert "--blocks 1 --seed 1234" in html
    for typed in ("2", "0,2", "a", "-1", "0,"):
        code, out, err = t4dm("study", "block", TEXT, f"--blocks={typed}", "--out", tmp_path / "two")
        assert (code, out) == (1, "")
        assert err == (f"t4dm: no blocks {typed!r}: the stack has 0 to 1; write for example: --blocks 0,1\n")
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], r"there is no text to read; put it in quotes: t4dm study block 'Ann lives in Rome\.'"),
        (
            ["a " * 700],
            r"the text has \d+ tokens and a study reads at most 512; cut it after its first \d+ char",
        ),
        (
            [TEXT, "--run", "nowhere"],
            r"nowhere is no run folder: it has no config.yaml; list them: t4dm runs ls",
        ),
        (
            [TEXT, "--run", "nowhere", "--seed", "1"],
            r"nowhere brings its own weights.*leave --seed out: t4dm st",
        ),
        (
            [TEXT, "--out", "taken"],
            r"taken exists and is not empty; name a new folder, or remove it: rm -r taken",
        ),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(
    t4dm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    code, out, err = t4dm("study", "block", *arguments)
    assert (code, out) == (1, "")
    assert re.match(f"t4dm: {said}", err), err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine"]


def test_a_folder_that_is_a_file_is_a_mistake_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderExistsError):
        study_block(TEXT, out=tmp_path / "file")


def test_a_trained_run_brings_its_own_weights(finished_run: RunResult, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")}
    page = study_block(TEXT, run=finished_run.folder, out=tmp_path / "out")
    html = page.read_text()
    assert "tiny as smoke trained it" in html
    assert "has not been trained" not in html
    assert '<section class="panel" id="block0">' in html
    told = json.loads((page.parent / "run.json").read_text())
    assert told["parent"] == str(finished_run.folder)
    assert told["command"][-2:] == ["--run", str(finished_run.folder)]
    assert {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")} == before
    with pytest.raises(SeedOfARunError):
        study_block(TEXT, run=finished_run.folder, seed=1, out=tmp_path / "again")


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    page = study_block("caf\udce9 \x00 \x1b[31m", out=tmp_path / "out")
    html = page.read_text(encoding="utf-8")
    assert "caf?" in html
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", html)


def test_study_without_a_verb_is_still_the_table_of_a_sweep(
    t4dm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "t4dm.apps.study", raising=False)  # the command runs it as a program
    code, _, err = t4dm("study", f"runs={tmp_path}")
    assert code == 1
    assert err.startswith(f"t4dm: no finished run with recall in its summary.json below {tmp_path}")
    code, _, err = t4dm("study")
    assert code == 1
    assert err == "t4dm: runs is not set; add runs=<value>\n"
    code, out, _ = t4dm("study", "--cfg", "job")
    assert code == 0
    assert "runs: ???" in out
