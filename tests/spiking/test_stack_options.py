"""What a stack lets one choose beside its widths: back-ends by name, first spikes, projections from zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.errors import MissingBackendError, SettingError, UnknownBackendError
from t4dm.spiking import attention_backends, lif_backends
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import FirstSpikeState, map_state, state_bytes

CPU = torch.device("cpu")


def stack(**options: Any) -> CorticalStack:
    torch.manual_seed(0)
    return CorticalStack(width=32, blocks=2, heads=2, capsules=4, chunk=4, **options)


def stream(steps: int = 15, seed: int = 1) -> Tensor:
    return torch.randn(2, steps, 32, generator=torch.Generator().manual_seed(seed))


REFERENCES = {
    "lif_backend": "naive",
    "rwkv_backend": "torch_recurrent",
    "attention_mode": "recurrent",
}


@pytest.mark.parametrize("option", REFERENCES)
def test_a_stack_runs_the_backend_that_it_was_told_and_answers_the_same(option: str) -> None:
    plain, told = stack(), stack(**{option: REFERENCES[option]})
    kernel = {"lif_backend": "lif", "rwkv_backend": "rwkv", "attention_mode": "spike attention"}[option]
    assert told.explain(CPU) == {**plain.explain(CPU), kernel: REFERENCES[option]}
    torch.testing.assert_close(told(stream()).h, plain(stream()).h, atol=1e-5, rtol=1e-4)


def test_every_layer_of_neurons_takes_it() -> None:
    told = [module.backend for module in stack(lif_backend="naive").modules() if hasattr(module, "log_gain")]
    assert told == ["naive"] * 8


@pytest.mark.parametrize(
    ("option", "kernel"),
    [("lif_backend", "LIF"), ("rwkv_backend", "rwkv"), ("attention_mode", "spike attention")],
)
def test_a_name_that_no_backend_has_is_refused_before_anything_is_built(option: str, kernel: str) -> None:
    wanted = rf"the {kernel} kernel has no backend 'magic'; .* \+\+model\.stack\.{option}=auto$"
    with pytest.raises(UnknownBackendError, match=wanted):
        stack(**{option: "magic"})


@pytest.mark.parametrize(
    ("option", "name", "kernel"),
    [("lif_backend", "triton", "LIF"), ("rwkv_backend", "fla", "rwkv")],
)
def test_a_backend_that_is_missing_here_is_named_by_explain_and_by_the_first_pass(
    option: str, name: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lif_backends, attention_backends):
        monkeypatch.setattr(module, "find_spec", lambda package: None)
    told = stack(**{option: name})
    wanted = rf"the {kernel} kernel's backend '{name}' cannot run here .* \+\+model\.stack\.{option}=auto$"
    with pytest.raises(MissingBackendError, match=wanted):
        told.explain(CPU)
    with pytest.raises(MissingBackendError, match=wanted):
        told(stream())


def test_first_spikes_change_the_output_and_are_counted_on_the_stacks_own_clock() -> None:
    plain, first = stack(), stack(first_spike=True)
    out = first(stream(steps=7))
    assert not torch.equal(plain(stream(steps=7)).h, out.h)
    for block in out.state.blocks:
        assert isinstance(block.attn.first, FirstSpikeState)
        assert torch.equal(block.attn.first.clock, out.state.clock)


@pytest.mark.parametrize("cut", [1, 6, 9])
def test_first_spikes_in_chunks_are_those_of_one_pass_and_the_state_keeps_its_size(cut: int) -> None:
    first = stack(first_spike=True)
    empty = first.init_state(2)
    whole = first(stream())
    one = first(stream()[:, :cut], empty)
    two = first(stream()[:, cut:], one.state)
    torch.testing.assert_close(torch.cat([one.h, two.h], dim=1), whole.h, atol=1e-5, rtol=1e-4)
    assert state_bytes(empty) == state_bytes(one.state) == state_bytes(two.state)
    assert map_state(lambda x: x.shape, two.state) == map_state(lambda x: x.shape, empty)


def test_first_spikes_of_neurons_that_do_not_spike_are_refused() -> None:
    with pytest.raises(SettingError, match=r"first_spike=True .* set model\.stack\.neuron=lif with it$"):
        stack(first_spike=True, neuron="gelu")


def test_with_zero_outputs_rwkv_says_nothing_at_first_and_its_projections_learn_first() -> None:
    silent = stack(zero_output=True)
    block = silent.blocks[0]
    assert not block.time_mix.out.weight.any()
    assert not block.channel_mix.value.weight.any()
    silent(stream()).h.square().sum().backward()
    assert block.time_mix.out.weight.grad.abs().max() > 0.0
    assert block.channel_mix.value.weight.grad.abs().max() > 0.0
    assert not block.time_mix.key.weight.grad.any()
    assert stack().blocks[0].time_mix.out.weight.any()
