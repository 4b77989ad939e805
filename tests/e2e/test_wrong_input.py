"""What a mistake costs: one line that ends with the fix, a non-zero exit; what was there is there still."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from t4dm.apps.train import RunResult
from t4dm.t4dx import T4DX, Item
from t4dm.training.run_record import read_run

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
"""An app that a test has imported is run as __main__ beside it; in a process of its own it never is."""


def one_line(said: tuple[int, str, str]) -> str:
    """What a mistake printed, which must be one line and all there is."""
    code, out, err = said
    assert code == 1
    assert out == ""
    assert err.startswith("t4dm: ")
    assert err.count("\n") == 1
    return err.removeprefix("t4dm: ").removesuffix("\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with T4DX.open(str(path), dim=2, clock=lambda: 5.0) as opened:
        opened.insert_many([Item(id="a", content="Ann is red"), Item(id="b", content="Bob is blue")])
    return path


def test_an_unknown_override_is_told_before_anything_is_written(t4dm: Cli, tmp_path: Path) -> None:
    line = one_line(t4dm("train", "experiment=smoke", "trianer.max_epochs=3"))
    assert line == "no setting 'trianer.max_epochs' in train; did you mean trainer.max_epochs=<value>?"
    assert not (tmp_path / "outputs").exists()


def test_a_missing_file(t4dm: Cli, tmp_path: Path, tiny: list[str]) -> None:
    line = one_line(t4dm("train", *stackless(tiny), "data=text", f"data.files=[{tmp_path}/book.txt]"))
    assert line == (
        f"no file matches '{tmp_path}/book.txt'; "
        "set data.files to the path of a .txt, .jsonl or .parquet file"
    )


def test_a_text_that_is_not_utf8(t4dm: Cli, tmp_path: Path, tiny: list[str]) -> None:
    book = tmp_path / "book.txt"
    book.write_bytes(b"gr" + "ün".encode("latin1"))
    line = one_line(t4dm("train", *stackless(tiny), "data=text", f"data.files=[{book}]"))
    assert line == f"{book} is not UTF-8 at byte 2; convert it: iconv -f LATIN1 -t UTF-8 {book} > {book}.utf8"
    assert book.read_bytes() == b"gr\xfcn"


def stackless(tiny: list[str]) -> list[str]:
    """The overrides that text takes too."""
    return [override for override in tiny if not override.startswith(("+data", "exam", "+exam"))] + [
        "exam=none"
    ]


def test_a_full_disk(t4dm: Cli, tmp_path: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as disk:
        fill_up(disk, room=ROOM)
        said = t4dm("train", *tiny)
    folder = next((tmp_path / "outputs").rglob("run.json")).parent
    line = one_line(said)
    assert line.startswith(f"no space left on the disk of {folder} (")
    assert line.endswith(f"T4DM_OUTPUTS=/big/disk t4dm train resume={folder}")
    assert read_run(folder)["status"] == "failed"
    with T4DX.open(str(folder / "store"), dim=None) as opened:
        opened.verify("full")
        assert 0 < opened.count() < 18
    code, out, err = t4dm("train", f"resume='{folder}'")
    assert (code, err.count("t4dm:")) == (0, 0)
    assert "report: " in out


ROOM = 60_000  # bytes: some of the 18 memories that the run would write


def fill_up(disk: pytest.MonkeyPatch, *, room: int) -> None:
    """Let the disk, of a kind that allocates nothing ahead, take `room` bytes of the store and no more."""
    left = [room]

    def checked(write: Callable[..., int]) -> Callable[..., int]:
        def limited(fd: int, data: bytes, *at: int) -> int:
            left[0] -= len(data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(fd, data, *at)

        return limited

    def unable(fd: int, start: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    disk.setattr(os, "write", checked(os.write))
    disk.setattr(os, "pwrite", checked(os.pwrite))
    disk.setattr(os, "posix_fallocate", unable)


def test_a_store_locked_by_another_process(t4dm: Cli, store: Path) -> None:
    hold = f"with T4DX.open({str(store)!r}, dim=2): print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"from t4dm.t4dx import T4DX\n{hold}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said = t4dm("train", "experiment=smoke", f"storage.folder={store}")
    holder.communicate("\n")
    assert one_line(said).startswith(f"the store {store} is open for writing by pid {holder.pid} on ")
    with T4DX.open(str(store), dim=2) as opened:
        assert opened.count() == 2


def newer(store: Path) -> None:
    """Let the newest manifest say the next format, its checksum right."""
    manifest = max(store.glob("MANIFEST-*"))
    head, _, body = manifest.read_bytes().partition(b"\n")
    form = int(head.split()[1]) + 1
    crc = zlib.crc32(body, zlib.crc32(str(form).encode()))
    manifest.write_bytes(f"T4DX {form} {crc:08x}\n".encode() + body)


@pytest.mark.parametrize("verb", [["store", "stats"], ["train", "experiment=smoke"]], ids=["read", "write"])
def test_a_store_of_a_newer_format(t4dm: Cli, store: Path, verb: list[str]) -> None:
    newer(store)
    before = contents(store)
    line = one_line(t4dm(*verb, f"storage.folder={store}" if verb[0] == "train" else store))
    assert line == (
        f"the store {store}/MANIFEST-{1:020d} has format 3, this version reads format 2; "
        "install a newer one: pip install -U t4dm"
    )
    after = contents(store)
    after.pop("LOCK"), before.pop("LOCK")
    assert after == before


def test_a_resume_with_a_changed_model(t4dm: Cli, finished_run: RunResult, tmp_path: Path) -> None:
    folder = finished_run.folder
    before = contents(folder)
    line = one_line(t4dm("train", f"resume='{folder}'", "model.stack.width=64"))
    assert line == (
        "resume may change only trainer.* and logger.*, not model.stack.width: 32 -> 64; "
        f"take these out: t4dm train resume={folder}, or start a new run without resume"
    )
    assert contents(folder) == before
    assert not list((tmp_path / "outputs").rglob("run.json"))
