"""At the start every stage fires, whatever comes in: rates, dead neurons, and the order of calibration."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.errors import CalibrationError
from t4dm.spiking.neuron import Neurons
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.stack import CorticalStack

ROWS, STEPS = 4, 96


def inputs(kind: str, width: int, seed: int) -> Tensor:
    """Streams `[4, 96, width]` such as a language model's: some channels and some tokens are huge."""
    x = torch.randn(ROWS, STEPS, width, generator=torch.Generator().manual_seed(seed))
    fixed = torch.randn(width, generator=torch.Generator().manual_seed(99))
    match kind:
        case "heavy tails":
            return x * (1.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 50))).exp()
        case "outlier channels":
            x[..., :2] *= 100.0
        case "constant outlier channels":
            x[..., :2] += 50.0
        case "an offset in every channel":
            x = x + 2.0 * fixed
        case "a huge first token":
            x[:, 0] *= 300.0
        case "correlated":
            for t in range(1, STEPS):
                x[:, t] = 0.9 * x[:, t - 1] + 0.19**0.5 * x[:, t]
    return x


KINDS = (
    "white",
    "correlated",
    "heavy tails",
    "outlier channels",
    "constant outlier channels",
    "an offset in every channel",
    "a huge first token",
)


@torch.no_grad()
def measured(stack: CorticalStack, h: Tensor) -> tuple[Tensor, list[float]]:
    """Mean rates `[L, 4]`, and the share of neurons that never fired of each layer."""
    recorder = SpikeRecorder(rows=ROWS)
    rates = stack(h, recorder=recorder).aux.stage_rate
    layers = [name for block in range(2) for name in recorder.names() if name.startswith(f"block{block}")]
    fired = [recorder.spikes(name).flatten(0, 1).any(dim=0) for name in layers if name.count(".") == 1]
    return rates, [1.0 - float(any_spike.float().mean()) for any_spike in fired]


def made(width: int, seed: int) -> CorticalStack:
    torch.manual_seed(seed)
    return CorticalStack(width=width, blocks=2, heads=2, capsules=4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("width", "seed", "scale"), [(32, 0, 1.0), (32, 1, 1e3), (48, 2, 0.05), (96, 3, 1.0), (64, 4, 1e-3)]
)
def test_every_stage_fires_at_its_rate_on_unseen_input_and_no_neuron_is_dead(
    width: int, seed: int, scale: float, kind: str
) -> None:
    stack = made(width, seed)
    stack.calibrate(scale * inputs(kind, width, seed=1))
    rates, dead = measured(stack, scale * inputs(kind, width, seed=2))
    assert bool(((rates[:, [0, 2, 3]] > 0.03) & (rates[:, [0, 2, 3]] < 0.08)).all()), rates
    assert bool(((rates[:, 1] > 0.1) & (rates[:, 1] < 0.2)).all()), rates
    assert len(dead) == 8
    assert max(dead) < 0.05, dead


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neurons_of_all_layers_together_fire_at_less_than_eight_percent(seed: int) -> None:
    stack = made(64, seed)
    stack.calibrate(inputs("white", 64, seed=1))
    rates, _ = measured(stack, inputs("white", 64, seed=2))
    sizes = torch.tensor([64.0, 2 * 32, 2 * 32, 64])  # of stages 2, 3 (q and k), 4 (both compartments), 6
    assert 0.05 < float((rates * sizes).sum() / (2 * sizes.sum())) < 0.08


@pytest.mark.parametrize("neuron", ["lif", "gelu"])
def test_calibration_hits_every_target_because_each_layer_waits_for_those_before_it(neuron: str) -> None:
    torch.manual_seed(0)
    stack = CorticalStack(width=32, blocks=2, heads=2, capsules=4, neuron=neuron)
    rates = stack.calibrate(30.0 + 5.0 * inputs("white", 32, seed=1))
    if neuron == "lif":
        target = torch.tensor([0.05, 0.15, 0.05, 0.05]).expand(2, 4)
        torch.testing.assert_close(rates, target, atol=5e-4, rtol=0.02)
    centres = {name: value for name, value in stack.named_buffers() if name.endswith("centre")}
    assert len(centres) == 8
    assert all(float(value.abs().max()) > 0.0 for value in centres.values())


def test_layers_calibrated_on_what_uncalibrated_ones_send_miss_their_targets() -> None:
    h, ordered, at_once = inputs("an offset in every channel", 32, seed=1), made(32, 0), made(32, 0)
    received: list[tuple[Neurons, tuple]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: received.append((layer, given)))
        for layer in at_once.modules()
        if isinstance(layer, Neurons)
    ]
    with torch.no_grad():
        at_once(h)
    for hook in hooks:
        hook.remove()
    for layer, (current, state, context, name) in received:
        layer.calibrate(current, state, context, name)
    ordered.calibrate(h)
    target = torch.tensor([0.05, 0.15, 0.05, 0.05])
    assert len(received) == 8
    assert float((measured(ordered, h)[0] / target - 1.0).abs().max()) < 0.03
    assert float((measured(at_once, h)[0] / target - 1.0).abs().max()) > 0.3


def test_calibrating_again_on_the_same_sample_changes_nothing_to_speak_of() -> None:
    stack, h = made(32, 0), inputs("heavy tails", 32, seed=1)
    stack.calibrate(h)
    first = {name: value.clone() for name, value in stack.state_dict().items()}
    stack.calibrate(h)
    for name, value in stack.state_dict().items():
        torch.testing.assert_close(value, first[name], atol=1e-3, rtol=1e-3)


def test_padding_and_memories_count_as_they_do_in_the_forward_pass() -> None:
    stack, h = made(32, 0), inputs("white", 32, seed=1)
    mask = torch.ones(ROWS, STEPS, dtype=torch.bool)
    mask[:, STEPS // 2 :] = False
    h[~mask] = 1e4
    recall = 3.0 * inputs("white", 32, seed=3)[:, :5]
    rates = stack.calibrate(h, recall=recall, mask=mask)
    with torch.no_grad():
        again = stack(h, recall=recall, mask=mask).aux.stage_rate
    assert torch.equal(rates, again)
    assert 0.045 < float(rates[:, 3].mean()) < 0.055


def test_a_sample_that_says_nothing_is_refused_and_the_layer_named() -> None:
    with pytest.raises(
        CalibrationError, match=r"^block0\.integrate fires at 0\.0% instead of 5\.0% whatever"
    ):
        made(32, 0).calibrate(torch.zeros(2, 64, 32))


@pytest.mark.parametrize("width", [32, 128])
def test_before_any_calibration_layers_fire_within_a_factor_of_two_and_a_half(width: int) -> None:
    rates, _ = measured(made(width, 0), inputs("white", width, seed=1))
    target = torch.tensor([0.05, 0.15, 0.05, 0.05])
    assert bool(((rates > 0.4 * target) & (rates < 2.5 * target)).all()), rates
