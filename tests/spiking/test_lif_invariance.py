"""However a text is cut, padded or packed, every document's neurons see the same thing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.spiking.lif import LIFParams, LIFState, LIFTrajectory, lif_trajectory
from t4dm.spiking.state import detach_state

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["naive", "cpu", pytest.param("triton", marks=pytest.mark.gpu)]
WIDTH = 6
PARAMS = LIFParams(torch.linspace(0.3, 0.98, WIDTH, device=DEVICE), threshold=0.8)


def currents(batch: int, steps: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, WIDTH, generator=random).to(DEVICE)


def start(batch: int, seed: int = 9) -> LIFState:
    return LIFState(0.5 * currents(batch, 1, seed)[:, 0])


def run(current: Tensor, state: LIFState | None, backend: str, **options: Tensor) -> LIFTrajectory:
    return lif_trajectory(current, state, PARAMS, backend=backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cuts", [[13], [1, 12], [5, 5, 3], [1] * 13], ids=str)
def test_chunks_with_carried_state_are_the_whole_to_the_last_bit(cuts: list[int], backend: str) -> None:
    current, state, spikes, membrane = currents(3, 13), start(3), [], []
    whole = run(current, state, backend)
    for part in current.split(cuts, dim=1):
        out = run(part, state, backend)
        state = out.state
        spikes.append(out.spikes)
        membrane.append(out.membrane)
    assert torch.equal(torch.cat(spikes, 1), whole.spikes)
    assert torch.equal(torch.cat(membrane, 1), whole.membrane)
    assert torch.equal(state.u, whole.state.u)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_flow_through_carried_state_unless_it_is_detached(backend: str) -> None:
    def gradient(cut: int | None, detach: bool) -> Tensor:
        current = currents(2, 10).requires_grad_()
        if cut is None:
            return torch.autograd.grad(run(current, None, backend).membrane[:, -1].sum(), current)[0]
        first = run(current[:, :cut], None, backend)
        state = detach_state(first.state) if detach else first.state
        return torch.autograd.grad(run(current[:, cut:], state, backend).membrane[:, -1].sum(), current)[0]

    torch.testing.assert_close(gradient(4, False), gradient(None, False), atol=1e-6, rtol=0.0)
    assert torch.equal(gradient(4, True)[:, :4], torch.zeros(2, 4, WIDTH, device=DEVICE))
    assert float(gradient(4, False)[:, :4].abs().max()) > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("garbage", [0.0, 7.0, float("inf"), float("nan")])
@pytest.mark.parametrize("places", [[0, 1, 2], [9, 10, 11], [0, 4, 5, 11]], ids=["left", "right", "inside"])
def test_padding_anywhere_and_of_anything_changes_nothing(
    places: list[int], garbage: float, backend: str
) -> None:
    mask = torch.ones(2, 12, dtype=torch.bool, device=DEVICE)
    mask[:, places] = False
    text = currents(2, 12 - len(places)).requires_grad_()
    padded = torch.full((2, 12, WIDTH), garbage, device=DEVICE)
    padded[mask] = text.detach().flatten(0, 1)
    padded.requires_grad_()

    bare, out = run(text, start(2), backend), run(padded, start(2), backend, mask=mask)
    assert torch.equal(out.spikes[mask], bare.spikes.flatten(0, 1))
    assert torch.equal(out.membrane[mask], bare.membrane.flatten(0, 1))
    assert torch.equal(out.state.u, bare.state.u)
    assert not out.spikes[~mask].any()

    weights = currents(2, 12 - len(places), seed=5)
    expected = torch.autograd.grad((bare.spikes * weights).sum(), text)[0]
    got = torch.autograd.grad((out.spikes[mask] * weights.flatten(0, 1)).sum(), padded)[0]
    torch.testing.assert_close(got[mask], expected.flatten(0, 1), atol=1e-6, rtol=0.0)
    assert not got[~mask].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_documents_packed_in_one_row_are_the_documents_alone(backend: str) -> None:
    documents = [currents(1, steps, seed) for seed, steps in enumerate((5, 1, 7))]
    packed = torch.cat(documents, 1).requires_grad_()
    reset = torch.zeros(1, 13, dtype=torch.bool, device=DEVICE)
    reset[0, [0, 5, 6]] = True
    out = run(packed, start(1), backend, reset=reset)
    alone = [run(document, None, backend) for document in documents]
    assert torch.equal(out.spikes, torch.cat([one.spikes for one in alone], 1))
    assert torch.equal(out.membrane, torch.cat([one.membrane for one in alone], 1))
    assert torch.equal(out.state.u, alone[-1].state.u)

    gradient = torch.autograd.grad(out.membrane[:, 6:].sum(), packed)[0]
    assert not gradient[:, :6].any()
    assert gradient[:, 6:].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_document_that_starts_on_padding_starts_at_zero(backend: str) -> None:
    current = currents(1, 4)
    reset = torch.tensor([[False, True, False, False]], device=DEVICE)
    mask = torch.tensor([[True, False, True, True]], device=DEVICE)
    out = run(current, start(1), backend, reset=reset, mask=mask)
    alone = run(current[:, 2:], None, backend)
    assert torch.equal(out.membrane[:, 2:], alone.membrane)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_comes_later_does_not_change_a_bit_of_the_past(backend: str) -> None:
    current = currents(2, 9)
    changed = current.clone()
    changed[:, 5:] += 3.0
    before, after = run(current, None, backend), run(changed, None, backend)
    assert torch.equal(before.spikes[:, :5], after.spikes[:, :5])
    assert torch.equal(before.membrane[:, :5], after.membrane[:, :5])
    assert not torch.equal(before.spikes, after.spikes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_is_full_precision_of_the_rounded_current(dtype: torch.dtype, backend: str) -> None:
    half = currents(2, 40).to(dtype)
    state = LIFState(start(2).u.to(dtype))
    out = run(half, state, backend)
    full = run(half.float(), LIFState(state.u.float()), backend)
    assert out.state.u.dtype == out.membrane.dtype == torch.float32
    assert torch.equal(out.spikes, full.spikes)
    assert torch.equal(out.membrane, full.membrane)
