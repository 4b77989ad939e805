"""What every test shares: no network, no accounts, one thread, runs in a folder of the test."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from t4dm.apps.train import RunResult

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(
    HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true", TOKENIZERS_PARALLELISM="false"
)


@pytest.fixture(autouse=True)
def _runs_in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T4DM_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


TINY = [
    "experiment=smoke",
    "debug=fast",
    "model.stack.width=32",
    "model.stack.blocks=1",
    "+data.lanes=2",
    "sleep.pressure.items_per_night=4",
    "exam.recall.episodes=2",
    "+exam.recall.task.distances=[1,2]",
]


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides under which a whole run takes a second or two."""
    return list(TINY)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One tiny run, all the way: training, a night, the exam, the report. Read it, do not write into it."""
    from t4dm.apps.train import train
    from t4dm.config import compose

    return train(compose("train", TINY, output=tmp_path_factory.mktemp("runs") / "finished"))


@pytest.fixture
def t4dm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the console script in this process: exit code, stdout, stderr."""
    from t4dm import cli

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def go(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["t4dm", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        return int(stop.value.code or 0), *said

    return go
