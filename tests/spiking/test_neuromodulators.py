"""Neuromodulators: exact no-ops at the baseline, each in its own layers, and the bus that moves them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t4dm.errors import SettingError
from t4dm.spiking.neuromodulator_bus import NeuromodulatorBus
from t4dm.spiking.neuromodulators import BASELINE, REACH, Injection, Neuromod, effects, learning
from t4dm.spiking.recorder import SpikeRecorder
from t4dm.spiking.stack import CorticalStack

STAGES = ("integrate", "qk", "apical", "out")


def make(**settings: object) -> CorticalStack:
    torch.manual_seed(0)
    arguments: dict = {"width": 32, "blocks": 2, "heads": 2, "capsules": 4, **settings}
    return CorticalStack(**arguments)


def stream(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_effects_at_baseline_are_exactly_the_identity() -> None:
    assert all(factor is None for factor in effects(BASELINE))
    half = Neuromod(*(torch.full((3,), 0.5) for _ in range(4)))
    everywhere = Injection(**REACH, strength=(0.3,)).effects(half)
    for name, factor in zip(everywhere._fields, everywhere, strict=True):
        assert factor is not None
        assert torch.equal(factor, torch.full((3, 1, 1), 0.0 if name == "gate" else 1.0))


@pytest.mark.parametrize("name", Neuromod._fields)
def test_at_its_baseline_a_transmitter_leaves_the_output_bit_for_bit(name: str) -> None:
    stack = make(recall_blocks=2, injection=Injection(**REACH))
    h, recall = stream(2, 12, 32), stream(2, 5, 32, seed=2)
    others = Neuromod(0.9, 0.8, 0.7, 0.6)
    with torch.no_grad():
        plain = stack(h, recall=recall, modulators=others._replace(**{name: 0.5}))
        level = torch.full((2, 12), 0.5)
        assert torch.equal(stack(h, recall=recall, modulators=others._replace(**{name: level})).h, plain.h)
        alone = stack(h, recall=recall, modulators=BASELINE._replace(**{name: level}))
        assert torch.equal(alone.h, stack(h, recall=recall).h)
        silent = make(recall_blocks=2, injection=Injection(**{**REACH, name: ()}))
        assert torch.equal(silent(h, recall=recall, modulators=others).h, plain.h)


def test_dopamine_changes_plasticity_by_20_to_50_percent_and_monotonically() -> None:
    write = effects(Neuromod(da=torch.linspace(0.0, 1.0, 5))).write
    assert write is not None
    factors = write.flatten().tolist()
    assert factors == sorted(factors)
    assert factors == pytest.approx([0.65, 0.825, 1.0, 1.175, 1.35])


def test_levels_by_hand_at_both_ends() -> None:
    low, high = (effects(Neuromod(level, level, level, level)) for level in (0.0, 1.0))
    for name, expected in {
        "write": (0.65, 1.35),
        "gain": (0.5, 1.5),
        "gate": (-1.0, 1.0),
        "readout": (1.5, 0.5),
        "persistence": (1.4, 0.6),
    }.items():
        assert (float(getattr(low, name)), float(getattr(high, name))) == pytest.approx(expected)
    assert high.upper_gain is None
    assert high.depression is None


def drives(modulators: Neuromod, **layers: object) -> dict[str, float]:
    """How far modulation moves the membranes of each stage of a block whose stream is the same, 0 = not."""
    plain, moved = SpikeRecorder(membranes=True), SpikeRecorder(membranes=True)
    stack, h = make(blocks=1, injection=Injection(**layers)), stream(1, 1, 32)  # type: ignore[arg-type]
    with torch.no_grad():
        stack(h, recorder=plain)
        stack(h, modulators=modulators, recorder=moved)
    names = [f"block0.{stage}" for stage in STAGES]
    return {
        stage: float((moved.membrane(name) - plain.membrane(name)).abs().max())
        for stage, name in zip(STAGES, names, strict=True)
    }


def test_noradrenaline_reaches_layer_5_and_not_the_layers_above() -> None:
    found = drives(Neuromod(ne=1.0))
    assert found["integrate"] == found["qk"] == 0.0
    assert found["apical"] > 0.05
    assert found["out"] > 0.05
    upper = drives(Neuromod(ne=1.0), ne=("L2/3",))
    assert upper["integrate"] > 0.05
    assert upper["qk"] > 0.05


def test_acetylcholine_enters_before_every_stage_and_dopamine_only_where_something_is_written() -> None:
    assert drives(Neuromod(ach=1.0))["integrate"] > 0.01
    by_dopamine = drives(Neuromod(da=1.0))
    assert by_dopamine["integrate"] == by_dopamine["qk"] == 0.0


def test_serotonin_acts_after_one_token_on_what_the_recurrent_state_keeps() -> None:
    """The decay of the state acts from the second token on, in stage 5, which only stage 6 hears."""
    plain, moved = SpikeRecorder(membranes=True), SpikeRecorder(membranes=True)
    stack, h = make(blocks=1), stream(1, 9, 32)
    with torch.no_grad():
        stack(h, recorder=plain)
        stack(h, modulators=Neuromod(ht=1.0), recorder=moved)
    for stage in ("integrate", "qk", "apical"):
        assert torch.equal(moved.membrane(f"block0.{stage}"), plain.membrane(f"block0.{stage}"))
    gap = (moved.membrane("block0.out") - plain.membrane("block0.out")).abs().amax(dim=-1).flatten()
    assert float(gap[:2].max()) < 1e-6
    assert float(gap[2:].max()) > 1e-3


def test_acetylcholine_lowers_the_readout_of_what_was_recalled() -> None:
    """Recurrent input is suppressed by 40 to 65 % at the highest level (Hasselmo & Schnell 1994)."""
    stack, h, recall = make(blocks=1), stream(2, 6, 32), stream(2, 5, 32, seed=2)
    entered: list[Tensor] = []
    norm = stack.get_submodule("blocks.0.norms.0")
    norm.register_forward_hook(lambda module, args, output: entered.append(args[0]))
    with torch.no_grad():
        for level in (0.5, 1.0, 0.0):
            stack(h, recall=recall, modulators=Neuromod(ach=level))
    recalled, encoding, retrieving = (x - h for x in entered)
    torch.testing.assert_close(encoding, 0.5 * recalled)
    torch.testing.assert_close(retrieving, 1.5 * recalled)


def test_each_block_takes_up_its_own_share() -> None:
    stack, h = make(injection=Injection(strength=(0.0, 1.0))), stream(2, 10, 32)
    same = make()
    outs: dict[bool, list[Tensor]] = {False: [], True: []}
    for which, model in ((False, same), (True, stack)):
        for index in range(2):
            model.get_submodule(f"blocks.{index}").register_forward_hook(
                lambda module, args, output, kept=outs[which]: kept.append(output.h)
            )
    with torch.no_grad():
        same(h)
        stack(h, modulators=Neuromod(ne=0.9, ach=0.8))
    assert torch.equal(outs[True][0], outs[False][0])
    assert not torch.equal(outs[True][1], outs[False][1])
    half = Injection(strength=(0.5,)).effects(Neuromod(da=1.0), block=7).write
    assert half is not None
    assert float(half) == pytest.approx(1.175)


def test_no_gradient_reaches_a_level_but_where_the_ablation_asks_for_it() -> None:
    for gradient in (False, True):
        stack, h = make(injection=Injection(gradient=gradient)), stream(2, 6, 32)
        levels = [torch.full((2,), 0.6, requires_grad=True) for _ in range(4)]
        (stack(h, modulators=Neuromod(*levels)).h * stream(2, 6, 32, seed=4)).sum().backward()
        for level in levels:
            reached = level.grad is not None and float(level.grad.abs().max()) > 0.0
            assert reached == gradient


def test_a_layer_where_a_transmitter_has_nothing_to_act_on_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"injection\.ne=.*name some of L2/3, L5"):
        Injection(ne=("L4",))
    with pytest.raises(SettingError, match="one number for each block"):
        Injection(strength=())


def test_learning_rules_get_the_constants_of_the_blocks() -> None:
    levels = Neuromod(da=0.8, ne=0.9, ach=0.1, ht=0.7)
    by_level, on_block = learning(levels), effects(levels)
    assert on_block.write is not None
    assert on_block.gain is not None
    assert on_block.persistence is not None
    assert float(by_level.rate) == pytest.approx(float(on_block.write))
    assert float(by_level.surprise) == pytest.approx(float(on_block.gain))
    assert float(by_level.trace_exponent) == pytest.approx(float(on_block.persistence))
    assert float(by_level.reward) == pytest.approx(0.6)
    assert float(by_level.potentiate) == pytest.approx(0.8)
    assert float(by_level.depress) == pytest.approx(0.4)
    assert float(by_level.discount_shift) == pytest.approx(0.006)
    assert [float(value) for value in learning(BASELINE)] == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    lacking = learning(Neuromod(ne=0.1, ht=0.0))
    assert (float(lacking.potentiate), float(lacking.depress), float(lacking.surprise)) == (0.0, 0.0, 1.0)


def quiet(batch: int = 1) -> dict[str, Tensor]:
    return {"reward": torch.zeros(batch), "surprise": torch.zeros(batch), "invalidity": torch.zeros(batch)}


def event(**values: float) -> dict[str, Tensor]:
    return {**quiet(), **{name: torch.tensor([value]) for name, value in values.items()}}


def test_the_bus_rests_at_the_baseline() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(2)
    for _ in range(3):
        levels, state = bus.step(state, **quiet(2))
    assert all(level.tolist() == [0.5, 0.5] for level in levels)
    assert not any(latent.any() for latent in state[:-1])


@pytest.mark.parametrize(
    ("cause", "name"), [("reward", "da"), ("surprise", "ne"), ("invalidity", "ach"), ("reward", "ht")]
)
def test_each_event_raises_its_modulator_which_then_fades(cause: str, name: str) -> None:
    bus = NeuromodulatorBus()
    _, state = bus.step(bus.init_state(1), **quiet())
    raised, state = bus.step(state, **event(**{cause: 5.0}))
    peak = float(getattr(raised, name))
    assert peak > 0.503
    for _ in range(100):
        faded, state = bus.step(state, **quiet(), tokens=50.0)
    assert abs(float(getattr(faded, name)) - 0.5) < 0.01


def test_dopamine_is_the_clipped_td_error_and_a_tonic_mean_of_it() -> None:
    """r = 0.3, V' = 0.5, gamma = 0.98: delta = 0.79, tonic = (1 - e^(-1/50)) 0.79."""
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    levels, after = bus.step(state, **event(reward=0.3), next_value=torch.tensor([0.5]))
    delta = 0.3 + 0.98 * 0.5
    tonic = (1.0 - math.exp(-1 / 50)) * delta
    assert float(after.tonic) == pytest.approx(tonic, rel=1e-5)
    assert float(levels.da) == pytest.approx(0.5 + 0.5 * math.tanh(delta + tonic), rel=1e-5)
    much, _ = bus.step(state, **event(reward=100.0))
    enough, _ = bus.step(state, **event(reward=1.0))
    assert float(much.da) == float(enough.da)


