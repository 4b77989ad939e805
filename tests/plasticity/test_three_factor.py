"""The three-factor optimizer: signs, caps, fading, two traces, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from t4dm.errors import LearningRuleError
from t4dm.plasticity.three_factor import ThreeFactor


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(*shape))


def loose(parameters: list[nn.Parameter], **settings: float) -> ThreeFactor:
    return ThreeFactor(parameters, **{"lr": 0.1, "max_dw": 10.0, "max_drift": 10.0, **settings})


def test_change_is_rate_times_modulator_times_eligibility_and_turns_with_the_modulator() -> None:
    for modulator in (1.0, -1.0, 0.5):
        w = weight(2, 3)
        optimizer = loose([w], modulator=modulator)
        optimizer.deposit(w, torch.full((2, 3), 0.4))
        optimizer.step()
        torch.testing.assert_close(w.detach(), torch.full((2, 3), 1.0 + 0.1 * modulator * 0.4))


def test_without_modulator_or_deposit_nothing_changes() -> None:
    w, other = weight(2, 2), weight(2, 2)
    optimizer = loose([w, other])
    optimizer.deposit(w, torch.ones(2, 2))
    optimizer.step()
    assert torch.equal(w.detach(), torch.ones(2, 2))
    optimizer.set_modulator(1.0)
    optimizer.step()
    assert not torch.equal(w.detach(), torch.ones(2, 2))
    assert torch.equal(other.detach(), torch.ones(2, 2))
    assert optimizer.state[w]["step"] == 2
    assert other not in optimizer.state


def test_eligibility_fades_with_every_deposit() -> None:
    w = weight(1, 1)
    optimizer = loose([w], trace_decay=0.5)
    for value in (1.0, 0.0, 2.0):
        optimizer.deposit(w, torch.full((1, 1), value))
    assert float(optimizer.state[w]["eligibility"]) == 2.25
    optimizer.deposit(w, torch.zeros(1, 1), decay=0.1)
    assert float(optimizer.state[w]["eligibility"]) == pytest.approx(0.225)


def test_no_element_changes_by_more_than_its_cap() -> None:
    w = weight(1, 3)
    optimizer = loose([w], modulator=1.0, max_dw=0.01)
    optimizer.deposit(w, torch.tensor([[0.05, 5.0, -5.0]]))
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.tensor([[1.005, 1.01, 0.99]]))


@pytest.mark.parametrize("cap", [0.001, 0.01, 0.3])
def test_no_weight_ends_a_cycle_further_from_its_start_than_the_cap(cap: float) -> None:
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(10, 10, generator=generator, dtype=torch.float64))
    optimizer = loose([w], modulator=1.0, max_drift=cap)
    for _ in range(3):
        start = w.detach().clone()
        for _ in range(50):  # growth along the weight itself, where a moving norm would cheat
            optimizer.deposit(w, 0.5 * start, decay=0.0)
            optimizer.step()
        moved = float((w.detach() - start).norm() / start.norm())
        assert moved == pytest.approx(cap, rel=1e-12)
        assert optimizer.drift()[0] == pytest.approx(cap, rel=1e-12)
        held = w.detach().clone()
        optimizer.step()
        assert float((w.detach() - held).abs().max()) < 1e-15
        optimizer.new_cycle()


def test_a_change_that_is_not_finite_is_refused_and_leaves_the_weight() -> None:
    w = weight(2, 2)
    optimizer = loose([w], modulator=1.0)
    optimizer.deposit(w, torch.tensor([[1.0, float("nan")], [0.0, 0.0]]))
    with pytest.raises(LearningRuleError, match="not finite"):
        optimizer.step()
    assert torch.equal(w.detach(), torch.ones(2, 2))


def test_noradrenaline_cashes_in_the_first_trace_and_serotonin_the_second() -> None:
    def change(noradrenaline: float, serotonin: float) -> float:
        w = weight(1, 1)
        optimizer = loose([w])
        optimizer.deposit(w, torch.full((1, 1), 0.4), depression=torch.full((1, 1), 0.2))
        optimizer.set_modulator(noradrenaline, depress=serotonin)
        optimizer.step()
        return w.item() - 1.0

    assert change(1.0, 0.0) == pytest.approx(0.04, rel=1e-5)
    assert change(0.0, 1.0) == pytest.approx(-0.02, rel=1e-5)
    assert change(1.0, 1.0) == pytest.approx(0.02, rel=1e-5)
    assert change(0.0, 0.0) == 0.0


def test_both_traces_fade_and_the_second_may_come_later() -> None:
    w = weight(1, 1)
    optimizer = loose([w], trace_decay=0.5)
    one = torch.ones(1, 1)
    optimizer.deposit(w, one)
    assert "depression" not in optimizer.state[w]
    optimizer.deposit(w, one, depression=one)
    optimizer.deposit(w, one)
    assert float(optimizer.state[w]["eligibility"]) == 1.75
    assert float(optimizer.state[w]["depression"]) == 0.5


def test_groups_take_their_own_settings() -> None:
    a, b = weight(1, 1), weight(1, 1)
    optimizer = ThreeFactor(
        [{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.2}], max_dw=1.0, max_drift=1.0
    )
    optimizer.set_modulator(1.0, group=1)
    for w in (a, b):
        optimizer.deposit(w, torch.ones(1, 1))
    optimizer.step()
    assert a.item() == 1.0
    assert b.item() == pytest.approx(1.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_optimizer_resumes_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    def run(w: nn.Parameter, optimizer: ThreeFactor, noise: list[Tensor]) -> None:
        for e in noise:
            optimizer.deposit(w, e, depression=0.3 * e.abs())
            optimizer.step()

    settings = {"modulator": 0.7, "depress": 0.4, "max_drift": 0.2}
    noise = [torch.randn(3, 3, generator=torch.Generator().manual_seed(n)) for n in range(8)]
    whole, half = (nn.Parameter(torch.ones(3, 3, dtype=dtype)) for _ in range(2))
    run(whole, loose([whole], **settings), noise)
    first = loose([half], **settings)
    run(half, first, noise[:4])
    torch.save((half.detach(), first.state_dict()), tmp_path / "saved.pt")
    values, saved = torch.load(tmp_path / "saved.pt", weights_only=True)
    resumed = nn.Parameter(values)
    second = loose([resumed], lr=99.0)
    second.load_state_dict(saved)
    assert second.state[resumed]["step"] == 4
    for name in ("eligibility", "depression"):
        assert second.state[resumed][name].dtype == torch.float32
        assert torch.equal(second.state[resumed][name], first.state[half][name])
    run(resumed, second, noise[4:])
    assert torch.equal(resumed.detach(), whole.detach())


def test_what_was_saved_before_there_was_a_second_trace_still_loads() -> None:
    w = weight(2, 2)
    optimizer = loose([w], modulator=1.0)
    optimizer.deposit(w, torch.ones(2, 2))
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["depress"]
    optimizer.load_state_dict(saved)
    optimizer.deposit(w, torch.ones(2, 2), depression=torch.ones(2, 2))
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), 1.0 + 0.1 * 1.9))


def test_step_returns_the_loss_of_its_closure() -> None:
    w = weight(1, 1)
    assert loose([w]).step(lambda: 3.5) == 3.5


def test_wrong_use_names_its_fix() -> None:
    w = weight(2, 2)
    with pytest.raises(LearningRuleError, match=r"set it between 0\.0 and 1\.0"):
        ThreeFactor([w], trace_decay=1.5)
    optimizer = loose([w])
    with pytest.raises(LearningRuleError, match="deposit one value per weight"):
        optimizer.deposit(w, torch.ones(3, 2))
    with pytest.raises(LearningRuleError, match="deposit one value per weight"):
        optimizer.deposit(w, torch.ones(2, 2), depression=torch.ones(2))
    with pytest.raises(LearningRuleError, match=r"pass it to ThreeFactor\(params=...\)"):
        optimizer.deposit(weight(2, 2), torch.ones(2, 2))
