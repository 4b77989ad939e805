"""The README's section "How to go on", typed from its first line to its last, each cut to a few steps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
README = Path(__file__).resolve().parents[2] / "README.md"
CUT = ["debug=fast", "model.stack.width=32", "model.stack.blocks=1"]
"""What makes a training last a second or two; the rest is what the README says."""
SHIPPED = ["model/backbone=tiny", "model.memory_lm.insert_at=2", "trainer=cpu"]

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


def shown() -> list[list[str]]:
    section = README.read_text(encoding="utf-8").partition("## How to go on")[2].partition("\n## ")[0]
    block = re.search(r"^```bash\n(.*?)^```", section, re.M | re.S)
    assert block
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


def newest_run(root: Path) -> Path:
    return max((root / "outputs/train").rglob("run.json"), key=lambda path: path.stat().st_mtime).parent


def small(command: list[str]) -> list[str]:
    """The command with what cuts it short; a model from the hub is replaced by the shipped one."""
    if command[0] != "train" or "resume=RUN" in command:
        return command
    exam = [] if "data=text" in command else ["exam.recall.episodes=2"]
    shipped = SHIPPED if "experiment=recall_qwen05b" in command else []
    return [*command, *CUT, *exam, *shipped]


def test_the_commands_of_the_readme_run_one_after_the_other(
    t4dm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T4DM_OUTPUTS", "outputs")
    (tmp_path / "book.txt").write_text("It was the best of times, it was the worst of times. " * 200)
    commands = shown()
    assert [command[0] for command in commands] == [
        *("configs", "doctor", "train", "train", "train", "study", "train", "study"),
    ]
    for command in commands:
        words = [
            word.replace("RUN", str(newest_run(tmp_path))) if "RUN" in word else word
            for word in small(command)
        ]
        code, out, err = t4dm(*words)
        assert code == 0, (words, err)
        assert out
    sweep = [path.parent for path in (tmp_path / "outputs/train").rglob("run.json")]
    assert len(sweep) == 2 + 8 + 1  # two trainings, the sweep, the resumed run
