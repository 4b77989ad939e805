"""Warm and cold starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.errors import BundleCorruptError, FolderExistsError
from t4dm.persistence.bundle import BundleInfo, save_bundle
from t4dm.persistence.recovery import find_bundles, newest_bundle, open_store_copy, recover
from t4dm.persistence.shutdown import Shutdown
from t4dm.t4dx import T4DX, Item


def _clock() -> float:
    return 100.0


def _item(name: str) -> Item:
    return Item(id=name, content=name, vector=np.ones(2, np.float32))


def _save(path: Path, *, now: float, store: T4DX | None = None) -> BundleInfo:
    return save_bundle(
        path, tensors={"w": torch.full((1,), now)}, state={"step": int(now)}, store=store, clock=lambda: now
    )


def _spoil(path: Path) -> None:
    (path / "learning.json").write_text('{"step": 9}' + " " * ((path / "learning.json").stat().st_size - 11))


def test_a_start_without_bundles_is_cold(tmp_path: Path) -> None:
    found = recover(tmp_path / "checkpoints", tmp_path / "store", dim=2, clock=_clock)
    assert found.bundle is None
    assert found.skipped == ()
    assert found.store.count() == 0
    found.store.close()


def test_the_store_comes_back_as_it_was_at_the_checkpoint(tmp_path: Path) -> None:
    """What was written after it belongs to another future of the weights."""
    with T4DX.open(tmp_path / "live", dim=2, clock=_clock) as store:
        store.insert(_item("flushed"))
        store.flush()
        store.insert(_item("in the log"))
        store.merge_kappa(["flushed"], 0.5)
        info = _save(tmp_path / "c" / "one", now=1.0, store=store)
        store.insert(_item("later"))
        store.compact()
    found = recover(tmp_path / "c", tmp_path / "copy", dim=2, clock=_clock)
    with found.store as copy:
        assert [item.id for item in copy.scan()] == ["flushed", "in the log"]
        assert copy.get("flushed").kappa == 0.5  # type: ignore[union-attr]
        assert copy.lsn == info.lsn
        copy.insert(_item("new"))
    assert found.bundle is not None
    assert found.bundle.state == {"step": 1}
    assert found.bundle.tensors["w"].item() == 1.0
    again = recover(tmp_path / "c", tmp_path / "second", dim=2, clock=_clock)
    with again.store as copy:
        assert copy.count() == 2  # writing to the first copy did not touch the bundle


def test_the_newest_whole_bundle_wins(tmp_path: Path) -> None:
    for now in (1.0, 3.0, 2.0):
        _save(tmp_path / f"b{now}", now=now)
    assert [info.created for info in find_bundles(tmp_path)[0]] == [3.0, 2.0, 1.0]
    _spoil(tmp_path / "b3.0")
    bundle, skipped = newest_bundle(tmp_path)
    assert bundle is not None
    assert bundle.state == {"step": 2}
    assert len(skipped) == 1
    assert "altered" in skipped[0]


def test_the_temporary_folder_of_a_killed_save_is_ignored(tmp_path: Path) -> None:
    _save(tmp_path / "b", now=1.0)
    shutil.copytree(tmp_path / "b", tmp_path / ".tmp-b-123")
    (tmp_path / "notes.txt").write_text("not a bundle")
    found, skipped = find_bundles(tmp_path)
    assert ([info.path.name for info in found], skipped) == (["b"], [])


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    _save(tmp_path / "b", now=1.0)
    (tmp_path / "b").rename(tmp_path / ".old-b")
    bundle, _ = newest_bundle(tmp_path)
    assert bundle is not None
    assert bundle.state == {"step": 1}
    _save(tmp_path / "b", now=2.0)
    assert newest_bundle(tmp_path)[0].state == {"step": 2}  # type: ignore[union-attr]


def test_a_copy_never_goes_over_something(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "live", dim=2, clock=_clock) as store:
        info = _save(tmp_path / "b", now=1.0, store=store)
        with pytest.raises(FolderExistsError):
            open_store_copy(info, tmp_path / "live", clock=_clock)


def test_a_bundle_without_store_or_with_another_lsn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError, match="holds no store"):
        open_store_copy(_save(tmp_path / "a", now=1.0), tmp_path / "x", clock=_clock)
    with T4DX.open(tmp_path / "live", dim=2, clock=_clock) as store:
        store.insert(_item("a"))
        info = _save(tmp_path / "b", now=1.0, store=store)
    wrong = info._replace(lsn=int(info.lsn or 0) + 1)
    with pytest.raises(BundleCorruptError, match="stands at LSN"):
        open_store_copy(wrong, tmp_path / "y", clock=_clock)


def test_an_orderly_stop_saves_everything(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "live", dim=2, clock=_clock) as store, Shutdown() as shutdown:
        shutdown.on_exit(store.flush)
        shutdown.on_exit(lambda: _save(tmp_path / "c" / "last", now=7.0, store=store))
        store.insert(_item("a"))
        shutdown.request()
    with recover(tmp_path / "c", tmp_path / "copy", dim=2, clock=_clock).store as copy:
        assert copy.count() == 1
        assert copy.stats()["memtable_items"] == 0
