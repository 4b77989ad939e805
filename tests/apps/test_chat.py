"""`t4dm chat`: each turn shows what was recalled and written; commands, Ctrl-C and locks do what they say."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from t4dm.apps import finished
from t4dm.apps.chat import HELP, chat
from t4dm.apps.recall_text import ago
from t4dm.apps.train import RunResult
from t4dm.errors import FolderExistsError, NoStoreError, RunFolderError, StoreLockedError
from t4dm.model.sampling import Sampler
from t4dm.t4dx import T4DX, Filter

REAL = finished.load
Cli = Callable[..., tuple[int, str, str]]
FACT = "The color of Anna is red."


@pytest.fixture(autouse=True)
def _load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every conversation of this file loads the same run, and changes nothing of it."""
    monkeypatch.setattr(finished, "load", loaded)


@functools.cache
def _loaded(folder: Path) -> finished.Finished:
    return REAL(folder, changes={})


def loaded(folder: Path, *, changes: dict) -> finished.Finished:
    assert not changes
    return _loaded(folder)


def talk(run: RunResult, out: Path, *lines: str, **settings: object) -> list[dict]:
    """A conversation whose clock goes one minute a turn; what its transcript holds."""
    minutes = iter(range(1000))
    settings = {"sampler": Sampler(), "max_new_tokens": 4, "now": lambda: 60.0 * next(minutes)} | settings
    folder = chat(run.folder, out=out, lines=lines, **settings)
    return [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]


def stored(folder: Path) -> list[str]:
    with T4DX.open(folder / "store", read_only=True) as store:
        return [item.content for item in store.scan(Filter(session="chat"), order="event_time")]


