"""CPU time of each stage of a block by itself, forward and backward."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from t4dm.plasticity.traces import linear_scan
from t4dm.spiking.block import RATE_DECAY, CorticalBlock
from t4dm.spiking.context import PLAIN
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import BlockState


def stages(
    block: CorticalBlock, state: BlockState, x: Callable[[], Tensor]
) -> dict[str, Callable[[], Tensor]]:
    """Each stage as a function of a fresh stream."""
    decay = torch.full((block.width,), RATE_DECAY)
    return {
        "five norms": lambda: torch.stack([norm(x()) for norm in block.norms]),
        "1 thalamic gate": lambda: block.gate(x(), None, PLAIN),
        "2 integration": lambda: block.integrate(x(), state.lif, PLAIN, "integrate").spikes,
        "3 spike attention": lambda: block.attention(x(), state.attn, PLAIN, "attention")[0],
        "4 apical gate": lambda: block.apical(x(), None, state.apical, PLAIN, "apical").out,
        "5 time mix": lambda: block.time_mix(x(), state.rwkv.S, state.rwkv.x_tm, PLAIN)[0],
        "5 channel mix": lambda: block.channel_mix(x(), state.rwkv.x_cm, PLAIN)[0],
        "6 readout": lambda: block.readout(x(), state.out, PLAIN, "readout").spikes,
        "rate trace": lambda: linear_scan(x(), decay, state.rate)[0],
    }


def milliseconds(run: Callable[[], Tensor], *, repeats: int) -> float:
    """The shortest of some runs, forward and backward, in CPU time of this process."""
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run().sum().backward()
        times.append(1e3 * (time.process_time() - begun))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("steps", 2048), ("width", 256), ("heads", 4), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack = CorticalStack(width=asked.width, blocks=1, heads=asked.heads, recall=False)
    block, h = stack.blocks[0], torch.randn(1, asked.steps, asked.width)
    assert isinstance(block, CorticalBlock)

    def fresh() -> Tensor:
        return h.clone().requires_grad_()

    whole = milliseconds(lambda: stack(fresh()).h, repeats=asked.repeats)
    print(f"{'a block in the stack':22s} {whole:8.1f} ms")
    for name, run in stages(block, stack.init_state(1).blocks[0], fresh).items():
        took = milliseconds(run, repeats=asked.repeats)
        print(f"{name:22s} {took:8.1f} ms {took / whole:6.1%}")


if __name__ == "__main__":
    main()
