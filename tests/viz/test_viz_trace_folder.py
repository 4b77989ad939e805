"""What a trace left, read back: whole, without some layers, absent, cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.trace_folder import read_trace


def write(folder: Path) -> None:
    np.savez(
        folder / "trace.npz", **{"layer0.norm": np.array([1.0, 2.0]), "layer1.norm": np.array([3.0, 4.0])}
    )
    (folder / "trace.json").write_text('{"tokens": ["Ann", " is"]}')


def test_layers_stand_side_by_side_and_a_missing_one_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    trace = read_trace(tmp_path)
    assert trace.tokens == ["Ann", " is"]
    found = trace.layers("norm", 2)
    assert found is not None
    assert found.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert trace.layers("norm", 3) is None
    assert trace.layers("lora", 2) is None


def test_an_absent_and_a_cut_trace_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"trace\.json"):
        read_trace(tmp_path)
    write(tmp_path)
    data = (tmp_path / "trace.npz").read_bytes()
    (tmp_path / "trace.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenRunFileError, match="it cannot be read to its end"):
        read_trace(tmp_path)
