"""Spike functions and the surrogate derivatives that training uses in their place, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t4dm.errors import UnknownSurrogateError


class Surrogate(NamedTuple):
    """A spike function of x = h - threshold and the derivative that stands for its own in backward."""

    name: str
    spike: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]


def heaviside(x: Tensor) -> Tensor:
    """1 where x >= 0, else 0, in x's dtype."""
    return (x >= 0).to(x.dtype)


def _atan(x: Tensor) -> Tensor:
    # x = 1e30 (a blocked neuron) must give 0, not nan: inf in the denominator does.
    return (x * math.pi).square_().add_(1.0).reciprocal_()


def _fast_sigmoid(x: Tensor) -> Tensor:
    return (x.abs() * 10.0).add_(1.0).square_().reciprocal_()


def _sigmoid(x: Tensor) -> Tensor:
    p = torch.sigmoid(4.0 * x)
    return 4.0 * p * (1.0 - p)


def _superspike(x: Tensor) -> Tensor:
    return x.abs().add_(1.0).square_().reciprocal_()


def _ste_rect(x: Tensor) -> Tensor:
    return (x.abs() < 0.5).to(x.dtype)


ATAN = Surrogate("atan", heaviside, _atan)
REGISTRY: dict[str, Surrogate] = {
    "atan": ATAN,
    "fast_sigmoid": Surrogate("fast_sigmoid", heaviside, _fast_sigmoid),
    "sigmoid": Surrogate("sigmoid", heaviside, _sigmoid),
    "ste_rect": Surrogate("ste_rect", heaviside, _ste_rect),
    "superspike": Surrogate("superspike", heaviside, _superspike),
}


def surrogate(name: str) -> Surrogate:
    """The surrogate of that name.

    `atan` is 1/(1+(pi x)^2) (Fang et al. 2021, alpha = 2) and the default: of the bounded ones it keeps the
    gradient norm nearest to 1 through depth. `fast_sigmoid` is 1/(1+10|x|)^2, `sigmoid` 4s(1-s) at 4x,
    `ste_rect` 1 for |x| < 1/2, `superspike` 1/(1+|x|)^2 (Zenke & Ganguli 2018, as Norse has it).

    Raises:
        UnknownSurrogateError: no such name.
    """
    if name not in REGISTRY:
        raise UnknownSurrogateError(name, sorted(REGISTRY))
    return REGISTRY[name]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function.spike(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.function.derivative(x), None


def spike(x: Tensor, function: Surrogate = ATAN) -> Tensor:
    """Spikes of x = h - threshold, with the surrogate's derivative as gradient."""
    out: Tensor = _Spike.apply(x, function)  # type: ignore[no-untyped-call]
    return out
