"""The measurement of what watching costs runs, and counts no hook where nobody watches."""

from __future__ import annotations

import torch

from experiments.glass_box.measure import LEVELS, hooks, measured, shipped


def test_every_level_is_measured_in_every_round() -> None:
    model = shipped()
    seconds, kept = measured(model, torch.arange(2, 18)[None], rounds=1)
    assert {name: len(rounds) for name, rounds in seconds.items()} == {"off": 1, **dict.fromkeys(LEVELS, 1)}
    assert list(kept) == list(LEVELS)
    assert 0 < kept["lengths"] < kept["everything"]
    assert hooks(model) == 0
