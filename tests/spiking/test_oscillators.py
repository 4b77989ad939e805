"""Rhythms: frequencies, nesting by an outside measure, encoding against retrieval, exact silence at 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import hilbert
from torch import Tensor

from t4dm.spiking.oscillators import Oscillators, oscillator_signal, threshold_shift
from t4dm.spiking.stack import CorticalStack

MS = 0.001
SILENT = Oscillators(theta=0.0, gamma=0.0, delta=0.0, phase_coding=0.0)


def bias(o: Oscillators, *, steps: int, width: int = 1) -> Tensor:
    """The bias current `[T, width]` in fp64."""
    clock = torch.arange(float(steps), dtype=torch.float64).unsqueeze(0)
    return -threshold_shift(oscillator_signal(clock, o), width)[0]


def band(x: NDArray[np.float64], low: float, high: float, dt: float) -> NDArray[np.complex128]:
    """The analytic signal of what lies between two frequencies."""
    spectrum, hz = np.fft.rfft(x), np.fft.rfftfreq(len(x), dt)
    return np.asarray(hilbert(np.fft.irfft(np.where((hz >= low) & (hz <= high), spectrum, 0.0), len(x))))


def modulation_index(
    phase: NDArray[np.float64], amplitude: NDArray[np.float64], bins: int = 18
) -> tuple[float, NDArray[np.float64]]:
    """Tort et al. 2010, J. Neurophysiol. 104:1195: how far mean amplitudes by phase are from uniform."""
    index = np.floor((phase + np.pi) / (2 * np.pi) * bins).astype(int) % bins
    mean = np.array([amplitude[index == j].mean() for j in range(bins)])
    p = mean / mean.sum()
    return float((np.log(bins) + (p * np.log(p)).sum()) / np.log(bins)), p


@pytest.mark.parametrize(("name", "hz", "low", "high"), [("theta", 6, 4, 8), ("gamma", 40, 30, 100)])
def test_a_rhythm_has_its_frequency_and_advances_by_it(name: str, hz: float, low: float, high: float) -> None:
    o = SILENT._replace(**{name: 1.0}, nesting=0.0, token_seconds=MS)
    current = bias(o, steps=1000).flatten()
    assert int(torch.fft.rfft(current).abs().argmax()) == hz
    assert low <= hz <= high
    phases = torch.arange(4, dtype=torch.float64) * 2.0 * math.pi * hz * MS
    torch.testing.assert_close(current[:4], torch.cos(phases))


def test_delta_takes_a_second() -> None:
    current = bias(SILENT._replace(delta=0.3), steps=40)  # tokens of 25 ms
    torch.testing.assert_close(current[[0, 10, 20, 30], 0], torch.tensor([0.3, 0, -0.3, 0]).double())


@pytest.mark.parametrize(("depth", "figure"), [(0.25, 0.0054), (0.5, 0.0224), (1.0, 0.106)])
def test_gamma_is_nested_in_theta_as_deep_as_asked_by_torts_index(depth: float, figure: float) -> None:
    """Filtered from the current itself, 18 bins; ten times the index of shuffled phases at least."""
    o = SILENT._replace(theta=0.1, gamma=0.1, nesting=depth, token_seconds=MS)
    current = bias(o, steps=20_000).numpy().ravel()
    current = current + 1e-3 * np.random.default_rng(0).normal(size=len(current))
    phase = np.angle(band(current, 4.0, 12.0, MS))
    amplitude = np.abs(band(current, 30.0, 100.0, MS))
    found, shares = modulation_index(phase, amplitude)
    assert found == pytest.approx(figure, rel=0.05)
    assert int(shares.argmax()) in (8, 9)  # around phase 0, theta's peak
    shuffled, _ = modulation_index(np.random.default_rng(1).permutation(phase), amplitude)
    assert found >= 10.0 * shuffled
    assert 4.0 <= o.gamma_hz / o.theta_hz <= 9.0


def test_without_nesting_gamma_does_not_know_theta() -> None:
    current = bias(SILENT._replace(theta=0.1, gamma=0.1, nesting=0.0, token_seconds=MS), steps=20_000)
    raw = current.numpy().ravel()
    found, _ = modulation_index(np.angle(band(raw, 4.0, 12.0, MS)), np.abs(band(raw, 30.0, 100.0, MS)))
    assert found < 1e-4


def test_encoding_peaks_in_thetas_trough_and_retrieval_half_a_cycle_later() -> None:
    signal = oscillator_signal(
        torch.arange(400.0).unsqueeze(0), Oscillators(phase_coding=0.5, theta=1.0, token_seconds=MS)
    )
    cycle = slice(0, 166)
    encode, retrieve, theta = (
        part.flatten()[cycle] for part in (signal.encode, signal.retrieve, signal.slow)
    )
    assert int(encode.argmax()) == int(theta.argmin())
    assert int(retrieve.argmax()) == int(theta.argmax())
    gap = abs(int(encode.argmax()) - int(retrieve.argmax())) * MS * 6.0 * 360.0
    assert gap == pytest.approx(180.0, abs=5.0)
    assert float(encode.max() / encode.min()) == pytest.approx(3.0, rel=0.01)
    third = oscillator_signal(torch.arange(400.0).unsqueeze(0), Oscillators(phase_coding=1 / 3))
    assert float(third.encode.max() / third.encode.min()) == pytest.approx(2.0, rel=0.01)


def test_the_replay_gate_is_open_in_one_half_of_each_delta_cycle() -> None:
    up = oscillator_signal(torch.arange(1000.0).unsqueeze(0), SILENT._replace(token_seconds=MS)).up_state
    runs = up.flatten().bool()
    assert bool(runs[:250].all())
    assert not bool(runs[251:750].any())
    assert bool(runs[751:].all())


def test_gamma_gives_each_neuron_its_own_phase() -> None:
    """On the token clock gamma is always at the same phase: without an offset it would be a constant."""
    signal = oscillator_signal(torch.zeros(1, 1), Oscillators(theta=0.0, gamma=0.1))
    moved = threshold_shift(signal, 4).flatten()
    torch.testing.assert_close(moved, torch.tensor([-0.1, 0.0, 0.1, 0.0]), atol=1e-7, rtol=1e-5)
    tokens = bias(SILENT._replace(gamma=0.1, nesting=0.0), steps=7, width=4)
    torch.testing.assert_close(tokens, tokens[:1].expand(7, 4), atol=1e-12, rtol=0.0)


def test_by_default_no_rhythm_moves_a_threshold_by_more_than_a_tenth() -> None:
    assert float(bias(Oscillators(), steps=400, width=64).abs().max()) <= 0.1


def test_a_rhythm_of_amplitude_zero_is_bit_for_bit_no_rhythm_and_a_small_one_is_not() -> None:
    torch.manual_seed(0)
    stack = CorticalStack(width=32, blocks=2, heads=2, capsules=4)
    h = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        base = stack(h).h
        assert torch.equal(stack(h, oscillators=SILENT).h, base)
        for name in ("theta", "gamma", "delta", "phase_coding"):
            assert not torch.equal(stack(h, oscillators=SILENT._replace(**{name: 0.1})).h, base), name


def test_phases_start_anew_with_every_document() -> None:
    torch.manual_seed(0)
    stack = CorticalStack(width=32, blocks=1, heads=2, capsules=4)
    h = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(1))
    reset = torch.zeros(1, 12, dtype=torch.bool)
    reset[0, 5] = True
    rhythm = Oscillators(theta=0.1, gamma=0.1, delta=0.1, phase_coding=0.4)
    with torch.no_grad():
        both, second = stack(h, oscillators=rhythm, reset=reset).h, stack(h[:, 5:], oscillators=rhythm).h
        torch.testing.assert_close(both[:, 5:], second, atol=1e-5, rtol=1e-5)
        late = stack(h[:, 5:], stack.init_state(1)._replace(clock=torch.full((1,), 5.0)), oscillators=rhythm)
    assert float((late.h - second).abs().max()) > 1e-3


def test_a_stack_with_rhythms_of_its_own_runs_by_them_unless_told_otherwise() -> None:
    rhythm = Oscillators(theta=0.1, gamma=0.05)
    h = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))
    outs = []
    for own in (None, rhythm):
        torch.manual_seed(0)
        stack = CorticalStack(width=32, blocks=1, heads=2, capsules=4, oscillators=own)
        with torch.no_grad():
            outs.append([stack(h, oscillators=given).h for given in (None, rhythm, SILENT)])
    plain, with_own = outs
    assert torch.equal(with_own[0], plain[1])
    assert torch.equal(with_own[2], plain[0])
    assert not torch.equal(plain[0], plain[1])
