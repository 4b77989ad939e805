"""A copy is a store or clearly none, whatever happens in the middle; and it is the store it was made of."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from simulated_fs import Crash, SimulatedFileSystem
from store_model import digest

from t4dm.errors import (
    BackupError,
    CorruptionError,
    FolderExistsError,
    NoBackupError,
    StoreMissingError,
)
from t4dm.t4dx import T4DX, Edge, Item, Options, new_id
from t4dm.t4dx.backup import backup_store, restore_store
from t4dm.t4dx.fs import OsFileSystem
from t4dm.t4dx.verify import verify_folder, verify_store

OS = Options(durability="os")


def fill(store: T4DX) -> None:
    """A segment, a delta file and a log."""
    store.insert_many([Item(id=f"i{n}", vector=np.eye(4)[n % 4], content=f"text {n}") for n in range(6)])
    store.insert(Item(id="x"), [Edge("x", "i0", "CAUSES")])
    store.flush()
    store.update_fields("i1", kappa=0.5)
    store.delete("i2")
    store.flush()
    store.insert(Item(id="last", content="only in the log"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with T4DX.open(tmp_path / "store", dim=4, options=OS, clock=lambda: 5.0) as store:
        fill(store)
    return tmp_path / "store"


def answers(path: Path) -> object:
    with T4DX.open(path, read_only=True) as store:
        return digest(store)


@pytest.mark.parametrize("link", [True, False])
def test_a_closed_store_is_backed_up_and_restored(path: Path, tmp_path: Path, link: bool) -> None:
    lsn = backup_store(path, tmp_path / "copy", link=link)
    assert restore_store(tmp_path / "copy", tmp_path / "again", link=link) == lsn
    assert answers(tmp_path / "copy") == answers(tmp_path / "again") == answers(path)
    assert verify_folder(tmp_path / "again", "deep").ok
    vectors = next(path.glob("segments/*/vectors_0.npy"))
    shared = os.stat(vectors).st_nlink
    assert shared == (3 if link else 1)


def test_a_store_is_backed_up_beside_its_writer(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "store", dim=4, options=OS, clock=lambda: 5.0) as store:
        fill(store)
        before, lsn = digest(store), store.lsn
        assert store.backup(tmp_path / "one") == backup_store(tmp_path / "store", tmp_path / "two") == lsn
        store.insert(Item(id="later"))
        store.flush()
        store.compact()
    for name in ("one", "two"):
        with T4DX.open(tmp_path / name, options=OS) as copy:
            assert digest(copy) == before
            copy.insert(Item(id="mine"))
    with T4DX.open(tmp_path / "store", read_only=True) as store:
        assert store.get("mine") is None


def test_a_restored_store_goes_on_without_touching_the_backup(path: Path, tmp_path: Path) -> None:
    backup_store(path, tmp_path / "copy")
    restore_store(tmp_path / "copy", tmp_path / "again")
    with T4DX.open(tmp_path / "again", options=OS) as store:
        store.insert(Item(id="new"))
        store.compact()
    assert verify_folder(tmp_path / "copy", "deep").ok
    assert answers(tmp_path / "copy") == answers(path)


def test_a_target_that_holds_anything_is_refused_and_left_alone(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("keep")
    for copy in (backup_store, restore_store):
        with pytest.raises(
            FolderExistsError, match="exists and is not empty; name a new folder, or remove it"
        ):
            copy(path, target)
    assert [entry.name for entry in target.iterdir()] == ["notes.txt"]


def test_what_is_no_store_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(
            NoBackupError, match=r"holds no store and no backup; name the folder that T4DX\.open takes$"
        ):
            restore_store(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_damaged_source_gives_no_copy(path: Path, tmp_path: Path) -> None:
    vectors = next(path.glob("segments/*/vectors_0.npy"))
    data = bytearray(vectors.read_bytes())
    data[-1] ^= 1
    vectors.write_bytes(data)
    with pytest.raises(
        BackupError, match=r"vectors_0\.npy: its checksum is wrong\); nothing there is a store yet"
    ):
        backup_store(path, tmp_path / "copy")
    with pytest.raises(
        NoBackupError, match="is a copy that was never finished; remove it and copy again: rm -r"
    ):
        T4DX.open(tmp_path / "copy", read_only=True)
    os.truncate(vectors, 10)
    with pytest.raises(CorruptionError, match="bytes instead of"):
        restore_store(path, tmp_path / "other")


def test_a_crash_anywhere_leaves_a_whole_copy_or_no_store() -> None:
    disk = SimulatedFileSystem()
    with T4DX.open("store", dim=4, options=OS, clock=lambda: 5.0, fs=disk) as store:
        fill(store)
        right = digest(store)
    probe = disk.after_crash("all")
    backup_store("store", "copy", fs=probe)
    unfinished = 0
    for step in range(1, probe.calls + 1):
        mode = ("all", "synced", "some")[step % 3]
        fs = disk.after_crash("all", crash_at=step)
        with pytest.raises(Crash):
            backup_store("store", "copy", fs=fs)
        after = fs.after_crash(mode, seed=step)
        assert verify_store(after, "store", "full").ok
        try:
            with T4DX.open("copy", read_only=True, fs=after) as copy:
                assert digest(copy) == right
        except (NoBackupError, StoreMissingError):
            unfinished += 1
    assert 0 < unfinished < probe.calls


def test_a_disk_that_lies_about_the_copy_is_found_out() -> None:
    class Liar(SimulatedFileSystem):
        def link(self, source, target):
            super().link(source, target)
            if target.endswith("item_kappa.npy"):
                self.unlink(target)
                self.write_new(target, bytes(self.size(source)))

    disk = SimulatedFileSystem()
    with T4DX.open("store", dim=4, options=OS, fs=disk) as store:
        fill(store)
    liar = Liar(disk.root)
    with pytest.raises(BackupError, match=r"item_kappa\.npy: its checksum is wrong"):
        backup_store("store", "copy", fs=liar)


def test_a_signed_store_is_copied_with_its_key(tmp_path: Path) -> None:
    key = b"0123456789abcdef"
    with T4DX.open(tmp_path / "store", dim=4, options=OS, key=key) as store:
        fill(store)
        store.backup(tmp_path / "one")
    backup_store(tmp_path / "one", tmp_path / "two", key=key)
    assert verify_folder(tmp_path / "two", "deep", key=key).ok
    with T4DX.open(tmp_path / "two", key=key, read_only=True) as store:
        assert store.get("last") is not None


def test_writes_and_flushes_go_on_while_an_open_store_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with T4DX.open(tmp_path / "store", dim=4, options=OS, clock=lambda: 5.0) as store:
        fill(store)
        before, lsn, real = digest(store), store.lsn, OsFileSystem.link

        def busy(self: OsFileSystem, source: str, target: str) -> None:
            if target.endswith("item_kappa.npy"):
                store.insert(Item(id=new_id(np.random.default_rng(store.lsn))))
                store.compact()
            real(self, source, target)

        monkeypatch.setattr(OsFileSystem, "link", busy)
        assert store.backup(tmp_path / "copy") == lsn
        assert store.count() > len(before[0])
    monkeypatch.undo()
    assert answers(tmp_path / "copy") == before
    assert verify_folder(tmp_path / "store", "deep").ok
