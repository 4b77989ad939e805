"""LIF neurons: by hand, conserved charge, the hand-written backward, padding, documents, precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.spiking.lif import LIFParams, LIFTrajectory, lif_scan, lif_trajectory
from t4dm.spiking.state import LIFState
from t4dm.spiking.surrogate import REGISTRY, Surrogate

SMOOTH = Surrogate(
    "smooth",
    lambda x: torch.sigmoid(4.0 * x),
    lambda x: 4.0 * torch.sigmoid(4.0 * x) * (1.0 - torch.sigmoid(4.0 * x)),
)


def currents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("backend", ["cpu", "naive"])
def test_a_trajectory_computed_by_hand(backend: str) -> None:
    current = torch.tensor([0.6, 0.6, 0.0, 2.5, 0.0]).view(1, 5, 1)
    out = lif_trajectory(current, None, LIFParams(torch.tensor([0.5])), backend=backend)
    # h: .6 | .3+.6 | .45 | .225+2.5 -> fires | (2.725-1)/2
    assert out.membrane.flatten().tolist() == pytest.approx([0.6, 0.9, 0.45, 2.725, 0.8625])
    assert out.spikes.flatten().tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert out.state.u.item() == pytest.approx(0.8625)


def test_charge_is_conserved() -> None:
    current, alpha = currents(3, 200, 4), torch.tensor([0.5, 0.8, 0.9, 0.99], dtype=torch.float64)
    start = LIFState(currents(3, 4, seed=1))
    out = lif_trajectory(current, start, LIFParams(alpha, threshold=0.7))
    u = torch.cat([start.u.unsqueeze(1), out.membrane - 0.7 * out.spikes], dim=1)
    leaked = ((1.0 - alpha) * u[:, :-1]).sum(1)
    balance = current.sum(1) + start.u - out.state.u - leaked
    torch.testing.assert_close(0.7 * out.spikes.sum(1), balance, atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("drive", [1.05, 1.5, 3.0])
def test_the_first_spike_of_a_constant_current_comes_when_the_formula_says(
    alpha: float, drive: float
) -> None:
    current = drive * (1.0 - alpha)
    spikes, _ = lif_scan(
        torch.full((1, 200, 1), current, dtype=torch.float64),
        None,
        LIFParams(torch.tensor([alpha], dtype=torch.float64)),
    )
    expected = math.ceil(math.log(1.0 - (1.0 - alpha) / current) / math.log(alpha))
    assert int(spikes.flatten().nonzero()[0]) + 1 == expected


def test_the_reset_inside_the_leak_is_alpha_theta_and_not_theta() -> None:
    current, alpha = currents(2, 300, 8) * 0.8, torch.full((8,), 0.8, dtype=torch.float64)
    spikes, _ = lif_scan(current, None, LIFParams(alpha))

    def pre_reset_form(beta: float) -> Tensor:
        h, s, out = torch.zeros(2, 8), torch.zeros(2, 8), []
        for t in range(300):
            h = 0.8 * h + current[:, t] - beta * s
            s = (h >= 1.0).double()
            out.append(s)
        return torch.stack(out, dim=1)

    assert torch.equal(pre_reset_form(0.8), spikes)
    assert float((pre_reset_form(1.0) != spikes).double().mean()) > 0.005


SHAPES = [(1, 1, 1), (2, 1, 3), (1, 7, 1), (3, 17, 5)]


def both(
    shape: tuple[int, int, int], *, masked: bool, shifted: bool, detach: bool, surrogate: str
) -> list[tuple[LIFTrajectory, tuple[Tensor, ...]]]:
    """Outputs and gradients of all inputs for the two backends."""
    batch, steps, width = shape
    generator = torch.Generator().manual_seed(3)
    raw = [currents(*shape), torch.rand(width, generator=generator, dtype=torch.float64)]
    raw += [currents(batch, width, seed=1) * 0.3, currents(batch, steps, 1, seed=2) * 0.1]
    mask = torch.rand(batch, steps, generator=generator) > 0.3 if masked else None
    reset = torch.rand(batch, steps, generator=generator) > 0.7 if masked else None
    weights = [currents(*shape, seed=4), currents(*shape, seed=5), currents(batch, width, seed=6)]
    results = []
    for backend in ("naive", "cpu"):
        x = [part.clone().requires_grad_() for part in raw]
        out = lif_trajectory(
            x[0],
            LIFState(x[2]),
            LIFParams(x[1], 1.0, REGISTRY[surrogate], detach),
            threshold_shift=x[3] if shifted else None,
            mask=mask,
            reset=reset,
            backend=backend,
        )
        parts = (out.spikes, out.membrane, out.state.u)
        loss = sum((part * w).sum() for part, w in zip(parts, weights, strict=True))
        used = x if shifted else x[:3]
        results.append((out, torch.autograd.grad(loss, used)))
    return results


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_the_fused_scan_equals_the_naive_loop(
    shape: tuple[int, int, int], masked: bool, shifted: bool, detach: bool
) -> None:
    (naive, expected), (fused, got) = both(
        shape, masked=masked, shifted=shifted, detach=detach, surrogate="atan"
    )
    assert torch.equal(naive.spikes, fused.spikes)
    torch.testing.assert_close(fused.membrane, naive.membrane, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(fused.state.u, naive.state.u, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("detach", [False, True])
def test_every_surrogate_gives_the_fused_scan_the_gradient_of_autograd(name: str, detach: bool) -> None:
    (_, expected), (_, got) = both((3, 17, 5), masked=True, shifted=True, detach=detach, surrogate=name)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    assert float(got[0].abs().max()) > 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_the_hand_written_backward_passes_gradcheck_with_a_smooth_spike(masked: bool) -> None:
    mask = torch.tensor([[True, False, True, True], [True, True, True, False]]) if masked else None
    reset = torch.tensor([[False, False, True, False], [True, False, False, False]]) if masked else None
    inputs = [currents(2, 4, 3), torch.rand(3, dtype=torch.float64), currents(2, 3), currents(2, 4, 1) * 0.1]
    inputs = [part.requires_grad_() for part in inputs]

    def run(current: Tensor, decay: Tensor, u: Tensor, moved: Tensor) -> tuple[Tensor, ...]:
        params = LIFParams(decay, 1.0, SMOOTH, detach_reset=False)
        out = lif_trajectory(current, LIFState(u), params, threshold_shift=moved, mask=mask, reset=reset)
        return out.spikes, out.membrane, out.state.u

    assert torch.autograd.gradcheck(run, inputs)


def test_padding_freezes_the_membrane_and_silences_the_neuron() -> None:
    current = torch.tensor([2.7, 9.0, 0.0]).view(1, 3, 1)
    mask = torch.tensor([[True, False, True]])
    out = lif_trajectory(current, None, LIFParams(torch.tensor([0.5])), mask=mask)
    assert out.spikes.flatten().tolist() == [1.0, 0.0, 0.0]
    assert out.membrane.flatten().tolist() == pytest.approx([2.7, 1.7, 0.85])


def test_a_document_start_zeroes_the_membrane_of_its_row_only() -> None:
    current = torch.full((2, 3, 1), 0.4)
    reset = torch.tensor([[False, False, True], [False, False, False]])
    out = lif_trajectory(current, LIFState(torch.ones(2, 1)), LIFParams(torch.tensor([0.5])), reset=reset)
    assert out.membrane[0].flatten().tolist() == pytest.approx([0.9, 0.85, 0.4])
    assert out.membrane[1].flatten().tolist() == pytest.approx([0.9, 0.85, 0.825])


def test_gain_scales_the_current_and_a_threshold_shift_moves_spike_and_reset() -> None:
    current = torch.tensor([0.6, 0.0]).view(1, 2, 1)
    params = LIFParams(torch.tensor([0.5]))
    out = lif_trajectory(current, None, params, gain=3.0, threshold_shift=torch.full((1, 1, 1), 0.5))
    assert out.membrane.flatten().tolist() == pytest.approx([1.8, 0.15])
    assert out.spikes.flatten().tolist() == [1.0, 0.0]


def test_half_precision_currents_keep_a_full_precision_membrane() -> None:
    params = LIFParams(torch.tensor([0.999]), threshold=100.0)
    out = lif_trajectory(torch.full((1, 4000, 1), 0.001, dtype=torch.bfloat16), None, params)
    exact = float(torch.tensor(0.001, dtype=torch.bfloat16)) * (1 - 0.999**4000) / (1 - 0.999)
    assert out.state.u.dtype == torch.float32
    assert out.state.u.item() == pytest.approx(exact, rel=1e-3)
