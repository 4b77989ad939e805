"""The operating system's files where they refuse: a size limit, a name that is taken, another file system."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from t4dm.errors import StoreFullError
from t4dm.t4dx import T4DX, Item, Options
from t4dm.t4dx.fs import OsFileSystem

resource = pytest.importorskip("resource", reason="no limits of a process here")

TOO_LARGE = rf"\[Errno {errno.EFBIG}\]"


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: the kernel writes what fits, then says EFBIG."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_short_write_goes_on_until_the_disk_tells_why_it_was_short(tmp_path: Path) -> None:
    log = OsFileSystem().append_to(str(tmp_path / "log"))
    with file_size_limit(1000):
        with pytest.raises(OSError, match=TOO_LARGE):
            log.write(b"x" * 1500, 0)
        log.write(b"y" * 10, 0)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"y" * 10 + b"x" * 990


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no allocation ahead here")
def test_space_that_may_not_be_allocated_is_an_error_and_not_a_missing_feature(tmp_path: Path) -> None:
    log = OsFileSystem().append_to(str(tmp_path / "log"))
    with file_size_limit(1000), pytest.raises(OSError, match=TOO_LARGE):
        log.allocate(5000)
    assert log.allocate(5000)
    log.close()
    assert (tmp_path / "log").read_bytes() == bytes(5000)


def test_a_store_at_the_limit_of_a_files_size_refuses_a_write_and_keeps_the_others(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os")) as store:
        store.insert(Item(id="a"))
        with file_size_limit(200_000):
            with pytest.raises(StoreFullError):
                store.insert(Item(id="b", content="x" * 300_000))
            store.insert(Item(id="c", content="x" * 1000))
        store.insert(Item(id="d", content="x" * 300_000))
    with T4DX.open(tmp_path / "s") as store:
        assert sorted(item.id for item in store.scan()) == ["a", "c", "d"]
        assert store.verify("deep").ok


def test_a_log_is_closed_once_and_a_lock_released_once(tmp_path: Path) -> None:
    disk = OsFileSystem()
    log = disk.append_to(str(tmp_path / "log"))
    lock = disk.lock(str(tmp_path / "LOCK"), "me")
    assert not isinstance(lock, str)
    for _ in range(2):  # a number that was given back may be somebody else's by now
        log.close()
        lock.release()
    other = disk.lock(str(tmp_path / "LOCK"), "you")
    lock.release()
    assert disk.lock(str(tmp_path / "LOCK"), "third") == "you"
    assert not isinstance(other, str)
    other.release()


def test_a_rename_never_replaces(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        OsFileSystem().rename(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"


def test_a_link_that_cannot_be_is_an_error_where_a_copy_would_be_wrong_as_well(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        OsFileSystem().link(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "b"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system here")
    folder = memory / f"t4dx-{os.getpid()}-{tmp_path.name}"
    yield folder
    OsFileSystem().remove_tree(str(folder))


def test_a_backup_to_another_file_system_is_a_copy_of_its_own(tmp_path: Path, elsewhere: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2, options=Options(durability="os")) as store:
        store.insert(Item(id="a", vector=[1.0, 0.0]))
        store.flush()
        store.backup(elsewhere)
    [made] = elsewhere.glob("segments/*/item_kappa.npy")
    assert made.stat().st_nlink == 1
    with T4DX.open(elsewhere) as copy:
        assert copy.search([1.0, 0.0], 1).ids == ["a"]
        assert copy.verify("deep").ok


def test_the_guard_of_a_folder_that_is_gone_is_missed_by_writers_only(tmp_path: Path) -> None:
    disk = OsFileSystem()
    assert disk.guard(str(tmp_path / "gone" / "gc.lock"), exclusive=False) is None
    with pytest.raises(FileNotFoundError):
        disk.guard(str(tmp_path / "gone" / "gc.lock"), exclusive=True)
