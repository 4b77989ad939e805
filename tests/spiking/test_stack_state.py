"""What a stack carries from token to token: how much, in which precision, and that windows are all one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.oscillators import Oscillators
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import StackState, detach_state, map_state, reset_state, state_bytes

WIDTH = 32


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(**settings: Any) -> CorticalStack:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"width": WIDTH, "blocks": 2, "heads": 2, "capsules": 4, "chunk": 8}
    return CorticalStack(**arguments | settings)


def tensors(state: StackState) -> list[Tensor]:
    found: list[Tensor] = []
    map_state(lambda tensor: (found.append(tensor), tensor)[1], state)
    return found


def test_the_size_of_a_state_by_hand() -> None:
    stack = built()
    # membranes of stages 2, 3, 4, 6; fast weights, evidence and query trace; calcium and the token before;
    # matrix state and two tokens before; rate
    block = (32 + 32 + 32 + 32) + (2 * 8 * 16 + 16 + 16) + (16 + 32) + (2 * 16 * 16 + 32 + 32) + 32
    assert state_bytes(stack.init_state(3)) == 3 * 4 * (2 * block + 1) == 25_740


def test_a_state_is_as_large_after_any_number_of_tokens_and_streaming_keeps_it() -> None:
    stack, state = built(), None
    sizes = set()
    with torch.no_grad():
        for t in range(40):
            state = stack(noise(3, 1, WIDTH, seed=t), state).state
            sizes.add(stack.state_bytes(state))
        sizes.add(stack.state_bytes(stack(noise(3, 300, WIDTH)).state))
    assert sizes == {25_740}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_in_and_the_state_is_fp32(dtype: torch.dtype) -> None:
    stack, h, recall = built(), noise(2, 20, WIDTH).to(dtype), noise(2, 5, WIDTH, seed=2).to(dtype)
    out = stack(h, recall=recall)
    assert {tensor.dtype for tensor in tensors(out.state)} == {torch.float32}
    assert out.h.dtype == torch.float32
    assert {part.dtype for part in out.aux} == {torch.float32}
    assert torch.equal(out.h, stack(h.float(), recall=recall.float()).h)


def test_under_autocast_the_state_and_the_stream_stay_fp32() -> None:
    stack, h = built(), noise(2, 20, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = stack(h, recall=noise(2, 5, WIDTH, seed=2))
    assert {tensor.dtype for tensor in tensors(out.state)} == {torch.float32}
    assert out.h.dtype == torch.float32
    assert {part.dtype for part in out.aux} == {torch.float32}


def conditions() -> dict[str, Any]:
    mask, reset = torch.ones(2, 21, dtype=torch.bool), torch.zeros(2, 21, dtype=torch.bool)
    mask[0, :3] = mask[1, 9:12] = mask[1, 20] = False
    reset[0, 8] = reset[1, 13] = reset[0, 14] = True
    levels = torch.rand(4, 2, 21, generator=torch.Generator().manual_seed(3))
    return {"mask": mask, "reset": reset, "modulators": Neuromod(*levels)}


def cut(given: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    part = {name: given[name][:, start:stop] for name in ("mask", "reset")}
    return part | {"modulators": Neuromod(*(level[:, start:stop] for level in given["modulators"]))}


@pytest.mark.parametrize("pieces", [[1] * 21, [5, 1, 8, 7], [20, 1], [8, 13]])
def test_windows_with_padding_documents_and_modulators_equal_one_long_window(pieces: list[int]) -> None:
    stack, h, given = built(), noise(2, 21, WIDTH), conditions()
    rhythm, recall = Oscillators(theta=0.1, gamma=0.05, phase_coding=0.3), noise(2, 5, WIDTH, seed=2)
    with torch.no_grad():
        whole = stack(h, recall=recall, oscillators=rhythm, **given)
        state, outs, start = None, [], 0
        for piece in pieces:
            part = cut(given, start, start + piece)
            out = stack(h[:, start : start + piece], state, recall=recall, oscillators=rhythm, **part)
            outs.append(out)
            state, start = out.state, start + piece
    valid = given["mask"]
    torch.testing.assert_close(
        torch.cat([out.h for out in outs], 1)[valid], whole.h[valid], atol=1e-5, rtol=1e-5
    )
    error = torch.cat([out.aux.prediction_error for out in outs], dim=2)[:, valid]
    torch.testing.assert_close(error, whole.aux.prediction_error[:, valid], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state, whole.state, atol=1e-5, rtol=1e-5)


def test_documents_in_one_row_equal_documents_alone() -> None:
    stack, h = built(), noise(1, 24, WIDTH)
    starts = [0, 5, 6, 17, 24]
    reset = torch.zeros(1, 24, dtype=torch.bool)
    reset[0, starts[:-1]] = True
    with torch.no_grad():
        packed = stack(h, stack(noise(1, 9, WIDTH, seed=4)).state, reset=reset)
        for start, stop in itertools.pairwise(starts):
            alone = stack(h[:, start:stop])
            torch.testing.assert_close(packed.h[:, start:stop], alone.h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed.state, alone.state, atol=1e-5, rtol=1e-5)


def test_rows_padded_on_different_sides_equal_the_rows_alone() -> None:
    stack, rows = built(), [noise(1, length, WIDTH, seed=length) for length in (12, 7, 9)]
    batch, mask = torch.full((3, 12, WIDTH), 50.0), torch.zeros(3, 12, dtype=torch.bool)
    places = [slice(0, 12), slice(5, 12), slice(0, 9)]  # none, left, right
    for index, (row, place) in enumerate(zip(rows, places, strict=True)):
        batch[index, place], mask[index, place] = row[0], True
    with torch.no_grad():
        out = stack(batch, mask=mask)
        for index, (row, place) in enumerate(zip(rows, places, strict=True)):
            alone = stack(row)
            torch.testing.assert_close(out.h[index, place], alone.h[0], atol=1e-5, rtol=1e-5)
            for one, other in zip(tensors(out.state), tensors(alone.state), strict=True):
                torch.testing.assert_close(one[index], other[0], atol=1e-5, rtol=1e-5)


def test_what_stands_on_padding_never_matters() -> None:
    stack, h, mask = built(), noise(2, 12, WIDTH), torch.ones(2, 12, dtype=torch.bool)
    mask[0, :4] = mask[1, 6:] = False
    other = torch.where(mask.unsqueeze(-1), h, 1e3 * noise(2, 12, WIDTH, seed=5))
    with torch.no_grad():
        one, two = stack(h, mask=mask), stack(other, mask=mask)
    assert torch.equal(one.h[mask], two.h[mask])
    for a, b in zip(tensors(one.state), tensors(two.state), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.aux.rate, two.aux.rate)


def test_a_state_begins_at_zero_and_forgets_by_row() -> None:
    stack = built()
    assert all(float(tensor.abs().max()) == 0.0 for tensor in tensors(stack.init_state(2)))
    with torch.no_grad():
        state = stack(noise(3, 20, WIDTH)).state
    for rows in ([1], torch.tensor([1])):
        for old, new in zip(tensors(state), tensors(reset_state(state, rows)), strict=True):
            assert float(new[1].abs().max()) == 0.0
            assert torch.equal(new[[0, 2]], old[[0, 2]])
    assert all(float(tensor.abs().max()) > 0.0 for tensor in tensors(state))


def test_a_detached_state_keeps_its_values_and_cuts_the_gradient_there() -> None:
    stack, first = built(), noise(2, 6, WIDTH).requires_grad_()
    state = stack(first).state
    assert any(tensor.grad_fn is not None for tensor in tensors(state))
    for old, new in zip(tensors(state), tensors(detach_state(state)), strict=True):
        assert torch.equal(old, new)
        assert new.grad_fn is None
    stack(noise(2, 6, WIDTH, seed=2), detach_state(state)).h.sum().backward()
    assert first.grad is None
    stack(noise(2, 6, WIDTH, seed=2), state).h.square().sum().backward()
    assert first.grad is not None
    assert float(first.grad.abs().max()) > 0.0
