"""Spike attention: the sum over pairs by hand, its window, its bounds, what modulates it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from t4dm.errors import SettingError, UnknownBackendError
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.spike_attention import FastWeights, SpikeAttention, STDPWindow, stdp_attention


def window(heads: int, keys: int) -> STDPWindow:
    generator = torch.Generator().manual_seed(7)
    log = -0.6 * torch.rand(2, heads, keys, generator=generator, dtype=torch.float64)
    return STDPWindow(
        log[0],
        log[1],
        torch.full((heads, 1), 0.9, dtype=torch.float64),
        torch.full((heads, 1), 0.3, dtype=torch.float64),
    )


def sample(batch: int, steps: int, heads: int = 2, keys: int = 3, values: int = 4) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(steps)
    q, k = ((torch.rand(batch, steps, heads, keys, generator=generator) < 0.3).double() for _ in range(2))
    return q, k, torch.randn(batch, steps, heads, values, generator=generator, dtype=torch.float64)


def start(batch: int, heads: int = 2, keys: int = 3, values: int = 4, *, empty: bool = False) -> FastWeights:
    generator = torch.Generator().manual_seed(1)
    S = torch.randn(batch, heads, keys, values, generator=generator, dtype=torch.float64)
    z, ybar = torch.rand(2, batch, heads * keys, generator=generator, dtype=torch.float64)
    scale = 0.0 if empty else 1.0
    return FastWeights(scale * S, scale * z, scale * ybar)


def test_the_output_is_the_sum_over_pairs_written_out() -> None:
    q, k, v = sample(1, 9)
    w = window(2, 3)
    got, _ = stdp_attention(q, k, v, start(1, empty=True), w, epsilon=0.5)
    plus, minus = w.log_plus.exp(), w.log_minus.exp()
    for t in range(9):
        for head in range(2):
            top, bottom = torch.zeros(4, dtype=torch.float64), 0.5
            for s in range(t + 1):
                score = 0.0
                for i in range(3):
                    later = sum(float(minus[head, i] ** (s - r) * q[0, r, head, i]) for r in range(s))
                    key = float(k[0, s, head, i]) * (0.9 - 0.3 * later)
                    weight = float(q[0, t, head, i] * plus[head, i] ** (t - s))
                    score += weight * key
                    bottom += weight * abs(key)
                top += score * v[0, s, head]
            torch.testing.assert_close(got[0, t, head], top / bottom, atol=1e-12, rtol=1e-12)


def test_a_key_after_a_query_is_depressed_by_the_window() -> None:
    """Query at 0, key at 2, query at 3: what is read is A+ - A- lambda^2, decayed once."""
    q, k = torch.zeros(2, 1, 4, 1, 1, dtype=torch.float64)
    q[0, 0], q[0, 3], k[0, 2] = 1.0, 1.0, 1.0
    v = torch.ones(1, 4, 1, 1, dtype=torch.float64)
    log = torch.full((1, 1), math.log(0.6), dtype=torch.float64)
    w = STDPWindow(
        log, log, torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), 0.35, dtype=torch.float64)
    )
    out, _ = stdp_attention(q, k, v, start(1, 1, 1, 1, empty=True), w)
    key = 1.0 - 0.35 * 0.6**2
    assert out[0, 3].item() == pytest.approx(0.6 * key / (1.0 + 0.6 * key), rel=1e-12)


def test_a_silent_query_reads_nothing_and_its_gradient_is_bounded() -> None:
    q, k, v = sample(1, 6)
    q = torch.zeros_like(q).requires_grad_()
    out, _ = stdp_attention(q, k, v, start(1, empty=True), window(2, 3))
    assert float(out.detach().abs().max()) == 0.0
    out.sum().backward()
    assert q.grad is not None
    assert 0.0 < float(q.grad.abs().max()) < 50.0


def test_dopamine_scales_writes_and_serotonin_the_depression() -> None:
    q, k, v = sample(1, 8)
    base, _ = stdp_attention(q, k, v, start(1, empty=True), window(2, 3))
    more, _ = stdp_attention(
        q, k, v, start(1, empty=True), window(2, 3), write=torch.full((1, 1, 1), 1.35, dtype=torch.float64)
    )
    torch.testing.assert_close(more, 1.35 * base)
    none = torch.zeros(1, 1, 1, dtype=torch.float64)
    flat, _ = stdp_attention(q, k, v, start(1, empty=True), window(2, 3), depression=none)
    free = window(2, 3)._replace(a_minus=torch.zeros(2, 1, dtype=torch.float64))
    torch.testing.assert_close(flat, stdp_attention(q, k, v, start(1, empty=True), free)[0])
    assert not torch.equal(flat, base)


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(UnknownBackendError, match="one of auto, chunk, recurrent, quadratic, fla"):
        stdp_attention(*sample(1, 2), start(1), window(2, 3), mode="softmax")


def test_a_silent_channel_feels_what_it_would_add_to_the_normaliser() -> None:
    """One token of value 3, two channels of one key each, the first of which is queried."""
    q = torch.tensor([1.0, 0.0], dtype=torch.float64).view(1, 1, 1, 2).requires_grad_()
    k = torch.ones(1, 1, 1, 2, dtype=torch.float64)
    v = torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)
    w = STDPWindow(*torch.full((2, 1, 2), -0.1, dtype=torch.float64), *torch.ones(2, 1, 1).double())
    out, _ = stdp_attention(q, k, v, start(1, 1, 2, 1, empty=True), w)
    (slope,) = torch.autograd.grad(out.sum(), q)
    # o = 3 (q1 + q2) / (1 + q1 + q2) = 1.5 and its slope 3 / (1 + q1 + q2)^2 in either channel
    assert out.item() == pytest.approx(1.5, rel=1e-12)
    assert slope.flatten().tolist() == pytest.approx([0.75, 0.75], rel=1e-12)


@pytest.mark.parametrize("mode", ["chunk", "recurrent", "quadratic"])
def test_half_precision_and_autocast_stay_out_of_the_fast_weights(mode: str) -> None:
    q, k, v = (x.float() for x in sample(2, 40))
    w, first = STDPWindow(*(x.float() for x in window(2, 3))), FastWeights(*(x.float() for x in start(2)))
    half = v.bfloat16()
    out, fast = stdp_attention(q, k, half.float(), first, w, mode=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, after = stdp_attention(q.bfloat16(), k.bfloat16(), half, first, w, mode=mode)
    assert (mixed.dtype, after.S.dtype, after.z.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert torch.equal(mixed, out.bfloat16())
    assert all(torch.equal(one, other) for one, other in zip(fast, after, strict=True))


def stage(**settings: object) -> SpikeAttention:
    torch.manual_seed(0)
    neurons = Neurons(width=16, gain=1.8, target_rate=0.15, neuron="lif", surrogate="atan")
    arguments: dict = {"width": 16, "qk_width": 8, "heads": 2, "neurons": neurons, **settings}
    return SpikeAttention(**arguments)


def test_a_stage_starts_with_the_amplitudes_of_bi_and_poo_and_windows_of_2_to_64_tokens() -> None:
    w = stage().window()
    torch.testing.assert_close(w.a_minus / w.a_plus, torch.full((2, 1), 0.35), atol=1e-6, rtol=0.0)
    for log in (w.log_plus, w.log_minus):
        tau = -1.0 / log.detach()
        assert float(tau.min()) > 1.999
        assert float(tau.max()) < 64.01


@settings(deadline=None)
@given(logit=st.floats(-1e30, 1e30))
def test_no_window_decays_faster_than_its_bound_whatever_is_learned(logit: float) -> None:
    attention = stage()
    with torch.no_grad():
        attention.window_logit.fill_(logit)
        attention.amplitude.fill_(logit)
    w = attention.window()
    for log in (w.log_plus, w.log_minus):
        assert -0.6 - 1e-7 <= float(log.detach().min()) <= float(log.detach().max()) <= 0.0
    assert float(w.a_plus.detach().min()) >= 0.0


@pytest.mark.parametrize("chunk", [0, 65])
def test_a_chunk_whose_decays_leave_fp32_is_refused(chunk: int) -> None:
    with pytest.raises(SettingError, match=f"chunk={chunk} .* set it to a number of tokens from 1 to 64"):
        stage(chunk=chunk)
