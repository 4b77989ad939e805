"""The leaky trace: values by hand, gradients against autograd, freezing and forgetting."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.plasticity.traces import linear_scan


def loop(x: Tensor, decay: Tensor, initial: Tensor) -> Tensor:
    out, carry = [], initial
    for t in range(x.shape[1]):
        carry = (decay[:, t] if decay.dim() == 3 else decay) * carry + x[:, t]
        out.append(carry)
    return torch.stack(out, dim=1)


def test_a_trace_decays_and_adds_as_computed_by_hand() -> None:
    y, last = linear_scan(torch.tensor([[[1.0], [0.0], [2.0]]]), torch.tensor([0.5]), torch.tensor([[4.0]]))
    assert y.flatten().tolist() == [3.0, 1.5, 2.75]
    assert last.item() == 2.75


def test_padding_freezes_a_trace_and_a_document_start_zeroes_it() -> None:
    x, decay = torch.ones(1, 4, 1), torch.tensor([0.5])
    mask = torch.tensor([[True, False, True, True]])
    reset = torch.tensor([[False, False, False, True]])
    assert linear_scan(x, decay, mask=mask)[0].flatten().tolist() == [1.0, 1.0, 1.5, 1.75]
    assert linear_scan(x, decay, mask=mask, reset=reset)[0].flatten().tolist() == [1.0, 1.0, 1.5, 1.0]


@pytest.mark.parametrize("per_step", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_backward_is_that_of_autograd(per_step: bool, steps: int) -> None:
    torch.manual_seed(0)
    shape = (2, steps, 3) if per_step else (3,)
    arguments = [torch.randn(2, steps, 3), torch.rand(shape), torch.randn(2, 3)]
    inputs = [a.double().requires_grad_() for a in arguments]
    assert torch.autograd.gradcheck(lambda x, a, y0: linear_scan(x, a, y0), inputs)
    weight = torch.randn(2, steps, 3, dtype=torch.float64)
    ours = torch.autograd.grad((linear_scan(*inputs)[0] * weight).sum(), inputs)
    theirs = torch.autograd.grad((loop(*inputs) * weight).sum(), inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-13)
