"""A setting that no class can work with is named by its path in the config, with what to set instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from t4dm.data.loader import BatchLoader
from t4dm.data.mixture import MixtureDataModule, interleave
from t4dm.data.packing import pack
from t4dm.data.sampler import StepSampler
from t4dm.data.split import split
from t4dm.data.text import TextDataModule
from t4dm.errors import SettingError, T4DMError
from t4dm.memory.temporal_gate import TemporalGate
from t4dm.sleep.pressure import SleepPressure


def batches(steps: int) -> BatchLoader:
    return BatchLoader(batch_at=lambda epoch, step: {}, steps=steps)


SHARE = "set it to a share in [0, 1)"
WRONG: list[tuple[Callable[[], object], str]] = [
    (
        partial(TemporalGate, weights=(1.0,)),
        "model.writer.gate.weights=[1.0] does not work; "
        "give at least one for each of prediction_error, novelty, reward",
    ),
    (
        partial(TemporalGate, target_rate=1.5),
        "model.writer.gate.target_rate=1.5 does not work; set it to a share between 0 and 1, or to null",
    ),
    (
        partial(SleepPressure, items_per_night=0),
        "sleep.pressure.items_per_night=0 does not work; set it to a number above 0, or take sleep=none",
    ),
    (
        partial(SleepPressure, lower=0.5, upper=0.1),
        "sleep.pressure.lower=0.5 with upper=0.1 does not work; set them to 0 < lower < upper < 1",
    ),
    (
        partial(MixtureDataModule, recall=None, text=None, text_share=1.0),
        f"data.text_share=1.0 does not work; {SHARE}",
    ),
    (
        partial(interleave, batches(2), batches(0), share=0.5),
        "data.text_share=0.5 does not work; "
        "the text holds no batch, so set it to 0 or name more text: data.text.files=[book.txt]",
    ),
    (
        partial(StepSampler, size=3, batch_size=0, seed=1),
        "data.batch_size=0 does not work; set it to at least one row",
    ),
    (partial(pack, [[1]], length=0), "data.length=0 does not work; set it to 1 token or more"),
    (partial(split, ["a", "b"], fraction=1.5, seed=1), f"data.held_out=1.5 does not work; {SHARE}"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message.split("=")[0] for _, message in WRONG])
def test_a_setting_that_cannot_work_is_named_with_its_fix(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        wrong()
    assert str(caught.value) == message
    assert isinstance(caught.value, T4DMError)


def test_a_wrong_share_of_text_is_not_taken_for_too_little_text(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("one\n\ntwo\n")
    data = TextDataModule(
        encode=lambda text: [1] * len(text), files=[str(tmp_path / "book.txt")], held_out=1.5
    )
    with pytest.raises(SettingError, match=r"data\.held_out=1\.5"):
        data.setup()
