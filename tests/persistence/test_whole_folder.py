"""A folder appears whole or not at all, also where the process dies in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from t4dm.errors import FolderExistsError
from t4dm.persistence.whole_folder import whole_folder


def test_nothing_is_there_until_the_block_ends(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "deep" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "sub" / "file").read_text() == "1"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_folder_of_that_name_and_the_next_one_writes_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from t4dm.persistence.whole_folder import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('1'); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert done.returncode == 9
    assert not (tmp_path / "out").exists()
    with whole_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("2")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("1")
    with pytest.raises(FolderExistsError, match="exists and is not empty"), whole_folder(tmp_path / "out"):
        raise AssertionError
    (tmp_path / "file").write_text("1")
    with pytest.raises(FolderExistsError), whole_folder(tmp_path / "file"):
        raise AssertionError
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "file").write_text("2")
    assert (tmp_path / "empty" / "file").exists()
