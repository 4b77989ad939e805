"""All forms are one function, in outputs, states and gradients; none looks ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from t4dm.spiking.context import PLAIN, Context, make_context
from t4dm.spiking.rwkv import rwkv6
from t4dm.spiking.spike_attention import FastWeights, STDPWindow, stdp_attention

BATCH, HEADS, KEYS, VALUES = 2, 2, 3, 4
STEPS = [1, 15, 64, 65, 257]
KINDS = ["plain", "mask", "reset", "mask and reset"]
Form = Callable[..., tuple[Tensor, Any]]


def places(steps: int, kind: str) -> Context:
    generator = torch.Generator().manual_seed(9)
    mask = torch.rand(BATCH, steps, generator=generator) > 0.3 if "mask" in kind else None
    reset = torch.rand(BATCH, steps, generator=generator) > 0.9 if "reset" in kind else None
    return make_context(mask=mask, reset=reset)


def attention_inputs(steps: int) -> dict[str, Tensor]:
    """Spikes, values, state, window and modulation; depression outgrows some keys, so that signs turn."""
    g = torch.Generator().manual_seed(steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    wide = (BATCH, steps, HEADS, KEYS)
    return {
        "q": (uniform(*wide) < 0.3).double(),
        "k": (uniform(*wide) < 0.3).double(),
        "v": normal(BATCH, steps, HEADS, VALUES),
        "S": normal(BATCH, HEADS, KEYS, VALUES),
        "z": uniform(BATCH, HEADS * KEYS),
        "ybar": uniform(BATCH, HEADS * KEYS),
        "plus": -0.6 * uniform(HEADS, KEYS),
        "minus": -0.6 * uniform(HEADS, KEYS),
        "a_plus": 0.5 + uniform(HEADS, 1),
        "a_minus": 0.5 + uniform(HEADS, 1),
        "write": 0.5 + uniform(BATCH, steps, 1),
        "depression": 0.5 + uniform(BATCH, 1, 1),
    }


def attention(x: dict[str, Tensor], mode: str, context: Context = PLAIN) -> tuple[Tensor, FastWeights]:
    return stdp_attention(
        x["q"],
        x["k"],
        x["v"],
        FastWeights(x["S"], x["z"], x["ybar"]),
        STDPWindow(x["plus"], x["minus"], x["a_plus"], x["a_minus"]),
        mode=mode,
        context=context,
        write=x.get("write"),
        depression=x.get("depression"),
        chunk=16,
    )


def rwkv_inputs(steps: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(steps)
    r, k, v, w = torch.randn(4, BATCH, steps, HEADS, KEYS, generator=g, dtype=torch.float64)
    S = torch.randn(BATCH, HEADS, KEYS, KEYS, generator=g, dtype=torch.float64)
    u = torch.randn(HEADS, KEYS, generator=g, dtype=torch.float64)
    x = {"r": r, "k": k, "v": v, "w": -0.6065 * torch.sigmoid(2.0 * w), "u": u, "S": S}
    return {name: part.to(dtype) for name, part in x.items()}


def rwkv(x: dict[str, Tensor], backend: str, context: Context = PLAIN) -> tuple[Tensor, Tensor]:
    return rwkv6(*x.values(), backend=backend, context=context, chunk=16)


def both_ways(form: Form, inputs: dict[str, Tensor], name: str, context: Context) -> dict[str, Tensor]:
    """Output, state after the last token and the gradients of every input."""
    leaves = {key: part.clone().requires_grad_() for key, part in inputs.items()}
    out, state = form(leaves, name, context)
    states = [state] if isinstance(state, Tensor) else list(state)
    g = torch.Generator().manual_seed(0)
    loss = sum((x * torch.randn(x.shape, generator=g, dtype=x.dtype)).sum() for x in (out, *states))
    grads = torch.autograd.grad(loss, list(leaves.values()))  # type: ignore[arg-type]
    told = {"out": out.detach(), **{f"state {i}": x.detach() for i, x in enumerate(states)}}
    return {**told, **{f"gradient of {key}": x for key, x in zip(leaves, grads, strict=True)}}


def worst(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest error against the largest entry, over everything compared."""
    assert mine.keys() == theirs.keys()
    size = {name: float(part.abs().max()) for name, part in theirs.items()}
    assert all(float(mine[name].abs().max()) == 0.0 for name in size if size[name] == 0.0)
    return max(
        float((mine[name] - theirs[name]).abs().max()) / size[name] for name in size if size[name] > 0.0
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["recurrent", "chunk"])
def test_spike_attention_is_its_quadratic_form_to_1e_12(steps: int, kind: str, mode: str) -> None:
    inputs, context = attention_inputs(steps), places(steps, kind)
    exact = both_ways(attention, inputs, "quadratic", context)
    assert worst(both_ways(attention, inputs, mode, context), exact) < 1e-12


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("kind", KINDS)
def test_rwkv_chunks_are_the_recurrence_to_1e_12(steps: int, kind: str) -> None:
    inputs, context = rwkv_inputs(steps), places(steps, kind)
    exact = both_ways(rwkv, inputs, "torch_recurrent", context)
    assert worst(both_ways(rwkv, inputs, "torch_chunk", context), exact) < 1e-12


