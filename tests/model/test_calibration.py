"""The stack calibrated on a batch as it will hear it: the rates of a real pass, and nothing else changed."""

from __future__ import annotations

import pytest
import torch

from t4dm.errors import CalibrationError
from t4dm.model.calibration import Calibration, calibrate

from .conftest import asked, reads_of, told


def inputs(batch, memory) -> dict:
    return {
        "attention_mask": batch["attention_mask"],
        "reset": batch["reset"],
        "reads": reads_of(batch),
        "memory": memory,
    }


def test_the_rates_are_those_of_the_models_own_pass_before_and_after(
    make_model, data, memory, writer
) -> None:
    model = make_model(blocks=2).eval()
    batch = told(data, model, memory, writer)
    with torch.no_grad():
        before = asked(model, batch, memory, reset=batch["reset"]).aux.stage_rate
        found = calibrate(model, batch["input_ids"], **inputs(batch, memory))
        after = asked(model, batch, memory, reset=batch["reset"]).aux.stage_rate
    torch.testing.assert_close(found.before, before, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.after, after, atol=1e-6, rtol=0)
    target = torch.tensor([0.05, 0.15, 0.05, 0.05]).expand(2, 4)
    torch.testing.assert_close(found.after, target, atol=0.0, rtol=0.1)
    assert float(((found.before - target) / target).abs().max()) > 0.1


def test_recalled_memories_are_heard_and_do_not_count_as_used(make_model, data, memory, writer) -> None:
    model = make_model().eval()
    batch = told(data, model, memory, writer)
    memory.flush_accesses()
    with_memory = calibrate(model, batch["input_ids"], **inputs(batch, memory)).before
    without = calibrate(make_model().eval(), batch["input_ids"], **inputs(batch, None)).before
    assert not torch.equal(with_memory, without)
    assert memory.flush_accesses() == 0


def test_centres_and_gains_alone_change_and_no_number_is_drawn(make_model, data) -> None:
    batch, model = data.train_dataloader().batch_at(0, 0), make_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    calibrate(model, batch["input_ids"], **inputs(batch, None))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    layers = {
        f"stack.blocks.0.{layer}" for layer in ("integrate", "attention.neurons", "apical.neurons", "readout")
    }
    assert changed == {f"{layer}.{part}" for layer in layers for part in ("centre", "log_gain")}


def test_one_token_over_and_over_is_no_sample(make_model) -> None:
    model = make_model().train()
    with pytest.raises(CalibrationError, match=r"or train without: \+\+phase\.calibrate=false"):
        calibrate(model, torch.full((1, 8), 5))
    assert model.training


def test_a_bare_backbone_has_no_neurons(make_model) -> None:
    with pytest.raises(ValueError, match="without a stack"):
        calibrate(make_model(stack=False), torch.arange(2, 42)[None])


def test_a_block_is_told_in_one_line() -> None:
    told = Calibration(torch.tensor([[0.25, 0.5, 0.1234, 0.0]]), torch.tensor([[0.05, 0.15, 0.05, 0.05]]))
    assert told.lines() == [
        "block 0: stages 2, 3, 4, 6 fired at 25.0, 50.0, 12.3, 0.0 %, calibrated 5.0, 15.0, 5.0, 5.0 %"
    ]
