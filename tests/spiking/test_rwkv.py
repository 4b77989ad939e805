"""RWKV: chunk equals recurrence, bounded decay, extremes, the bonus by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from t4dm.errors import UnknownBackendError
from t4dm.spiking.context import PLAIN
from t4dm.spiking.linear_attention import LOG_DECAY_BOUND, LONGEST_CHUNK, bounded_log_decay, decay_logit
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


@settings(max_examples=60, deadline=None)
@given(
    logit=st.floats(-1e30, 1e30),
    scale=st.floats(0.0, 1e4),
    haste=st.floats(1.0, 1.4),
    chunk=st.integers(1, LONGEST_CHUNK),
    seed=st.integers(0, 1000),
)
@example(logit=1e30, scale=1e4, haste=1.4, chunk=LONGEST_CHUNK, seed=0)
def test_no_decay_leaves_its_bound_and_no_input_makes_a_chunk_nan(
    logit: float, scale: float, haste: float, chunk: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    r, k, v, spread = torch.randn(4, 1, 150, 1, 4, generator=generator)
    log_decay = bounded_log_decay(logit * spread.abs())
    assert -LOG_DECAY_BOUND - 1e-7 <= float(log_decay.min()) <= float(log_decay.max()) <= 0.0
    # serotonin at its lowest makes memories fade 1.4 times as fast
    log_decay = haste * log_decay
    inputs = [(scale * x).requires_grad_() for x in (r, k, v)]
    out, S = rwkv6(*inputs, log_decay.requires_grad_(), torch.ones(1, 4), torch.ones(1, 1, 4, 4), chunk=chunk)
    for x in (out, S, *torch.autograd.grad(out.sum() + S.sum(), [*inputs, log_decay])):
        assert bool(torch.isfinite(x).all())


def rms_ratio(mine: Tensor, exact: Tensor) -> float:
    return float((mine.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize("backend", ["torch_chunk", "torch_recurrent"])
@pytest.mark.parametrize("steps", [1, 15, 64, 65, 257])
def test_half_precision_costs_only_its_own_rounding(steps: int, backend: str) -> None:
    r, k, v, log_decay, u = sample(steps)
    half = [x.bfloat16() for x in (r, k, v, log_decay)]
    out, S = rwkv6(*half, u, first_state(), backend=backend)
    assert (out.dtype, S.dtype) == (torch.bfloat16, torch.float32)
    exact, after = rwkv6(*[x.double() for x in (*half, u)], first_state().double(), backend="torch_recurrent")
    assert rms_ratio(out, exact) < 5e-3
    assert rms_ratio(S, after) < 1e-5


@pytest.mark.parametrize("backend", ["torch_chunk", "torch_recurrent"])
def test_autocast_does_not_reach_the_state(backend: str) -> None:
    inputs = (*sample(40), first_state())
    plain = rwkv6(*inputs, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = rwkv6(*inputs, backend=backend)
    assert torch.equal(plain[0], mixed[0])
    assert torch.equal(plain[1], mixed[1])


def saved(S: Tensor, path: Path, how: str) -> Tensor:
    if how == "torch":
        torch.save(S, path)
        loaded: Tensor = torch.load(path, weights_only=True)
        return loaded
    save_file({"S": S}, path)
    return load_file(path)["S"]


@pytest.mark.parametrize("how", ["torch", "safetensors"])
def test_a_state_saved_and_loaded_goes_on_bit_for_bit(tmp_path: Path, how: str) -> None:
    *tokens, u = sample(30)
    first, second = ([x[:, part] for x in tokens] for part in (slice(0, 17), slice(17, None)))
    _, S = rwkv6(*first, u, first_state())
    going_on = rwkv6(*second, u, S)
    again = rwkv6(*second, u, saved(S, tmp_path / "state", how))
    assert torch.equal(going_on[0], again[0])
    assert torch.equal(going_on[1], again[1])


@pytest.mark.parametrize("kind", ["time", "channel"])
def test_a_zero_output_does_nothing_at_first_and_learns_within_two_steps(kind: str) -> None:
    torch.manual_seed(0)
    mix = (
        TimeMix(width=16, heads=2, decay_rank=4, zero_output=True)
        if kind == "time"
        else ChannelMix(width=16, rank=4, zero_output=True)
    )
    x, last = torch.randn(2, 9, 16), torch.zeros(2, 16)

    def run() -> Tensor:
        if isinstance(mix, TimeMix):
            return mix(x, torch.zeros(2, 2, 8, 8), last, PLAIN)[0]
        return mix(x, last, PLAIN)[0]

    assert float(run().detach().abs().max()) == 0.0
    optimizer = torch.optim.SGD(mix.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (run() - torch.ones(2, 9, 16)).square().sum().backward()
        optimizer.step()
    silent = [name for name, p in mix.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
