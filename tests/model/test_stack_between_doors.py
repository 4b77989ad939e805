"""The stack between its projections: its size for Qwen2.5-3B, and when each parameter begins to learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from t4dm.config import build, compose, plain
from t4dm.model.projections import Entry, Exit
from t4dm.spiking.stack import CorticalStack

QWEN_WIDTH = 2048


def millions(*modules: nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


def test_for_qwen_the_stack_of_six_has_the_size_of_the_design_part_by_part() -> None:
    with torch.device("meta"):
        stack = build(plain(compose("train", ["model=qwen25_3b"]))["model"]["stack"])
        entry = Entry(stream_width=QWEN_WIDTH, width=1024)
        doors = (entry, Exit(entry=entry))
    assert len(stack.blocks) == 6
    assert stack.width // stack.blocks[0].heads == 64
    first, block = stack.blocks[0], stack.blocks[1]
    # millions, as the design has them
    assert millions(block.gate) == pytest.approx(0.26, abs=0.01)
    assert millions(block.attention) == pytest.approx(3.15, abs=0.01)
    assert millions(block.channel_mix) == pytest.approx(2.36, abs=0.01)
    # 1.57 + 0.07 of capsules in the design; here a predictor of rank 64 (0.10) and capsules of 32 (0.02)
    assert millions(block.apical) == pytest.approx(1.57 + 0.10 + 0.02, abs=0.01)
    # 4.46 in the design; here four square matrices and a decay of rank 64
    assert millions(block.time_mix) == pytest.approx(4.33, abs=0.01)
    assert millions(first.recall) == pytest.approx(4.2, abs=0.01)
    assert millions(*doors) == pytest.approx(4.2, abs=0.01)
    assert all(other.recall is None for other in stack.blocks[1:])
    assert millions(block) == pytest.approx(11.9, abs=0.15)
    assert millions(stack, *doors) == pytest.approx(79.6, rel=0.01)
    assert 50.0 < millions(stack, *doors) < 80.0


class Adapter(nn.Module):
    """The doors and the stack, as the model has them in its residual stream."""

    def __init__(self, *, neuron: str) -> None:
        super().__init__()
        self.stack = CorticalStack(width=24, blocks=2, heads=2, capsules=4, recall_blocks=2, neuron=neuron)
        self.entry = Entry(stream_width=40, width=24)
        self.exit = Exit(entry=self.entry)

    def forward(self, stream: Tensor, recall: Tensor) -> Tensor:
        return self.exit(stream, self.stack(self.entry(stream), recall=self.entry(recall)).h)


def reached(adapter: Adapter) -> set[str]:
    return {
        name
        for name, p in adapter.named_parameters()
        if p.grad is not None and float(p.grad.abs().max()) > 0.0
    }


@pytest.mark.parametrize("neuron", ["lif", "gelu"])
@pytest.mark.parametrize("seed", [0, 1])
def test_step_one_reaches_the_closed_gate_alone_and_step_two_every_parameter(seed: int, neuron: str) -> None:
    torch.manual_seed(seed)
    adapter = Adapter(neuron=neuron)
    stream, recall, target = torch.randn(3, 32, 40), torch.randn(3, 5, 40), torch.randn(3, 32, 40)
    names = {name for name, _ in adapter.named_parameters()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=1.0)
    assert torch.equal(adapter(stream, recall), stream)
    (adapter(stream, recall) - target).square().mean().backward()
    assert reached(adapter) == {"exit.gamma"}
    optimizer.step()
    optimizer.zero_grad()
    (adapter(stream, recall) - target).square().mean().backward()
    assert names - reached(adapter) == set()
    assert all(bool(torch.isfinite(p.grad).all()) for p in adapter.parameters() if p.grad is not None)
