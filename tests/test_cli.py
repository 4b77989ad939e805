"""The `t4dm` command: it answers at once, every verb shows an example, a mistake costs one line."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from t4dm import cli
from t4dm.apps.train import RunResult
from t4dm.config import config_dir
from t4dm.t4dx import T4DX, Edge, Item

VERBS = [
    *(["train"], ["evaluate"], ["generate"], ["sleep"], ["study"], ["doctor"]),
    ["study", "block"],
    ["study", "retrieval"],
    *(["configs", verb] for verb in ("ls", "show", "check", "copy")),
    *(["runs", verb] for verb in ("ls", "show", "diff", "report")),
    *(["store", verb] for verb in ("stats", "get", "scan", "search", "timeline", "verify", "repair")),
    *(["store", verb] for verb in ("backup", "restore", "export", "import", "compact")),
]
Cli = Callable[..., tuple[int, str, str]]
WIDE = {"COLUMNS": "200", "NO_COLOR": "1"}

RUNS_TWICE = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
"""An app that a test has imported is run as __main__ beside it; in a process of its own it never is."""


def plain_text(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['t4dm', '--help']\n"
        "from t4dm import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'lightning', 'hydra', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "heavy: []" in done.stdout
    assert "t4dm train experiment=first_night" in done.stdout
    # seconds of processor time, which other work on the machine does not stretch
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_shows_an_example(verb: list[str]) -> None:
    shown = CliRunner().invoke(cli.app, [*verb, "--help"], env=WIDE)
    assert shown.exit_code == 0
    assert f"Example: t4dm {' '.join(verb)}" in plain_text(shown.output)


def test_configs_ls_lists_a_group_with_its_questions(t4dm: Cli) -> None:
    code, out, _ = t4dm("configs", "ls", "experiment")
    assert code == 0
    assert re.search(r"^experiment/first_night +Does recall beyond the window work", out, re.M)
    assert "ablation/" not in out


def test_configs_ls_of_an_unknown_group_names_the_groups(t4dm: Cli) -> None:
    code, _, err = t4dm("configs", "ls", "experiments")
    assert code == 1
    assert err.startswith("t4dm: no config 'experiments'; choose one of: ablation, callbacks")
    assert err.count("\n") == 1


def test_configs_show_prints_a_file_or_a_composed_config(t4dm: Cli) -> None:
    _, file, _ = t4dm("configs", "show", "sleep/none")
    assert file == (config_dir() / "sleep/none.yaml").read_text()
    _, composed, _ = t4dm("configs", "show", "train", "experiment=smoke", "seed=7")
    assert "name: smoke\nseed: 7\n" in composed


def test_configs_check_tells_all_errors_with_their_paths(t4dm: Cli) -> None:
    code, _, err = t4dm("configs", "check", "+model.stack.blokcs=2", "+data.task.fact=3", "seed=???")
    assert code == 1
    assert "problems in the config" in err
    assert re.search(
        r"model\.stack\.blokcs: CorticalStack has no argument 'blokcs'; did you mean blocks\?", err
    )
    assert re.search(r"data\.task\.fact: RecallTask has no argument 'fact'; did you mean facts\?", err)
    assert "seed is not set" in err


def test_configs_check_of_everything_fits(t4dm: Cli) -> None:
    code, out, err = t4dm("configs", "check")
    assert (code, err) == (0, "")
    assert "train experiment=first_night: fits" in out


def test_copied_configs_are_used_with_config_dir(t4dm: Cli, tmp_path: Path) -> None:
    code, out, _ = t4dm("configs", "copy", tmp_path / "mine")
    assert code == 0
    assert f"t4dm train --config-dir {tmp_path / 'mine'}" in out
    assert (tmp_path / "mine/experiment/first_night.yaml").is_file()
    code, _, err = t4dm("configs", "copy", tmp_path / "mine")
    assert code == 1
    assert err.startswith(f"t4dm: {tmp_path / 'mine'} exists and is not empty; name a new folder")
    assert err.count("\n") == 1


def test_runs_can_be_listed_shown_and_compared(t4dm: Cli, finished_run: RunResult) -> None:
    folder = finished_run.folder
    code, out, _ = t4dm("runs", "ls", "--root", folder.parent)
    assert code == 0
    assert "done" in out
    code, out, _ = t4dm("runs", "show", folder)
    assert code == 0
    assert "1234" in out
    assert f"{folder / 'report.html'}" in out
    assert "shuffled" in out
    code, out, _ = t4dm("runs", "diff", folder, folder)
    assert code == 0
    assert "the same settings and results" in out


def test_runs_ls_of_nothing_says_how_to_start_one(t4dm: Cli, tmp_path: Path) -> None:
    for root in (tmp_path / "none", tmp_path):
        code, _, err = t4dm("runs", "ls", "--root", root)
        assert code == 1
        assert err == f"t4dm: no run below {root}; start one: t4dm train experiment=first_night\n"


@pytest.mark.parametrize("verb", ["show", "report"])
def test_a_folder_that_is_no_run_is_one_line(t4dm: Cli, tmp_path: Path, verb: str) -> None:
    code, _, err = t4dm("runs", verb, tmp_path)
    assert code == 1
    assert "is no run folder" in err
    assert err.count("\n") == 1


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with T4DX.open(str(path), dim=2, clock=lambda: 5.0) as opened:
        opened.insert(Item(id="a", content="Ann is red", session="s"))
        opened.insert(
            Item(id="b", content="Bob is blue", type="semantic"), [Edge("b", "a", "MERGED_FROM", 0.25)]
        )
    return path


def test_a_store_can_be_looked_into(t4dm: Cli, store: Path) -> None:
    _, out, _ = t4dm("store", "stats", store)
    assert re.search(r"^items +2$", out, re.M)
    assert re.search(r"^edges +1$", out, re.M)
    _, out, _ = t4dm("store", "scan", store, "--type", "semantic")
    assert "Bob is blue" in out
    assert "Ann is red" not in out
    _, out, _ = t4dm("store", "get", store, "a")
    assert '"content": "Ann is red"' in out
    assert "b -MERGED_FROM-> a (0.25)" in out


def test_an_unknown_item_or_store_is_one_line(t4dm: Cli, store: Path) -> None:
    code, _, err = t4dm("store", "get", store, "c")
    assert code == 1
    assert err == f"t4dm: no item 'c' in {store}; list ids: t4dm store scan {store}\n"
    for path, fix in {
        store / "none": "list the runs, each has its own in store: t4dm runs ls",
        store.parent: f"there is one in it: t4dm store stats {store}",
    }.items():
        code, _, err = t4dm("store", "stats", path)
        assert code == 1
        assert err == f"t4dm: no store at {path}; {fix}\n"
    assert not (store / "none").exists()


@RUNS_TWICE
def test_hydra_verbs_run_their_app_as_main(t4dm: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = t4dm("train", "experment=smoke")
    assert code == 1
    assert err == "t4dm: no setting 'experment' in train; did you mean experiment=<value>?\n"


def test_configs_check_tells_what_does_not_compose_beside_what_does_not_fit(t4dm: Cli) -> None:
    code, _, err = t4dm("configs", "check", "nope=3", "seed=abc", "trainer.max_epochs=x", "+lr=3")
    assert code == 1
    assert "no setting 'nope' in train" in err
    assert err.count("seed='abc' is no int; set seed=<int>") == 1  # four places refer to it
    assert "trainer.max_epochs='x' is no int or null; set trainer.max_epochs=<int or null>" in err
    assert "lr: nothing reads it; did you mean logger?" in err


def test_a_listing_in_a_pipe_keeps_paths_whole(
    t4dm: Cli, finished_run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = tmp_path / ("a_folder_with_a_long_name_" * 5) / "run"
    far.parent.mkdir()
    shutil.copytree(finished_run.folder, far)
    monkeypatch.setenv("COLUMNS", "80")
    assert str(far) in t4dm("runs", "ls", "--root", str(far.parent))[1]
