"""Checkpoint bundles: whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.errors import BundleCorruptError, BundleFormatError, BundleStateError
from t4dm.persistence.bundle import MANIFEST, inspect_bundle, load_bundle, save_bundle
from t4dm.t4dx import T4DX, Item

TENSORS = {"stack/w": torch.arange(6.0).reshape(2, 3), "lora/a": torch.ones(2, dtype=torch.bfloat16)}
STATE = {
    "gate": {"bias": -2.0, "weights": [1.0, 0.5]},
    "rng": 2**100,
    "name": "é",
    "due": False,
    "last": None,
}


def _save(path: Path, *, now: float = 5.0, **options):
    return save_bundle(path, **({"tensors": TENSORS, "state": STATE, "clock": lambda: now} | options))


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    info = _save(tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    assert bundle.info == info
    assert (info.created, info.lsn) == (5.0, None)
    assert bundle.state == STATE
    assert bundle.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(bundle.tensors[name], tensor) for name, tensor in TENSORS.items())
    assert bundle.tensors["lora/a"].dtype == torch.bfloat16


def test_tied_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    _save(tmp_path / "b", tensors={"x": base, "y": base, "z": base.t()})
    assert torch.equal(load_bundle(tmp_path / "b").tensors["z"], base.t())


def test_the_manifest_names_every_file_and_the_lsn(tmp_path: Path) -> None:
    with T4DX.open(tmp_path / "s", dim=2) as store:
        store.insert(Item(id="a", vector=np.ones(2, np.float32)))
        info = _save(tmp_path / "b", store=store, write=lambda folder: (folder / "extra.txt").write_text("x"))
        assert info.lsn == store.lsn
    manifest = json.loads((tmp_path / "b" / MANIFEST).read_text())
    on_disk = {p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert manifest["files"].keys() == on_disk - {MANIFEST}
    assert {"learning.json", "learning.safetensors", "extra.txt"} < on_disk
    assert any(name.startswith("store/") for name in on_disk)


def test_a_new_bundle_replaces_the_old_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    _save(tmp_path / "b", now=1.0)
    _save(tmp_path / "b", now=2.0, state={"step": 2})
    assert load_bundle(tmp_path / "b").state == {"step": 2}
    assert [path.name for path in tmp_path.iterdir() if path.name != "outputs"] == ["b"]


def test_a_failure_while_writing_leaves_the_old_bundle(tmp_path: Path) -> None:
    _save(tmp_path / "b", now=1.0)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        _save(tmp_path / "b", now=2.0, write=fail)
    assert load_bundle(tmp_path / "b").info.created == 1.0
    assert [path.name for path in tmp_path.iterdir() if path.name != "outputs"] == ["b"]


@pytest.mark.parametrize("name", ["learning.json", "learning.safetensors"])
def test_one_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    _save(tmp_path / "b")
    data = bytearray((tmp_path / "b" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b" / name).write_bytes(data)
    assert inspect_bundle(tmp_path / "b", verify=False).created == 5.0
    with pytest.raises(BundleCorruptError, match=f"{name} has been altered; remove it .* rm -r"):
        load_bundle(tmp_path / "b")


def test_a_cut_or_missing_file_is_found_without_reading_it(tmp_path: Path) -> None:
    _save(tmp_path / "b")
    file = tmp_path / "b" / "learning.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match="bytes instead of"):
        inspect_bundle(tmp_path / "b", verify=False)
    file.unlink()
    with pytest.raises(BundleCorruptError, match="safetensors is missing"):
        inspect_bundle(tmp_path / "b", verify=False)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "files": {"a": 3}}'])
def test_a_broken_manifest_is_one_clear_error(tmp_path: Path, text: str) -> None:
    _save(tmp_path / "b")
    (tmp_path / "b" / MANIFEST).write_text(text)
    with pytest.raises(BundleCorruptError, match=r"MANIFEST\.json cannot be read"):
        load_bundle(tmp_path / "b")


def test_no_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError):
        load_bundle(tmp_path / "nowhere")


def test_a_newer_format_is_refused_with_the_fix(tmp_path: Path) -> None:
    _save(tmp_path / "b")
    file = tmp_path / "b" / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(BundleFormatError, match=r"format 99, this version reads up to 1; .*pip install -U"):
        load_bundle(tmp_path / "b")


def test_state_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleStateError, match="Tensor is not JSON serializable; pass tensors"):
        _save(tmp_path / "b", state={"w": torch.ones(1)})
    assert not (tmp_path / "b").exists()