def test_a_turn_recalls_what_an_earlier_one_wrote_and_shows_both(
    finished_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = talk(finished_run, tmp_path / "one", FACT, "What is the color of Anna?")
    said = capsys.readouterr().out
    assert first["recalled"] == []
    assert first["offered"][0]["text"] == FACT
    name = first["offered"][0]["id"]
    assert name is not None
    ages = {hit["id"]: hit["age"] for hit in second["recalled"]}
    assert ages[name] == pytest.approx(60.0, abs=1.0)
    assert f"  recalled {name[:8]}  1 min ago, score " in said
    assert f"  written  {name[:8]}  tau " in said
    assert FACT in stored(tmp_path / "one")
    with T4DX.open(tmp_path / "one" / "store", read_only=True) as store:
        assert store.get(name).access_count == 1


def test_the_conversation_goes_on_in_the_store_it_left(finished_run: RunResult, tmp_path: Path) -> None:
    told = talk(finished_run, tmp_path / "one", FACT)[0]["offered"][0]["id"]
    again = talk(finished_run, tmp_path / "two", "Anna?", store=str(tmp_path / "one" / "store"))
    assert told in [hit["id"] for hit in again[0]["recalled"]]
    stranger = talk(
        finished_run, tmp_path / "three", "Anna?", store=str(tmp_path / "one" / "store"), session="other"
    )
    assert stranger[0]["recalled"] == []


def test_without_write_nothing_is_kept(finished_run: RunResult, tmp_path: Path) -> None:
    row = talk(finished_run, tmp_path / "one", FACT, write=False)[0]
    assert row["offered"] == []
    assert stored(tmp_path / "one") == []
    row = talk(finished_run, tmp_path / "two", FACT)[0]
    assert [each["text"] for each in row["offered"]] == [FACT]
    row = talk(finished_run, tmp_path / "three", FACT, said=True)[0]
    assert len(row["offered"]) > 1


def test_the_commands(finished_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["/why", "/memory", FACT, "Anna?", "/why", "/memory", "/memory color", "/help", "/nix", "/forget"]
    rows = talk(finished_run, tmp_path / "one", *lines, "/quit", "never said")
    said = capsys.readouterr().out
    assert [row["line"] for row in rows] == [FACT, "Anna?"]
    assert "nothing was answered yet\n" in said
    assert "  nothing yet\n" in said
    assert HELP in said
    assert "no such command; see /help\n" in said
    assert "memories of this session begin with ''" not in said
    assert "no memory of this session begin with ''; see ids: /memory\n" in said
    name = rows[0]["offered"][0]["id"]
    assert f"  {name[:8]}  1 min ago, kappa 0.00: {FACT}\n" in said
    assert "head 0 reads '" in said
    why = said[said.index("head 0 reads") :].splitlines()[0]
    assert any(f" in {hit['id'][:8]}: {hit['text']}" in why for hit in rows[1]["recalled"])
    assert said.count("score") >= 2


def test_a_memory_is_forgotten_by_the_beginning_of_its_id(
    finished_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = talk(finished_run, tmp_path / "one", FACT)[0]["offered"][0]["id"]
    left = str(tmp_path / "one" / "store")
    before = len(stored(tmp_path / "one"))
    rows = talk(finished_run, tmp_path / "two", f"/forget {name[:12]}", "Anna?", store=left)
    assert f"  forgot {name[:8]}: {FACT}\n" in capsys.readouterr().out
    assert name not in [hit["id"] for hit in rows[0]["recalled"]]
    assert len([text for text in stored(tmp_path / "one") if text == FACT]) == 0
    assert before >= 1


def test_a_pipe_is_read_and_shown(
    t4dm: Cli, finished_run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{FACT}\n\n/memory"))
    code, out, err = t4dm("chat", finished_run.folder, "--out", tmp_path / "one", "--max-new-tokens", "2")
    assert (code, err) == (0, "")
    assert f"> {FACT}\n" in out
    assert "> /memory\n" in out
    assert out.endswith(f"chat: {tmp_path / 'one'}\n")
    told = json.loads((tmp_path / "one" / "run.json").read_text())
    assert (told["app"], told["status"], told["parent"]) == ("chat", "done", str(finished_run.folder))


def test_a_line_too_long_costs_one_line_and_the_talk_goes_on(
    finished_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = talk(finished_run, tmp_path / "one", "word " * 600, FACT)
    assert [row["line"] for row in rows] == [FACT]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("t4dm: ")]
    assert len(said) == 1
    assert "tokens and the model reads at most 512" in said[0]


def test_ctrl_c_stops_the_answer_and_the_store_stays_whole(finished_run: RunResult, tmp_path: Path) -> None:
    out = tmp_path / "one"
    typed = [sys.executable, "-m", "t4dm.cli", "chat", str(finished_run.folder), "--out", str(out)]
    talking = subprocess.Popen(
        [*typed, "--max-new-tokens", "450", "--stop", "never said", "--temperature", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert talking.stdin is not None
    assert talking.stdout is not None
    talking.stdin.write(f"{FACT}\n")
    talking.stdin.flush()
    while f"> {FACT}" not in talking.stdout.readline():
        pass
    talking.stdout.read(8)  # the answer has begun
    talking.send_signal(signal.SIGINT)
    said, err = talking.communicate("/memory\n", timeout=60)
    assert (talking.returncode, err) == (0, "")
    assert " [stopped]\n" in said
    row = json.loads((out / "transcript.jsonl").read_text())
    assert row["stopped"]
    assert 0 < len(row["answer"]) < 1000
    assert FACT in stored(out)
    with T4DX.open(out / "store") as store:
        store.verify("full")


def test_the_runs_own_store_is_written_to_only_when_named(finished_run: RunResult, tmp_path: Path) -> None:
    """On a copy of the run, since others read it."""
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    copied = finished_run._replace(folder=run)
    before = (run / "store", {p: p.stat().st_mtime_ns for p in (run / "store").rglob("*")})
    talk(copied, tmp_path / "one", FACT)
    assert {p: p.stat().st_mtime_ns for p in before[0].rglob("*")} == before[1]
    talk(copied, tmp_path / "two", FACT, store="run")
    assert not (tmp_path / "two" / "store").exists()
    assert FACT in stored(run)
    with T4DX.open(run / "store"), pytest.raises(StoreLockedError, match="is open for writing by"):
        talk(copied, tmp_path / "three", FACT, store="run")
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"store": "nowhere"}, NoStoreError), ({"out": "taken"}, FolderExistsError)],
)
def test_a_wrong_folder_is_a_mistake(
    finished_run: RunResult, tmp_path: Path, settings: dict, error: type[Exception]
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    out = tmp_path / str(settings.pop("out", "new"))
    with pytest.raises(error):
        talk(finished_run, out, FACT, **settings)


def test_no_run_and_a_setting_out_of_range_cost_one_line(t4dm: Cli, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError):
        chat(tmp_path, sampler=Sampler(), out=tmp_path / "new", lines=[])
    code, _, err = t4dm("chat", tmp_path, "--temperature", "-1")
    assert (code, err) == (
        1,
        "t4dm: temperature=-1.0 does not work; 0 takes the most likely token: temperature=0\n",
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s ago"), (59.0, "59 s ago"), (60.0, "1 min ago"), (7300.0, "2 h ago"), (172800.0, "2 d ago")],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert ago(seconds) == text
