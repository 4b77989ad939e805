"""Phase 2: local learning on the stack's synapses and on nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from t4dm.data.loader import BatchLoader
from t4dm.errors import NothingToTrainError
from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.three_factor_phase import ThreeFactorPhase


def phase(world, **options):
    if world.model.stack is not None:
        with torch.no_grad():
            world.model.exit.gamma.fill_(0.5)  # a phase 1 has opened the door of the stack
    return ThreeFactorPhase(model=world.model, memory=world.memory, clock=world.clock, **options)


@pytest.mark.parametrize("signal", ["reward", "loss", "stdp", "bcm"])
def test_exactly_the_synapses_change(make_world, signal):
    world = make_world(rounds=2)
    module = phase(world, signal=signal)
    before = {name: p.detach().clone() for name, p in world.model.named_parameters()}
    writes = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    trainer = world.trainer(writes, limit_val_batches=0)
    trainer.fit(module, world.data)
    moved = {name for name, p in world.model.named_parameters() if not torch.equal(p, before[name])}
    named = {p: name for name, p in world.model.named_parameters()}
    assert moved == {named[synapse.linear.weight] for synapse in module.synapses}
    assert moved == {
        f"stack.blocks.{b}.{part}.weight"
        for b in (0, 1)
        for part in ("attention.qk", "apical.basal", "apical.apical")
    }
    assert trainer.global_step == 6
    assert all(p.grad is None for p in world.model.parameters())


def test_reward_needs_no_gradient_at_all(make_world):
    world = make_world()
    module = phase(world, signal="reward")
    assert not any(p.requires_grad for p in world.model.parameters())
    wake = module._listen(next(iter(world.data.train_dataloader())), ThreeFactor(list(_weights(module))))
    assert not wake.loss.requires_grad


def test_the_drift_of_a_day_is_capped(make_world):
    world = make_world(rounds=2)
    module = phase(world, signal="loss", lr=1e6, max_dw=1e6, max_drift=0.01)
    before = [w.detach().clone() for w in _weights(module)]
    world.trainer(limit_val_batches=0, limit_train_batches=3).fit(module, world.data)
    change = [((w - b).norm() / b.norm()).item() for w, b in zip(_weights(module), before, strict=True)]
    assert max(change) <= 0.01 * 1.001
    assert max(change) > 0.005


def test_a_loss_below_its_mean_is_a_reward(make_world):
    module = phase(make_world())
    rule = module.configure_optimizers()
    assert module._modulator(2.0, rule) == 0.0  # nothing to compare with yet
    assert rule.param_groups[0]["loss_mean"] == 2.0
    module._modulator(3.0, rule)
    group = rule.param_groups[0]
    mean, variance = 2.0 + 0.05, 0.95 * 0.05
    assert group["loss_mean"] == pytest.approx(mean)
    assert group["loss_variance"] == pytest.approx(variance)
    assert module._modulator(1.0, rule) == pytest.approx(math.tanh((mean - 1.0) / math.sqrt(variance)))
    assert module._modulator(9.0, rule) < 0


def test_with_the_loss_as_signal_the_step_descends_and_surprise_teaches_more(make_world):
    module = phase(make_world(), signal="loss", ne_gain=0.5)
    rule = module.configure_optimizers()
    assert module._modulator(2.0, rule) == -1.0
    module._modulator(2.5, rule)
    assert module._modulator(1.0, rule) == -1.0
    assert -1.5 <= module._modulator(50.0, rule) < -1.2


def test_following_the_loss_lowers_it(make_world):
    world, losses = make_world(), []
    module = phase(world, signal="loss", lr=1.0, max_dw=1.0, max_drift=10.0, ne_gain=0.0)
    step = module.training_step

    def watched(batch, batch_idx):
        out = step(batch, batch_idx)
        losses.append(out["loss"].item())
        return out

    module.training_step = watched
    batch = next(iter(world.data.train_dataloader()))
    world.trainer(limit_val_batches=0).fit(module, BatchLoader(batch_at=lambda epoch, step: batch, steps=8))
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_the_loss_signal_points_along_the_gradient_of_the_latest_batch(make_world):
    world = make_world()
    module = phase(world, signal="loss", lr=0.0)
    world.trainer(limit_val_batches=0).fit(module, world.data)
    rule = module.optimizers().optimizer
    last = list(world.data.train_dataloader())[-1]
    gradients = torch.autograd.grad(module.wake(last).ce, _weights(module))
    kept = [rule.state[weight]["eligibility"] for weight in _weights(module)]
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in (kept, gradients))
    # what flows through membranes instead of spikes is left out, as e-prop leaves it out
    assert torch.cosine_similarity(a, b, dim=0).item() > 0.8


def test_a_night_begins_a_new_day(make_world):
    world = make_world()
    module = phase(world, signal="loss", lr=1e6, max_dw=1e6, max_drift=0.01)
    world.trainer(limit_val_batches=0).fit(module, world.data)
    rule = module.optimizers().optimizer
    assert max(rule.drift().values()) == pytest.approx(0.01, rel=1e-3)
    module.after_night(None)
    assert set(rule.drift().values()) == {0.0}


def test_noradrenaline_cashes_in_ltp_and_serotonin_ltd(make_world):
    """A loss above all before is a surprise, a loss that keeps falling a reward."""
    module = phase(make_world(), signal="stdp")
    rule, batch = module.configure_optimizers(), next(iter(module_batches(module)))
    assert module._modulators(2.0, rule, batch) == (0.0, 0.0)
    for loss in (2.1, 1.9, 2.0):
        module._modulators(loss, rule, batch)
    potentiate, depress = module._modulators(6.0, rule, batch)
    assert potentiate > 0.5
    assert depress == 0.0
    for n in range(60):
        potentiate, depress = module._modulators(5.0 - 0.08 * n, rule, batch)
    assert potentiate == 0.0
    assert depress > 0.1
    assert 0.98 < module._tape(rule).trace_decay < 0.98**0.6  # rewarded for long: patient
    assert module._tape(module.configure_optimizers()).trace_decay == 0.98


def module_batches(module):
    length = 48
    yield {"input_ids": torch.zeros(2, length, dtype=torch.long)}


def test_two_traces_and_the_bus_are_in_the_state_of_the_rule(make_world):
    world = make_world(rounds=2)
    module = phase(world, signal="stdp")
    world.trainer(limit_val_batches=0).fit(module, world.data)
    rule = module.optimizers().optimizer
    for weight in _weights(module):
        kept = rule.state[weight]
        assert float(kept["eligibility"].min()) >= 0.0
        assert float(kept["depression"].min()) >= 0.0
        assert float(kept["eligibility"].max()) > 0.0
    other = ThreeFactor(_weights(module))
    other.load_state_dict(rule.state_dict())
    saved, loaded = rule.param_groups[0]["bus"], other.param_groups[0]["bus"]
    assert all(torch.equal(a, b) for a, b in zip(saved, loaded, strict=True))


def test_thresholds_of_bcm_slide_from_batch_to_batch_in_the_state_of_the_rule(make_world):
    world = make_world(rounds=2)
    module = phase(world, signal="bcm")
    world.trainer(limit_val_batches=0, limit_train_batches=1).fit(module, world.data)
    rule = module.optimizers().optimizer
    once = [level.clone() for level in rule.param_groups[0]["theta"]]
    assert [len(level) for level in once] == [len(weight) for weight in _weights(module)]
    assert all(bool((level != 1.0).any()) for level in once)
    module._listen(next(iter(world.data.train_dataloader())), rule)
    assert not torch.equal(rule.param_groups[0]["theta"][0], once[0])
    other = ThreeFactor(_weights(module))
    other.load_state_dict(rule.state_dict())
    saved, loaded = rule.param_groups[0]["theta"], other.param_groups[0]["theta"]
    assert all(torch.equal(a, b) for a, b in zip(saved, loaded, strict=True))


def test_in_the_morning_neurons_return_towards_their_rate_only_where_it_is_asked_for(make_world):
    gains = []
    for index, gamma in enumerate((None, 0.2)):
        world = make_world(f"run{index}")
        module = phase(world, homeostasis=gamma)
        if module.homeostat is not None:
            module.homeostat.least_tokens = 50
        world.trainer(limit_val_batches=0).fit(module, world.data)
        before = {n: p.clone() for n, p in world.model.named_parameters()}
        module.after_night(None)
        gains.append({n for n, p in world.model.named_parameters() if not torch.equal(p, before[n])})
    assert gains[0] == set()
    assert gains[1]
    assert all(name.endswith("log_gain") for name in gains[1])


def test_a_model_without_a_stack_has_no_synapses(make_world):
    with pytest.raises(NothingToTrainError):
        phase(make_world(blocks=0))


def test_what_phase_1_learnt_stays_in_the_checkpoint(make_world):
    world = make_world()
    learning = {name for name, _ in world.model.trainable_named_parameters()}
    assert any("lora_" in name for name in learning)
    assert learning <= set(phase(world).state_dict())


def _weights(module):
    return [synapse.linear.weight for synapse in module.synapses]
