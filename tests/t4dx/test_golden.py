"""The golden store of each format opens with this version and gives every answer it gave when it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from make_golden import answers, main

from t4dm.t4dx import T4DX, Item, manifest, verify_store
from t4dm.t4dx.fs import OsFileSystem

GOLDEN = Path(__file__).parent / "golden"
LOCKS = ("LOCK", "gc.lock")
FORMATS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in LOCKS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / request.param, tmp_path / "store")
    return tmp_path / "store"


def test_there_is_a_golden_store_of_the_format_in_use() -> None:
    assert f"format-{manifest.FORMAT}" in FORMATS


@pytest.mark.parametrize("copy", FORMATS, indirect=True)
def test_reading_it_gives_the_stored_answers_and_changes_no_byte(
    copy: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["copy"]
    wanted = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    before = files(copy)
    with T4DX.open(copy, read_only=True) as store:
        assert json.loads(json.dumps(answers(store))) == wanted
        assert store.verify("deep").problems == ()
    assert verify_store(OsFileSystem(), str(copy), "deep").problems == ()
    assert files(copy) == before


@pytest.mark.parametrize("copy", FORMATS, indirect=True)
def test_it_can_be_written_to_undone_and_compacted(copy: Path) -> None:
    with T4DX.open(copy, read_only=True) as store:
        before = answers(store)
    with T4DX.open(copy, clock=lambda: 9000.0) as store:
        assert answers(store) == before
        store.compact()
        assert answers(store) == before
        store.undo("night-1")
        assert store.get("proto") is None
        store.insert(Item(id="new", content="still alive"))
        assert store.verify("deep").ok
    with T4DX.open(copy) as store:
        assert store.get("new").content == "still alive"
        assert store.get("item-1").metadata == {"n": 100}


def test_the_golden_store_holds_every_kind_of_file() -> None:
    store = GOLDEN / f"format-{manifest.FORMAT}"
    found = manifest.load(OsFileSystem(), str(store))
    names = {file.name for entry in found.segments for file in entry.files}
    assert any(".g" in name for name in names), "a column generation"
    assert {"vectors_0.npy", "vectors_1.npy", "texts_sums.npy"} <= names
    assert found.deltas
    assert [row.name for row in found.collections] == ["default", "notes"]
    assert "LIKES" in found.edge_types


def test_making_it_again_gives_the_same_answers(tmp_path: Path) -> None:
    main(tmp_path / "store")
    wanted = (GOLDEN / f"format-{manifest.FORMAT}.json").read_text(encoding="utf-8")
    assert (tmp_path / "store.json").read_text(encoding="utf-8") == wanted
