"""Groups `block`, `stack`, `curve`, `kept_memory`, `stream`: time and memory per token of what scans make."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bench import measure
from experiments.spiking_bench import neurons
from experiments.spiking_bench.sizes import Sizes
from experiments.spiking_bench.timing import Result, Setting, System, answer, exponent, kept
from t4dm.spiking import neuron
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.context import PLAIN
from t4dm.spiking.lif import LIFParams, lif_scan
from t4dm.spiking.stack import CorticalStack


def block(setting: Setting, sizes: Sizes) -> Result:
    """One block beside its twin without spikes, and how many LIF scans it makes."""
    batch, steps, width, _ = sizes.model
    made = {
        label: model(width, 1, setting.device, kind)
        for label, kind in (("t4dm", "lif"), ("gelu twin", "gelu"))
    }
    systems = {label: training(stack, batch, steps) for label, stack in made.items()}
    name = f"block_b{batch}_t{steps}_d{width}"
    found = _times(name, systems, setting, batch * steps, steps)
    with counted() as calls:
        systems["t4dm"].forward()
    found["figures"]["lif_scans_per_block"] = {"t4dm": {"count": len(calls)}}
    return found


def stack(setting: Setting, sizes: Sizes) -> Result:
    """All blocks, beside the time that its memory traffic would take at the machine's own bandwidth."""
    batch, steps, width, blocks = sizes.model
    whole = model(width, blocks, setting.device)
    name = f"stack_b{batch}_t{steps}_d{width}_n{blocks}"
    system = training(whole, batch, steps)
    found = _times(name, {"t4dm": system}, setting, batch * steps, steps)
    entry = found["figures"][name]["t4dm"]
    weights = 4 * sum(parameter.numel() for parameter in whole.parameters())
    moved = 2 * entry["saved_bytes_per_token"] * batch * steps + 3 * weights
    rate = bandwidth(setting.device, 2**28 if width >= 256 else 2**20)
    floor = {"floor_ms": moved / rate * 1e3, "gigabytes_per_s": rate / 1e9, "bytes": moved}
    found["figures"][name]["bandwidth floor"] = floor
    return found


def model(width: int, blocks: int, device: str, kind: str = "lif") -> CorticalStack:
    """A stack as configured for the language model, without recall: what every token pays for."""
    torch.manual_seed(7)
    return CorticalStack(width=width, blocks=blocks, recall=False, neuron=kind).to(device)


def training(whole: nn.Module, batch: int, steps: int) -> System:
    """Forward and backward to the input and all parameters that it reaches."""
    parameters = [parameter for parameter in whole.parameters() if parameter.requires_grad]
    width, device = whole.width, parameters[0].device
    random = torch.Generator().manual_seed(8)
    x, above = (torch.randn(batch, steps, width, generator=random).to(device) for _ in range(2))
    x.requires_grad_()

    def forward() -> Tensor:
        out: Tensor = whole(x).h
        return out

    return System(forward, (x, *parameters), above)


def _times(name: str, systems: Mapping[str, System], setting: Setting, tokens: int, steps: int) -> Result:
    for system in systems.values():
        _finite(name, system)
    memory = {label: kept(system, tokens, steps) for label, system in systems.items()}
    runs = {label: _run(system, setting) for label, system in systems.items()}
    times = measure.interleave(runs, rounds=setting.rounds)
    figures = {
        label: {**measure.summary(rounds), **memory[label], "tokens": tokens}
        for label, rounds in times.items()
    }
    return {"figures": {name: figures}, "missing": []}


def _run(system: System, setting: Setting) -> Callable[[int], list[float]]:
    return lambda turn: measure.block(lambda _: answer(system), range(setting.calls), budget=setting.budget)


def _finite(name: str, system: System) -> None:
    out, grads = answer(system)
    if not all(bool(part.isfinite().all()) for part in (out, *grads)):
        raise ArithmeticError(f"{name} answers with inf or nan: no time is kept")


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collects the names of LIF scans that layers make inside the `with`."""
    calls: list[str] = []
    scan = neuron.lif_trajectory

    def counting(*args: Any, **options: Any) -> Any:
        calls.append("scan")
        return scan(*args, **options)

    neuron.lif_trajectory = counting  # type: ignore[assignment]
    try:
        yield calls
    finally:
        neuron.lif_trajectory = scan


def bandwidth(device: str, size: int) -> float:
    """Bytes per second of a copy, read and written both counted: the best of five."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2 * size / best