FORMS = [
    *(pytest.param(attention, attention_inputs, m, id=m) for m in ("quadratic", "recurrent", "chunk")),
    *(pytest.param(rwkv, rwkv_inputs, b, id=b) for b in ("torch_recurrent", "torch_chunk")),
]
PER_TOKEN = ("q", "k", "v", "r", "w", "write")


@pytest.mark.parametrize(("form", "make", "name"), FORMS)
@pytest.mark.parametrize("steps", [16, 37])
def test_a_change_of_the_last_token_leaves_every_earlier_output_bit_identical(
    form: Form, make: Callable[[int], dict[str, Tensor]], name: str, steps: int
) -> None:
    inputs = {key: part.float() for key, part in make(steps).items()}
    changed = {key: part.clone() for key, part in inputs.items()}
    for key in changed.keys() & PER_TOKEN:
        changed[key][:, -1] = -0.3 if key == "w" else 1e4
    for state in (PLAIN, places(steps, "mask and reset")):
        a, b = form(inputs, name, state)[0], form(changed, name, state)[0]
        assert torch.equal(a[:, :-1], b[:, :-1])
        assert state is not PLAIN or not torch.equal(a[:, -1], b[:, -1])


@pytest.mark.parametrize(("form", "make", "name"), FORMS)
@pytest.mark.parametrize("pieces", [[1] * 37, [16, 1, 20], [5, 32]])
def test_streaming_in_pieces_is_one_window(
    form: Form, make: Callable[[int], dict[str, Tensor]], name: str, pieces: list[int]
) -> None:
    inputs, context = make(37), places(37, "mask and reset")
    assert context.mask is not None
    assert context.reset is not None
    whole, after = form(inputs, name, context)
    cut = {key: part.split(pieces, 1) for key, part in inputs.items() if key in PER_TOKEN}
    mask, reset = context.mask.split(pieces, 1), context.reset.split(pieces, 1)
    outs, carried = [], inputs
    for i in range(len(pieces)):
        now = {**carried, **{key: part[i] for key, part in cut.items()}}
        now = {key: now[key] for key in inputs}
        out, state = form(now, name, make_context(mask=mask[i], reset=reset[i]))
        fresh = {"S": state} if isinstance(state, Tensor) else state._asdict()
        carried = {**inputs, **fresh}
        outs.append(out)
    torch.testing.assert_close(torch.cat(outs, 1), whole, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state, after, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("form", "make", "name"), FORMS)
def test_what_stands_on_padding_changes_nothing(
    form: Form, make: Callable[[int], dict[str, Tensor]], name: str
) -> None:
    inputs, context = make(37), places(37, "mask")
    assert context.mask is not None
    changed = dict(inputs)
    for key in inputs.keys() & PER_TOKEN:
        shape = (*context.mask.shape, *[1] * (inputs[key].dim() - 2))
        other = torch.full_like(inputs[key], -0.5 if key == "w" else 7.0)
        changed[key] = torch.where(context.mask.view(shape), inputs[key], other)
    a, b = form(inputs, name, context), form(changed, name, context)
    assert torch.equal(a[0][context.mask], b[0][context.mask])
    torch.testing.assert_close(b[1], a[1], atol=0.0, rtol=0.0)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.mm):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("form", "make", "name"), [FORMS[2], FORMS[4]])
@pytest.mark.parametrize("steps", [32, 512])
def test_chunks_take_four_products_forward_and_eight_back_whatever_the_length(
    form: Form, make: Callable[[int], dict[str, Tensor]], name: str, steps: int
) -> None:
    leaves = {key: part.requires_grad_() for key, part in make(steps).items()}
    with Products() as forward:
        out, _ = form(leaves, name)
    with Products() as backward:
        out.sum().backward()
    assert (forward.count, backward.count) == (4, 8)


def test_the_state_of_a_window_does_not_grow_with_it() -> None:
    short, long = (attention(attention_inputs(steps), "chunk")[1] for steps in (1, 257))
    assert [x.shape for x in short] == [x.shape for x in long]
