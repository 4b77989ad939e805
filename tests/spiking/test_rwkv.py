"""RWKV: chunk equals recurrence, bounded decay, extremes, the bonus by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import UnknownBackendError
from t4dm.spiking.context import PLAIN, make_context
from t4dm.spiking.linear_attention import LOG_DECAY_BOUND, bounded_log_decay, decay_logit
from t4dm.spiking.rwkv import ChannelMix, TimeMix, rwkv6


def sample(steps: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(steps)
    r, k, v, logit = torch.randn(4, 2, steps, 3, 8, generator=generator, dtype=dtype)
    return r, k, v, bounded_log_decay(3.0 * logit), torch.rand(3, 8, generator=generator, dtype=dtype)


def first_state(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=dtype)


@pytest.mark.parametrize("steps", [1, 15, 64, 65, 257])
def test_chunks_equal_the_recurrence_from_an_initial_state(steps: int) -> None:
    inputs = sample(steps)
    chunk, after = rwkv6(*inputs, first_state())
    exact, expected = rwkv6(*[x.double() for x in inputs], first_state().double(), backend="torch_recurrent")
    for got, want in ((chunk, exact), (after, expected)):
        error = (got.double() - want).square().mean().sqrt() / want.square().mean().sqrt()
        assert float(error) < 1e-5


@pytest.mark.parametrize("kind", ["mask", "reset", "both"])
def test_chunks_equal_the_recurrence_with_padding_and_documents(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, 40, generator=generator) > 0.3 if kind != "reset" else None
    reset = torch.rand(2, 40, generator=generator) > 0.85 if kind != "mask" else None
    context = make_context(mask=mask, reset=reset)
    inputs, state = sample(40, torch.float64), first_state(torch.float64)
    a = rwkv6(*inputs, state, context=context, chunk=16)
    b = rwkv6(*inputs, state, context=context, backend="torch_recurrent")
    torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_two_tokens_by_hand() -> None:
    r, k, v = (
        torch.tensor(x, dtype=torch.float64).view(1, 2, 1, 1) for x in ([2.0, 3.0], [5.0, 7.0], [1.0, 4.0])
    )
    log = torch.full((1, 2, 1, 1), math.log(0.8), dtype=torch.float64)
    bonus = torch.full((1, 1), 0.5, dtype=torch.float64)
    out, state = rwkv6(r, k, v, log, bonus, torch.full((1, 1, 1, 1), 10.0, dtype=torch.float64))
    # o1 = 2 (10 + .5*5*1); S1 = 8 + 5; o2 = 3 (13 + .5*7*4); S2 = 10.4 + 28
    assert out.flatten().tolist() == pytest.approx([25.0, 81.0], rel=1e-12)
    assert state.item() == pytest.approx(38.4, rel=1e-12)


def test_the_log_decay_stays_in_its_bound_and_meets_the_time_constant() -> None:
    logits = torch.linspace(-1e4, 1e4, 1001)
    log = bounded_log_decay(logits)
    assert float(log.min()) >= -LOG_DECAY_BOUND - 1e-7
    assert float(log.max()) <= 0.0
    tau = torch.tensor([2.0, 10.0, 300.0])
    torch.testing.assert_close(-1.0 / bounded_log_decay(decay_logit(tau)), tau, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_inputs_give_no_nan_forward_or_backward(scale: float) -> None:
    torch.manual_seed(0)
    mix = TimeMix(width=16, heads=2, decay_rank=4)
    x = (scale * torch.randn(2, 130, 16)).requires_grad_()
    with torch.no_grad():
        mix.decay_up.bias.fill_(50.0)
    out, S, _ = mix(x, torch.zeros(2, 2, 8, 8), torch.zeros(2, 16), PLAIN)
    out.square().mean().backward()
    assert bool(torch.isfinite(out).all())
    assert bool(torch.isfinite(S).all())
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_channel_mix_sees_its_own_and_the_previous_token_only() -> None:
    torch.manual_seed(0)
    mix = ChannelMix(width=8, rank=4)
    x = torch.randn(1, 5, 8, requires_grad=True)
    out, last = mix(x, torch.zeros(1, 8), PLAIN)
    (grad,) = torch.autograd.grad(out[0, 3].square().sum(), x)
    assert [bool(g.abs().max() > 0) for g in grad[0]] == [False, False, True, True, False]
    assert torch.equal(last, x[:, -1])


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(UnknownBackendError, match="one of auto, torch_chunk, torch_recurrent, fla"):
        rwkv6(*sample(2), first_state(), backend="cuda_magic")