def curve(setting: Setting, sizes: Sizes) -> Result:
    """Cost against T, forward and backward at batch 1, all lengths interleaved in rounds, three at most."""
    width, blocks = sizes.curve
    return _against_t(_curves(width, blocks, setting.device), "curve", setting, sizes)


def kept_memory(setting: Setting, sizes: Sizes) -> Result:
    """The same of the stack alone, for a process that keeps the memory that it frees, as `t4dm train` does: a
    window of 8,192 tokens leaves 4 GB, and without that each call gets them anew, page by page.
    """
    width, blocks = sizes.curve
    whole = {"stack": _curves(width, blocks, setting.device)["stack"]}
    return _against_t(whole, "kept_memory", setting, sizes)


def _against_t(
    curves: Mapping[str, Callable[[int], System]], title: str, setting: Setting, sizes: Sizes
) -> Result:
    width, _ = sizes.curve
    setting = setting._replace(rounds=min(setting.rounds, 3))
    found: Result = {"figures": {}, "missing": []}
    for name, make in curves.items():
        systems = {str(steps): make(steps) for steps in sizes.curve_steps}
        for system in systems.values():
            _finite(name, system)
        runs = {label: _run(system, setting) for label, system in systems.items()}
        times = measure.interleave(runs, rounds=setting.rounds)
        rounds = [measure.summary(times[str(steps)])["rounds_p50"] for steps in sizes.curve_steps]
        slope, half = exponent(sizes.curve_steps, rounds)
        points = {str(steps): measure.summary(times[str(steps)])["p50"] for steps in sizes.curve_steps}
        found["figures"][f"{title}_{name}_d{width}"] = {
            "t4dm": {"exponent": slope, "half_interval": half, "points_ms": points, "rounds": setting.rounds}
        }
    return found


def _curves(width: int, blocks: int, device: str) -> dict[str, Callable[[int], System]]:
    whole, single = model(width, blocks, device), model(width, 1, device)
    inner: CorticalBlock = single.blocks[0]  # type: ignore[assignment]
    first = inner.init_state(1, device)
    alpha = torch.full((width,), neurons.ALPHA, device=device)

    def over(forward: Callable[[Tensor], Tensor], module: nn.Module | None) -> Callable[[int], System]:
        def make(steps: int) -> System:
            random = torch.Generator().manual_seed(8)
            x, above = (torch.randn(1, steps, width, generator=random).to(device) for _ in range(2))
            leaves = (x.requires_grad_(), *(() if module is None else module.parameters()))
            return System(lambda: forward(x), leaves, above)

        return make

    return {
        "lif": over(lambda x: lif_scan(x, None, LIFParams(alpha))[0], None),
        "attention": over(lambda x: inner.attention(x, first.attn, PLAIN, "curve")[0], inner.attention),
        "rwkv": over(lambda x: inner.time_mix(x, first.rwkv.S, first.rwkv.x_tm, PLAIN)[0], inner.time_mix),
        "block": over(lambda x: single(x).h, single),
        "stack": over(lambda x: whole(x).h, whole),
    }


@torch.no_grad()
def stream(setting: Setting, sizes: Sizes) -> Result:
    """State bytes after ever more tokens, and the time of one token after the other at the model's width."""
    width, blocks = sizes.curve
    small, state = model(width, blocks, setting.device), None
    seen: dict[str, int] = {}
    done = 0
    for tokens in sizes.curve_steps:
        window = torch.randn(1, tokens - done, width, device=setting.device)
        state = small(window, state).state
        done = tokens
        seen[str(tokens)] = CorticalStack.state_bytes(state)
    _, _, wide, count = sizes.model
    whole = model(wide, count, setting.device)
    holder = [whole(torch.randn(1, 1, wide, device=setting.device)).state]
    tokens_in = torch.randn(sizes.stream, 1, 1, wide, device=setting.device)

    def step(token: Tensor) -> None:
        holder[0] = whole(token, holder[0]).state
        if token.is_cuda:
            torch.cuda.synchronize()

    rounds = [measure.block(step, tokens_in, budget=60.0) for _ in range(setting.rounds)]
    times = {**measure.summary(rounds), "state_bytes": CorticalStack.state_bytes(holder[0])}
    return {
        "figures": {
            f"stream_state_d{width}_n{blocks}": {"t4dm": {"bytes_after": seen}},
            f"stream_token_d{wide}_n{count}": {"t4dm": times},
        },
        "missing": [],
    }
