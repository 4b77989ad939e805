"""The backbone's first weights: what the circuit looks at, and that it finds a value by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from t4dm.backbone.tiny import tiny_qwen2

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments/tiny_backbone"))

from induction_start import induction_start

NAMES, VALUES, OF, IS, STOP, ASK = range(10, 40), range(40, 60), 2, 3, 4, 5


def model(*, circuit: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    made = tiny_qwen2(vocab_size=64, hidden_size=128, layers=2)
    if circuit:
        induction_start(made, seed=0)
    made.set_attn_implementation("eager")
    return made.eval()


def windows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`of NAME is VALUE .` three times, then `of NAME ?`; and where the value asked for stands."""
    generator = torch.Generator().manual_seed(1)
    rows, places = [], []
    for _ in range(count):
        names = torch.randperm(len(NAMES), generator=generator)[:3] + NAMES[0]
        values = torch.randperm(len(VALUES), generator=generator)[:3] + VALUES[0]
        told = [t for n, v in zip(names.tolist(), values.tolist(), strict=True) for t in (OF, n, IS, v, STOP)]
        asked = int(torch.randint(3, (), generator=generator))
        rows.append([*told, OF, int(names[asked]), ASK])
        places.append(5 * asked + 3)
    return torch.tensor(rows), torch.tensor(places)


@torch.no_grad()
def attention(made: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return made(input_ids=ids, output_attentions=True).attentions  # [B, heads, T, T] of each layer


@pytest.mark.parametrize(("head", "back"), [(0, 1), (1, 2)])
def test_a_head_of_the_first_layer_looks_a_fixed_number_of_tokens_back(head: int, back: int) -> None:
    seen = attention(model(circuit=True), windows(4)[0])[0][:, head]
    for place in range(back, seen.shape[1]):
        assert (seen[:, place, place - back] > 0.85).all()


def test_a_question_finds_the_value_of_its_name_before_any_training() -> None:
    ids, places = windows(64)
    rows = torch.arange(len(ids))
    values = torch.tensor([[3, 8, 13]]).expand(len(ids), -1)

    def share(made: torch.nn.Module) -> float:
        seen = attention(made, ids)[1][:, :2, -1].mean(1)  # what the last token looks at, [B, T]
        return float((seen[rows, places] / seen.gather(1, values).sum(1)).mean())

    assert share(model(circuit=True)) > 0.7
    assert share(model(circuit=False)) == pytest.approx(1 / 3, abs=0.02)
