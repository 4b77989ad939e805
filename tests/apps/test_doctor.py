"""The doctor: what an experiment needs, and whether it fits."""

from __future__ import annotations

import pytest

from t4dm.apps.doctor import GIB, Need, estimate, fits, verdict
from t4dm.config import compose, plain


def needed(*overrides: str) -> Need:
    return estimate(plain(compose("train", overrides)))


def test_the_laptop_experiment_needs_less_than_its_4_gib() -> None:
    need = needed("experiment=first_night")
    assert 1185 / 1024 * GIB <= need.memory < 4 * GIB  # the largest peak_memory_mib that full runs of it had
    assert not need.gpu


def test_the_3b_experiment_fits_24_gib_only_in_4_bits() -> None:
    quantised = needed("experiment=recall_qwen3b")
    plain_weights = needed("experiment=recall_qwen3b", "model.backbone.quantize=none")
    assert quantised.gpu
    assert quantised.memory < 24 * GIB
    # 2.775 B weights outside of the embedding, 2 bytes against 0.56
    assert plain_weights.memory - quantised.memory == pytest.approx((2 - 0.56) * 2.775e9, rel=0.01)


def test_a_longer_batch_needs_more() -> None:
    assert needed("+data.lanes=64").memory > needed("+data.lanes=16").memory


@pytest.mark.parametrize(
    ("need", "gpu", "said"),
    [
        (Need(1 * GIB, False, ""), None, "fits"),
        (Need(3 * GIB, False, ""), None, "too large: 2.0 GiB free"),
        (Need(1 * GIB, True, ""), None, "no CUDA device"),
        (Need(1 * GIB, True, "bitsandbytes"), 8.0 * GIB, "needs bitsandbytes: pip install 't4dm[gpu]'"),
        (Need(9 * GIB, True, ""), 8.0 * GIB, "too large: 8.0 GiB free"),
        (Need(7 * GIB, True, ""), 8.0 * GIB, "fits"),
    ],
)
def test_the_verdict_says_what_is_in_the_way(need: Need, gpu: float | None, said: str) -> None:
    assert verdict(need, ram=2.0 * GIB, gpu=gpu) == said


def test_every_experiment_has_its_row() -> None:
    assert fits().row_count >= 4
