"""Docs that run: every command that a page, a help text or a config shows is one that works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from t4dm import cli
from t4dm.apps import config_verbs
from t4dm.config import APPS, check, compose, config_dir

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^\s*(?:\$ )?((?:t4dm|make) [^#\n]*)", re.M)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
STUDIES = (["study", "block"], ["study", "retrieval"], ["study", "rank_search"])
PLACEHOLDER = re.compile(r"RUN|ITEM|<|\.\.\.")


def on_pages() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            if language not in ("bash", "sh", ""):
                continue
            yield from ((page.name, command.strip()) for command in COMMAND.findall(block))


def in_configs() -> Iterator[tuple[str, str]]:
    for name in config_verbs.names():
        text = (config_dir() / f"{name}.yaml").read_text(encoding="utf-8")
        for line in text.splitlines()[:3]:
            if line.startswith("#") and "   t4dm " in line:
                command = line.partition("   t4dm ")[2].partition("   ")[0]
                yield f"{name}.yaml", f"t4dm {command}"


def in_help() -> Iterator[tuple[str, str]]:
    for file in ("t4dm/cli.py", "t4dm/cli_store.py"):
        for example in re.findall(
            r"^\s+(?:Example|Sweep|Go on): (t4dm .*)$", (ROOT / file).read_text(), re.M
        ):
            yield "--help", example


SHOWN = sorted({*on_pages(), *in_configs(), *in_help()})


def overrides_of(arguments: list[str]) -> Iterator[str]:
    """One choice of each sweep; what a user fills in is left out."""
    skip = False
    for argument in arguments:
        if skip or argument in ("-m", "--multirun", "--config-dir"):
            skip = argument == "--config-dir"
            continue
        if argument.startswith("--") or PLACEHOLDER.search(argument):
            continue
        key, _, value = argument.partition("=")
        if key == "experiment" and f"experiment/{value}" not in config_verbs.names():
            continue  # the user's own
        swept = "," in value and not value.startswith(("[", "'", '"'))
        yield f"{key}={value.split(',')[0]}" if swept else argument


def test_there_is_something_to_check() -> None:
    assert {where for where, _ in SHOWN} >= {
        "README.md",
        "--help",
        "experiment/first_night.yaml",
        "train.yaml",
    }


@pytest.mark.parametrize(("where", "command"), SHOWN, ids=[f"{where}: {command}" for where, command in SHOWN])
def test_a_command_that_is_shown_works(where: str, command: str) -> None:
    first, *rest = shlex.split(command.split("&&")[-1].split("|")[0])
    if first == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
        assert rest[0] in targets
    elif rest[0] in APPS and rest[:2] not in STUDIES:
        cfg = compose(rest[0], [*overrides_of(rest[1:])])
        filled = {"run": "RUN", "runs": "RUN", "prompt": "p"}
        for key in filled.keys() & cfg.keys():
            cfg[key] = filled[key]
        check(cfg)
    else:
        help_text = CliRunner().invoke(cli.app, [*rest[: 1 if rest[0] == "doctor" else 2], "--help"])
        assert help_text.exit_code == 0, help_text.output


def examples(page: Path) -> Iterator[tuple[str, str]]:
    """Python blocks, and the `t4dm store` lines of shell blocks, in the order of the page."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            yield "python", block
        elif language == "bash":
            yield from (("t4dm", command) for command in COMMAND.findall(block) if "t4dm store" in command)


def test_every_example_of_the_store_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = {"python": 0, "t4dm": 0}
    for kind, text in examples(ROOT / "docs/t4dx.md"):
        if kind == "python":
            exec(compile(text, "docs/t4dx.md", "exec"), names)
        else:
            done = CliRunner().invoke(cli.app, shlex.split(text)[1:])
            assert done.exit_code == 0, f"{text}: {done.output} {done.exception}"
        ran[kind] += 1
    assert ran["python"] >= 7
    assert ran["t4dm"] >= 10


@pytest.mark.parametrize(("page", "least"), [("docs/spiking.md", 7), ("docs/backbone.md", 5)])
def test_every_python_example_of_a_page_runs(page: str, least: int) -> None:
    names: dict[str, object] = {}
    blocks = [text for kind, text in examples(ROOT / page) if kind == "python"]
    assert len(blocks) >= least
    for text in blocks:
        exec(compile(text, page, "exec"), names)


def test_the_example_of_the_recorder_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [text for kind, text in examples(ROOT / "docs/talking.md") if kind == "python"]
    assert len(blocks) == 1
    exec(compile(blocks[0], "docs/talking.md", "exec"), {})
    assert "torch.Size([1, " in capsys.readouterr().out


def test_the_modules_that_the_page_of_the_stack_names_are_there() -> None:
    page = (ROOT / "docs/spiking.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+\.py)`", page))
    assert len(named) >= 20
    there = {path.name for wing in ("spiking", "plasticity") for path in (ROOT / "t4dm" / wing).glob("*.py")}
    assert named <= there


def test_the_cheap_commands_of_the_readme_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = [
        command for where, command in SHOWN if where == "README.md" and command.startswith("t4dm configs ls")
    ]
    assert cheap
    for command in cheap:
        done = CliRunner().invoke(cli.app, shlex.split(command)[1:])
        assert done.exit_code == 0, done.output


def test_the_help_page_is_the_help() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_help import page  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    stored = (ROOT / "docs/help.md").read_text(encoding="utf-8")
    assert stored == page(), "the help has changed; run: .venv/bin/python docs/make_help.py"


def test_every_page_is_in_the_menu_and_every_link_leads_somewhere() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = {next(iter(entry.values())) for entry in menu}
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")}
    for page in [*PAGES, ROOT / "outputs/README.md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pages_name_no_path_of_a_machine() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    for name in listed.stdout.split() or [page.name for page in PAGES]:
        if name.endswith((".md", ".yaml", ".toml", ".cff")) and (ROOT / name).exists():
            text = (ROOT / name).read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", text), name