def test_an_expected_reward_moves_dopamine_less_and_its_omission_lowers_it() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    first, state = bus.step(state, **event(reward=1.0))
    for _ in range(200):
        later, state = bus.step(state, **event(reward=1.0))
    assert 0.5 <= float(later.da) < 0.51 < float(first.da)
    omitted, _ = bus.step(state, **quiet())
    assert float(omitted.da) < 0.2


def test_noradrenaline_follows_surprise_beyond_what_is_expected_and_leaks_within_tokens() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    for _ in range(50):  # a high surprise that is always there is expected
        usual, state = bus.step(state, **event(surprise=3.0))
    assert float(usual.ne) == 0.5
    burst, state = bus.step(state, **event(surprise=6.0))
    assert float(burst.ne) == pytest.approx(0.5 + 0.5 * math.tanh(3.0 * (1.0 - math.exp(-0.1))), rel=1e-5)
    expected = 3.0 + 3.0 / 51
    latent = float(state.ne)
    _, state = bus.step(state, **event(surprise=float(state.expected_surprise)), tokens=10.0)
    assert float(state.ne) == pytest.approx(latent * math.exp(-1.0), rel=1e-4)
    assert float(state.expected_surprise) == pytest.approx(expected, rel=1e-4)


def test_noradrenaline_wipes_acetylcholine_out() -> None:
    """Unexpected uncertainty ends expected uncertainty (Yu & Dayan 2005)."""
    bus, deaf = NeuromodulatorBus(), NeuromodulatorBus(ach_reset=0.0)
    left = {}
    for name, each in (("reset", bus), ("kept", deaf)):
        state = each.init_state(1)
        for _ in range(100):
            unsure, state = each.step(state, **event(invalidity=3.0, surprise=1.0))
        assert float(unsure.ach) > 0.8
        for _ in range(10):
            levels, state = each.step(state, **event(surprise=8.0))
        left[name] = float(levels.ach)
    assert left["reset"] == pytest.approx(0.5, abs=0.02)
    assert left["kept"] > 0.75


