"""Spike attention: three modes that agree, the window by hand, causality, padding, documents."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import UnknownBackendError
from t4dm.spiking.context import PLAIN, Context, make_context
from t4dm.spiking.spike_attention import FastWeights, STDPWindow, stdp_attention

MODES = ("quadratic", "recurrent", "chunk")


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


def places(batch: int, steps: int, kind: str) -> Context:
    generator = torch.Generator().manual_seed(9)
    mask = torch.rand(batch, steps, generator=generator) > 0.3 if "mask" in kind else None
    reset = torch.rand(batch, steps, generator=generator) > 0.8 if "reset" in kind else None
    return make_context(mask=mask, reset=reset)


@pytest.mark.parametrize("steps", [1, 7, 16, 33])
@pytest.mark.parametrize("kind", ["plain", "mask", "reset", "mask and reset"])
@pytest.mark.parametrize("empty", [True, False])
def test_chunk_recurrent_and_quadratic_agree_with_their_states(steps: int, kind: str, empty: bool) -> None:
    q, k, v = sample(2, steps)
    context = places(2, steps, kind)
    results = [
        stdp_attention(q, k, v, start(2, empty=empty), window(2, 3), mode=mode, context=context, chunk=8)
        for mode in MODES
    ]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-10, rtol=1e-10)


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


@pytest.mark.parametrize("mode", MODES)
def test_gradients_agree_between_modes(mode: str) -> None:
    q, k, v = (x.requires_grad_() for x in sample(2, 12))
    weight = torch.randn(2, 12, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grads = []
    for each in (mode, "recurrent"):
        out, _ = stdp_attention(q, k, v, start(2), window(2, 3), mode=each, context=PLAIN, chunk=5)
        grads.append(torch.autograd.grad((out * weight).sum(), (q, k, v)))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-10, rtol=1e-10)


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
