"""The two references of spike attention by hand: one head, one channel, numbers that can be followed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.spiking import attention_naive
from t4dm.spiking.attention_params import FastWeights, Reading, STDPWindow, size
from t4dm.spiking.context import PLAIN, Context, make_context

FORMS = ["recurrent", "quadratic"]
HALF = torch.tensor([[math.log(0.5)]], dtype=torch.float64)
QUARTER = torch.tensor([[math.log(0.25)]], dtype=torch.float64)
# lambda+ = 1/2, lambda- = 1/4, A+ = 2, A- = 1
WINDOW = STDPWindow(HALF, QUARTER, torch.full_like(HALF, 2.0), torch.full_like(HALF, 1.0))
EMPTY = FastWeights(*(torch.zeros(*shape, dtype=torch.float64) for shape in ((1, 1, 1, 1), (1, 1), (1, 1))))


def read(
    form: str,
    q: list[float],
    k: list[float],
    v: list[float],
    *,
    state: FastWeights = EMPTY,
    context: Context = PLAIN,
    write: list[float] | None = None,
    depression: float | None = None,
) -> Reading:
    def tokens(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)

    return getattr(attention_naive, form)(
        tokens(q),
        tokens(k),
        tokens(v),
        state,
        WINDOW,
        context=context,
        write=None if write is None else tokens(write).squeeze(-1),
        depression=None if depression is None else torch.full((1, 1, 1), depression, dtype=torch.float64),
    )


def marks(*flags: int) -> Tensor:
    return torch.tensor([flags], dtype=torch.bool)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_before_the_query_is_potentiated_and_fades_with_every_token(form: str) -> None:
    found = read(form, q=[1, 0, 1], k=[1, 0, 0], v=[3, 5, 7])
    # the key meets the query of its own token at full strength, and what that query depresses comes later
    assert found.value.flatten().tolist() == pytest.approx([2 * 3, 0, 2 * 3 / 4])
    assert found.evidence.flatten().tolist() == pytest.approx([2, 0, 2 / 4])
    assert float(found.fast.S) == pytest.approx(2 * 3 / 4)
    assert float(found.fast.z) == pytest.approx(2 / 4)
    assert float(found.fast.ybar) == pytest.approx(1 / 16 + 1)


@pytest.mark.parametrize("form", FORMS)
def test_a_key_after_a_query_is_depressed_by_what_is_left_of_it(form: str) -> None:
    found = read(form, q=[1, 0, 1], k=[0, 0, 1], v=[0, 0, 4])
    assert float(found.value[0, -1]) == pytest.approx((2 - 1 / 16) * 4)
    deeper = read(form, q=[1, 0, 1], k=[0, 0, 1], v=[0, 0, 4], depression=40.0)
    assert float(deeper.value[0, -1]) == pytest.approx((2 - 40 / 16) * 4)
    assert float(deeper.evidence[0, -1]) == pytest.approx(40 / 16 - 2)  # evidence has no sign


@pytest.mark.parametrize("form", FORMS)
def test_a_write_factor_scales_values_and_no_evidence(form: str) -> None:
    found = read(form, q=[0, 1], k=[1, 0], v=[3, 0], write=[0.5, 1.0])
    assert float(found.value[0, -1]) == pytest.approx(0.5 * 2 * 3 / 2)
    assert float(found.evidence[0, -1]) == pytest.approx(2 / 2)


@pytest.mark.parametrize("form", FORMS)
def test_padding_lets_no_time_pass_and_no_pair_reaches_over_a_document_start(form: str) -> None:
    padded = read(form, q=[0, 0, 1], k=[1, 0, 0], v=[3, 0, 0], context=make_context(mask=marks(1, 0, 1)))
    assert float(padded.value[0, -1]) == pytest.approx(2 * 3 / 2)
    cut = read(form, q=[0, 0, 1], k=[1, 0, 1], v=[3, 0, 4], context=make_context(reset=marks(0, 1, 0)))
    assert float(cut.value[0, -1]) == pytest.approx(2 * 4)
    forgotten = read(form, q=[1, 0], k=[0, 1], v=[0, 4], context=make_context(reset=marks(0, 1)))
    assert float(forgotten.fast.S) == pytest.approx(2 * 4)  # undepressed: the query was another document's


@pytest.mark.parametrize("form", FORMS)
def test_what_was_there_before_the_window_fades_from_its_first_token_on(form: str) -> None:
    before = FastWeights(*(torch.full_like(part, 8.0) for part in EMPTY))
    found = read(form, q=[1, 1], k=[0, 0], v=[0, 0], state=before)
    assert found.value.flatten().tolist() == pytest.approx([4, 2])
    assert found.evidence.flatten().tolist() == pytest.approx([4, 2])
    assert float(found.fast.ybar) == pytest.approx(8 / 16 + 1 / 4 + 1)


def test_the_size_of_a_spike_has_the_slope_of_a_neuron_that_could_fire() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 3.0], requires_grad=True)
    size(x).sum().backward()
    assert size(x).tolist() == [2.0, 0.0, 0.0, 3.0]
    assert x.grad is not None
    assert x.grad.tolist() == [-1.0, 1.0, 1.0, 1.0]
