"""Where the time goes: of a LIF scan by step of its computation, of a block and of the stack by stage.

A stage is run alone on what reached it in the whole, forward, then backward to its inputs and parameters;
`rest` is what the whole takes beyond the sum: norms, residual sums, the rate trace, reductions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor, nn

from experiments.spiking_bench import neurons
from experiments.spiking_bench.sizes import Sizes
from experiments.spiking_bench.stacks import model, training
from experiments.spiking_bench.timing import Result, Setting, System
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.lif import LIFParams, lif_scan

STAGES: Final = {
    "1 thalamic gate": "gate",
    "2 LIF integration": "integrate",
    "3 spike attention": "attention",
    "of which its LIF": "attention.neurons",
    "4 apical gate": "apical",
    "of which its LIFs": "apical.neurons",
    "5 RWKV time mix": "time_mix",
    "5 RWKV channel mix": "channel_mix",
    "6 LIF readout": "readout",
}
Part = Callable[[], tuple[float, float]]


def stages(setting: Setting, sizes: Sizes) -> Result:
    """Milliseconds forward and backward of each part, medians over rounds, parts interleaved."""
    batch, steps, width, blocks = sizes.model
    whole = model(width, blocks, setting.device)
    parts = {
        "LIF, leaks fixed": _timed(_lif(sizes, setting.device, learned=False)),
        "LIF, leaks learned": _timed(_lif(sizes, setting.device, learned=True)),
        "stack": _timed(training(whole, batch, steps)),
        **_block_parts(whole.blocks[0], training(whole, batch, steps)),  # type: ignore[arg-type]
    }
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for turn in range(setting.rounds + 1):
        for name, part in parts.items():
            times = part()
            if turn:
                rounds[name].append(times)
    rows = [
        {"part": name, "forward_ms": median(x[0] for x in times), "backward_ms": median(x[1] for x in times)}
        for name, times in rounds.items()
    ]
    shape = {"batch": batch, "steps": steps, "width": width, "blocks": blocks, "lif_width": sizes.widths[0]}
    return {"figures": {}, "missing": [], "stages": with_rest(rows), "stages_of": shape}


def with_rest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows and what the block takes beyond its stages; never below 0, as each was timed by itself."""
    known = {row["part"]: row for row in rows}
    rest = {"part": "rest of the block"}
    for way in ("forward_ms", "backward_ms"):
        own = sum(known[name][way] for name in STAGES if not name.startswith("of which"))
        rest[way] = max(0.0, known["block"][way] - own)
    return [*rows, rest]


def _lif(sizes: Sizes, device: str, *, learned: bool) -> System:
    given = neurons.draw((sizes.batch, sizes.steps[1], sizes.widths[0]), device)
    current, alpha = given.current.requires_grad_(), given.alpha.requires_grad_(learned)
    leaves = (current, alpha) if learned else (current,)
    return System(lambda: lif_scan(current, None, LIFParams(alpha, neurons.THETA))[0], leaves, given.above)


def _block_parts(block: CorticalBlock, system: System) -> dict[str, Part]:
    """The block and its stages, each on the inputs that reach it in a forward of the stack."""
    seen: dict[str, tuple[Any, ...]] = {}
    hooks = [
        _stage(block, path).register_forward_pre_hook(
            lambda _, args, kwargs, path=path: seen.__setitem__(path, (args, kwargs)), with_kwargs=True
        )
        for path in ("", *STAGES.values())
    ]
    try:
        system.forward()
    finally:
        for hook in hooks:
            hook.remove()
    names: Mapping[str, str] = {"block": "", **STAGES}
    return {name: _timed(_alone(_stage(block, path), *seen[path])) for name, path in names.items()}


def _stage(block: CorticalBlock, path: str) -> nn.Module:
    return block.get_submodule(path) if path else block


def _alone(stage: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> System:
    """A stage on detached copies of its inputs."""
    first = args[0].detach().clone().requires_grad_()
    leaves = (first, *(parameter for parameter in stage.parameters() if parameter.requires_grad))

    def forward() -> Tensor:
        return stream_of(stage(first, *args[1:], **kwargs))

    return System(forward, leaves, torch.ones_like(forward()))


def stream_of(out: Any) -> Tensor:
    """The tensor that the next stage reads: the output itself, or the first field of a tuple."""
    return out if isinstance(out, Tensor) else stream_of(out[0])


def _timed(system: System) -> Part:
    def part() -> tuple[float, float]:
        begin = _now(system)
        out = system.forward()
        middle = _now(system)
        torch.autograd.grad(out, system.leaves, system.above, allow_unused=True)
        return (middle - begin) * 1e3, (_now(system) - middle) * 1e3

    return part


def _now(system: System) -> float:
    if system.above.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
