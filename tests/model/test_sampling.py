"""Sampling controls against transformers' own processors and against a loop over the vocabulary."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from t4dm.errors import BrokenLogitsError, SettingError
from t4dm.model.sampling import Sampler

VOCABULARY = 50
SETTINGS = [
    {"temperature": 1.0},
    {"temperature": 0.3},
    {"temperature": 2.5, "top_k": 7},
    {"temperature": 1.0, "top_k": 1000},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.8, "top_p": 1e-9},
    {"temperature": 1.5, "min_p": 0.2},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 1.0, "repetition_penalty": 1.7},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 0.6},
]


def logits(rows: int = 3, seed: int = 0) -> torch.Tensor:
    return 3.0 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def by_transformers(raw: torch.Tensor, seen: torch.Tensor, **settings: float) -> torch.Tensor:
    chain = LogitsProcessorList()
    if "repetition_penalty" in settings:
        chain.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
    chain.append(TemperatureLogitsWarper(settings["temperature"]))
    if "top_k" in settings:
        chain.append(TopKLogitsWarper(int(settings["top_k"])))
    if "top_p" in settings:
        chain.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        chain.append(MinPLogitsWarper(settings["min_p"]))
    return chain(seen, raw.clone())


def by_loop(raw: list[float], seen: list[int], **s: float) -> list[float]:
    """One row, token by token, from the definitions."""
    penalty, k = s.get("repetition_penalty", 1.0), int(s.get("top_k", len(raw)))
    row = [
        (x * penalty if x < 0 else x / penalty) / s["temperature"] if t in seen else x / s["temperature"]
        for t, x in enumerate(raw)
    ]
    allowed = set(sorted(range(len(row)), key=lambda t: -row[t])[:k])

    def probable() -> dict[int, float]:
        top = max(row[t] for t in allowed)
        weights = {t: math.exp(row[t] - top) for t in allowed}
        return {t: w / sum(weights.values()) for t, w in weights.items()}

    if "top_p" in s:
        found, total, chances = set(), 0.0, probable()
        for t in sorted(chances, key=lambda t: -chances[t]):
            if total < s["top_p"]:
                found.add(t)
            total += chances[t]
        allowed = found
    if "min_p" in s:
        chances = probable()
        allowed = {t for t in allowed if chances[t] >= s["min_p"] * max(chances.values())}
    return [x if t in allowed else -math.inf for t, x in enumerate(row)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_warped_logits_are_those_of_transformers_and_of_the_definitions(settings, seed) -> None:
    raw, seen = logits(seed=seed), torch.tensor([[1, 2, 2], [0, 49, 7], [3, 3, 3]])
    warped = Sampler(**settings).warp(raw, seen.tolist())
    assert torch.equal(warped.isinf(), by_transformers(raw, seen, **settings).isinf())
    torch.testing.assert_close(warped, by_transformers(raw, seen, **settings))
    looped = [by_loop(row, s, **settings) for row, s in zip(raw.tolist(), seen.tolist(), strict=True)]
    torch.testing.assert_close(warped, torch.tensor(looped))


def test_tokens_come_as_often_as_the_softmax_says() -> None:
    raw = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])
    generator, sampler, draws = torch.Generator().manual_seed(0), Sampler(temperature=1.0), 4000
    counts = torch.bincount(
        torch.tensor([sampler.draw(raw, [[]], [generator])[0] for _ in range(draws)]), minlength=4
    )
    expected = draws * raw[0].softmax(-1)
    assert int(counts[3]) == 0
    # chi-square with 2 degrees of freedom: 13.8 is passed once in a thousand
    assert float(((counts - expected)[:3] ** 2 / expected[:3]).sum()) < 13.8


def test_the_most_likely_token_needs_no_generator_and_leaves_it_untouched() -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    assert Sampler().draw(logits(), [[]] * 3, [generator] * 3) == logits().argmax(-1).tolist()
    assert torch.equal(generator.get_state(), before)


def test_the_penalty_counts_at_temperature_zero_too() -> None:
    raw = torch.tensor([[2.0, 1.9, 0.0]])
    assert Sampler(repetition_penalty=1.5).draw(raw, [[0]], [None]) == [1]


def test_a_row_draws_alone_what_it_draws_in_a_batch() -> None:
    sampler, raw = Sampler(temperature=1.3, top_p=0.95), logits(rows=4)
    together = sampler.draw(raw, [[]] * 4, [torch.Generator().manual_seed(s) for s in range(4)])
    alone = [sampler.draw(raw[s : s + 1], [[]], [torch.Generator().manual_seed(s)])[0] for s in range(4)]
    assert together == alone
    assert len(set(together)) > 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("temperature", value) for value in (-0.1, math.nan, math.inf)),
        *(("top_p", value) for value in (0.0, 1.1, -0.5, math.nan)),
        *(("min_p", value) for value in (-0.1, 1.1, math.nan)),
        *(("top_k", value) for value in (0, -3)),
        *(("repetition_penalty", value) for value in (0.0, -1.0, math.nan, math.inf)),
    ],
)
def test_a_value_out_of_range_is_told_with_what_to_set(setting: str, value: float) -> None:
    with pytest.raises(SettingError, match=rf"^{setting}={value} does not work; .*{setting}=[\w.]+$"):
        Sampler(**{setting: value})


def test_logits_that_are_not_numbers_stop_it() -> None:
    raw = logits()
    raw[1, 3] = math.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(BrokenLogitsError, match=r"t4dm runs ls$"):
            Sampler(temperature=temperature).draw(raw, [[]] * 3, [None] * 3)
