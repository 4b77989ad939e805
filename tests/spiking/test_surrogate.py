"""Surrogates: their values, and what depth does to a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from t4dm.errors import UnknownSurrogateError
from t4dm.spiking.lif import LIFParams, lif_scan
from t4dm.spiking.surrogate import REGISTRY, spike, surrogate


def test_values_computed_by_hand() -> None:
    x = torch.tensor([0.0, 0.25, -1.0])
    expected = {
        "atan": [1.0, 1 / (1 + (math.pi / 4) ** 2), 1 / (1 + math.pi**2)],
        "fast_sigmoid": [1.0, 1 / 3.5**2, 1 / 121],
        "sigmoid": [1.0, 4 * 0.7310586 * 0.2689414, 4 * 0.9820138 * 0.0179862],
        "ste_rect": [1.0, 1.0, 0.0],
        "superspike": [1.0, 0.64, 0.25],
    }
    assert expected.keys() == REGISTRY.keys()
    for name, values in expected.items():
        assert surrogate(name).derivative(x).tolist() == pytest.approx(values, rel=1e-4)
        assert surrogate(name).spike(x).tolist() == [1.0, 1.0, 0.0]


def test_a_spike_passes_the_surrogate_as_its_gradient() -> None:
    x = torch.tensor([-0.5, 0.0, 0.5], requires_grad=True)
    spike(x, surrogate("atan")).backward(torch.tensor([1.0, 2.0, 3.0]))
    side = 1 / (1 + (math.pi / 2) ** 2)
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([side, 2.0, 3 * side])


def test_a_blocked_neuron_has_gradient_zero_and_not_nan() -> None:
    for function in REGISTRY.values():
        assert function.derivative(torch.tensor([-1e30, 1e30])).tolist() == [0.0, 0.0]


def test_through_36_layers_with_a_float_stream_the_default_keeps_the_gradient() -> None:
    torch.manual_seed(0)
    depth, width = 36, 64
    weights = [torch.randn(width, width) / width**0.5 for _ in range(depth)]

    def ratio(name: str, shortcut: float) -> float:
        x = torch.randn(2, 16, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        h, taps = x, []
        params = LIFParams(torch.full((width,), 0.5), 1.0, surrogate(name))
        for weight in weights:
            h.retain_grad()
            taps.append(h)
            normed = h / h.square().mean(-1, keepdim=True).sqrt()
            h = shortcut * h + 0.5 * lif_scan(normed @ weight, None, params, gain=0.58)[0]
        h.sum().backward()
        return float(taps[0].grad.norm() / taps[-1].grad.norm())  # type: ignore[union-attr]

    assert 0.3 < ratio("atan", 1.0) < 3.0


def test_an_unknown_surrogate_names_those_that_exist() -> None:
    with pytest.raises(UnknownSurrogateError, match="one of atan, fast_sigmoid, sigmoid, ste_rect"):
        surrogate("identity")
