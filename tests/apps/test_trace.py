"""`t4dm trace`: a run folder with a whole trace and a page that shows it; a line for a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t4dm.apps.train import RunResult
from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.trace_page import write_trace_page

Cli = Callable[..., tuple[int, str, str]]
TEXT = " What is the color of Anna?"
PANELS = ("output", "memory", "lens", "streams", "blocks", "run")


@pytest.fixture(scope="module")
def traced(finished_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trace of a trained run. Read it, do not write into it."""
    from t4dm.apps.trace import trace_run

    before = {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")}
    page = trace_run(
        finished_run.folder, TEXT, max_new_tokens=3, out=tmp_path_factory.mktemp("traces") / "one"
    )
    assert {path: path.stat().st_mtime_ns for path in finished_run.folder.rglob("*")} == before
    return page


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("trace.npz", "trace.json", "run.json", "study.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


def test_the_folder_is_a_run_with_files_and_page(traced: Path, finished_run: RunResult) -> None:
    told = json.loads((traced.parent / "run.json").read_text())
    assert (told["app"], told["status"], told["parent"]) == ("trace", "done", str(finished_run.folder))
    assert told["command"] == ["t4dm", "trace", str(finished_run.folder), TEXT]
    assert json.loads((traced.parent / "trace.json").read_text())["text"] == TEXT
    assert not (traced.parent / "store").exists()


def test_the_page_shows_every_part_and_needs_no_network(traced: Path) -> None:
    html = traced.read_text(encoding="utf-8")
    for panel in PANELS:
        assert f'<section class="panel" id="{panel}">' in html
    assert "tiny as smoke trained it" in html
    assert re.findall(r"<td>(embedding|layer \d|stack)</td>", html) == [
        *("embedding", "layer 0", "layer 1", "stack", "layer 2", "layer 3")
    ]
    assert "share of the LoRA of self_attn.q_proj" in html
    assert "Spikes of the output neurons" in html
    assert html.count("<mask") == 3
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert 'class="missing"' not in html
    assert "Not recorded" not in html


def test_the_same_files_give_the_same_page(traced: Path, tmp_path: Path) -> None:
    assert write_trace_page(copied(traced.parent, tmp_path / "a")).read_bytes() == traced.read_bytes()


def test_what_did_not_fit_is_named_and_the_page_is_written(traced: Path, tmp_path: Path) -> None:
    folder = copied(traced.parent, tmp_path / "a")
    told = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps({**told, "dropped": ["layer1.stream"], "operations": []}))
    np.savez(folder / "trace.npz")
    html = write_trace_page(folder).read_text(encoding="utf-8")
    assert "(--budget): layer1.stream." in html
    assert html.count('class="missing"') >= 4
    for panel in PANELS:
        assert f'<section class="panel" id="{panel}">' in html


def test_a_folder_without_a_whole_trace_is_a_mistake(traced: Path, tmp_path: Path) -> None:
    folder = copied(traced.parent, tmp_path / "a")
    (folder / "trace.json").unlink()
    with pytest.raises(RunFolderError, match=r"it has no trace\.json"):
        write_trace_page(folder)
    folder = copied(traced.parent, tmp_path / "b")
    (folder / "trace.npz").write_bytes((folder / "trace.npz").read_bytes()[:1000])
    with pytest.raises(BrokenRunFileError, match=r"trace\.npz is broken"):
        write_trace_page(folder)


def test_a_text_with_marks_and_control_characters_is_shown_safely(traced: Path, tmp_path: Path) -> None:
    folder = copied(traced.parent, tmp_path / "a")
    told = json.loads((folder / "trace.json").read_text())
    evil = "<script>alert(1)</script>\x1b[31m\x00"
    (folder / "trace.json").write_text(json.dumps({**told, "text": evil, "answer": evil}))
    html = write_trace_page(folder).read_text(encoding="utf-8")
    assert "<script>" not in html
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", html)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", TEXT], "nowhere is no run folder: it has no config.yaml; list them: t4dm runs ls"),
        (
            ["RUN", " "],
            "the prompt is empty; put a text in quotes: t4dm generate run=RUN prompt='Ann lives in'",
        ),
        (["RUN", TEXT, "--position", "99"], "the prompt has 7 tokens, numbered from 0, so none at 99;"),
        (["RUN", TEXT, "--max-new-tokens", "0"], "max_new_tokens=0 does not work; 1 or more"),
        (["RUN", TEXT, "--budget", "0"], "budget=0.0 does not work; a number of MiB above 0: --budget 256"),
        (["RUN", TEXT, "--out", "taken"], "taken exists and is not empty; name a new folder"),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(
    t4dm: Cli,
    finished_run: RunResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    typed = [str(finished_run.folder) if word == "RUN" else word for word in arguments]
    code, out, err = t4dm("trace", *typed)
    assert (code, out) == (1, "")
    assert err.startswith(f"t4dm: {said}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine"]