@pytest.mark.parametrize(("name", "cause", "tau"), [("ach", "invalidity", 200.0), ("ht", "reward", 500.0)])
def test_the_slow_two_take_their_time_constant(name: str, cause: str, tau: float) -> None:
    bus = NeuromodulatorBus()
    _, state = bus.step(bus.init_state(1), **event(**{cause: 1.0}), tokens=tau)
    assert float(getattr(state, name)) == pytest.approx(1.0 - math.exp(-1.0), rel=1e-5)
    _, state = bus.step(state, **quiet(), tokens=tau)
    assert float(getattr(state, name)) == pytest.approx((1.0 - math.exp(-1.0)) * math.exp(-1.0), rel=1e-5)


def test_serotonin_makes_the_future_count_for_more() -> None:
    bus = NeuromodulatorBus()
    state = bus.init_state(1)
    assert bus.discounts(state).tolist() == pytest.approx([0.98])
    for _ in range(50):
        _, state = bus.step(state, **event(reward=3.0), tokens=500.0)
    assert 0.99 < float(bus.discounts(state)) < 1.0


def test_coupling_pulls_from_row_to_column() -> None:
    """Acetylcholine drives noradrenaline here, one step later, and nothing else."""
    matrix = [[0.0] * 4 for _ in range(4)]
    matrix[2][1] = 1.0
    coupled = NeuromodulatorBus(coupling=tuple(tuple(row) for row in matrix), ach_reset=0.0)
    plain = NeuromodulatorBus(ach_reset=0.0)
    states = [each.init_state(1) for each in (coupled, plain)]
    for _ in range(3):
        (with_pull, a), (without, b) = (
            each.step(state, **event(invalidity=3.0), tokens=50.0)
            for each, state in zip((coupled, plain), states, strict=True)
        )
        states = [a, b]
    assert float(with_pull.ne) > 0.7
    assert float(without.ne) == 0.5
    for name in ("da", "ach", "ht"):
        assert float(getattr(with_pull, name)) == float(getattr(without, name))
    with pytest.raises(SettingError, match="give 4 rows of 4 numbers"):
        NeuromodulatorBus(coupling=((0.0,),))


def test_the_sequences_of_a_batch_are_apart() -> None:
    bus = NeuromodulatorBus()
    _, state = bus.step(bus.init_state(2), **quiet(2))
    levels, _ = bus.step(state, **{**quiet(2), "surprise": torch.tensor([0.0, 9.0])})
    assert float(levels.ne[0]) == 0.5
    assert float(levels.ne[1]) > 0.6
