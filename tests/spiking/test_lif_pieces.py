"""The backward of the CPU neuron walks in pieces of time: where they are cut changes no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.spiking import lif_cpu
from t4dm.spiking.lif import LIFParams, LIFState, lif_trajectory
from t4dm.spiking.surrogate import ATAN

BATCH, STEPS, WIDTH = 2, 7, 3


def gradients(backend: str, *, detach: bool, masked: bool, shifted: bool) -> tuple[Tensor, ...]:
    """Of current, first membrane, leak and threshold shift; every output has a part in the loss."""
    random = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    current, u0 = normal(BATCH, STEPS, WIDTH).requires_grad_(), normal(BATCH, WIDTH).requires_grad_()
    decay = torch.tensor([0.5, 0.8, 0.9], dtype=torch.float64).requires_grad_()
    shift = (0.1 * normal(1, STEPS, WIDTH)).requires_grad_() if shifted else None
    on_s, on_h, on_u = normal(BATCH, STEPS, WIDTH), normal(BATCH, STEPS, WIDTH), normal(BATCH, WIDTH)
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [1] * 7]).bool() if masked else None
    reset = torch.tensor([[0, 0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0]]).bool() if masked else None
    out = lif_trajectory(
        current, LIFState(u0), LIFParams(decay, 1.0, ATAN, detach),
        threshold_shift=shift, mask=mask, reset=reset, backend=backend,
    )  # fmt: skip
    loss = (out.spikes * on_s).sum() + (out.membrane * on_h).sum() + (out.state.u * on_u).sum()
    leaves = [current, u0, decay] if shift is None else [current, u0, decay, shift]
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize(("masked", "shifted"), [(False, False), (True, False), (True, True)])
def test_pieces_of_any_length_give_the_gradients_of_the_loop(
    steps: int, detach: bool, masked: bool, shifted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lif_cpu, "PIECE", steps * BATCH * WIDTH)
    mine = gradients("cpu", detach=detach, masked=masked, shifted=shifted)
    loop = gradients("naive", detach=detach, masked=masked, shifted=shifted)
    for one, other in zip(mine, loop, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_pieces_cover_every_step_once() -> None:
    window = torch.empty(2, 1000, 3)
    for size in (1, 6, 100, 6000, 10**9):
        lif_cpu.PIECE, kept = size, lif_cpu.PIECE
        try:
            pieces = lif_cpu._pieces(window)
        finally:
            lif_cpu.PIECE = kept
        assert [step for piece in pieces for step in range(piece.start, piece.stop)] == list(range(1000))
        assert len(pieces) == max(1, -(-1000 // max(1, size // 6)))
