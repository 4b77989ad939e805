"""One forward and backward of a system: its answers against a reference, its memory, its time in rounds."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from experiments.bench import measure
from experiments.bench.memory import peak_bytes as allocated

FLIPS: Final = 1e-6  # share of spikes that may differ: where rounding meets the threshold
AFTER_A_FLIP: Final = 64.0  # entries of a gradient that one such spike may move
GRADIENT: Final = 1e-5  # of a spiking gradient, in units of the largest one
FLOAT: Final = {"cpu": 1e-4, "cuda": 5e-3}  # RMS of the error over RMS; fla's own tests allow 5e-3 on a GPU
PROFILED: Final = 512  # steps up to which a call's allocations are recorded: bytes per token do not change

Result = dict[str, Any]


class Setting(NamedTuple):
    """Where and how long: `calls` and `budget` (seconds) bound one system in one round."""

    device: str
    threads: int
    rounds: int
    calls: int
    budget: float


class System(NamedTuple):
    """A forward, the leaves and what flows in from above; `back` turns its layout into batch first."""

    forward: Callable[[], Tensor]
    leaves: tuple[Tensor, ...]
    above: Tensor
    back: Callable[[Tensor], Tensor] = lambda x: x
    wanted: str = "same"  # which reference it must agree with
    compared: int = 1  # how many leaves' gradients the reference answers for


class Answer(NamedTuple):
    """Outputs and the gradients of the first leaves, batch first."""

    out: Tensor
    grads: tuple[Tensor, ...]


def answer(system: System) -> Answer:
    """One forward and backward; waits for the device."""
    out = system.forward()
    grads = torch.autograd.grad(out, system.leaves, system.above, allow_unused=True)
    if out.is_cuda:
        torch.cuda.synchronize()
    found = [system.back(grad) for grad in grads[: system.compared] if grad is not None]
    return Answer(system.back(out.detach()), tuple(found))


def disagreement(found: Answer, wanted: Answer, *, spiking: bool) -> str | None:
    """Why two systems did not compute the same; None where they did.

    Spikes may differ in one of a million (a membrane within a rounding of the threshold), gradients by 1e-5
    of the largest but around those; floats by an RMS of 1e-4, on a GPU 5e-3.
    """
    if spiking:
        flips = float((found.out != wanted.out).double().mean())
        if flips > FLIPS:
            return f"{flips:.2%} of the spikes differ"
    for name, mine, theirs in zip(_names(wanted), _parts(found), _parts(wanted), strict=True):
        if spiking and name != "output":
            off = (mine - theirs).abs() > GRADIENT * float(theirs.abs().max())
            if (share := float(off.double().mean())) > FLIPS * AFTER_A_FLIP:
                return f"{share:.2%} of the gradient differ"
        elif not spiking:
            allowed = FLOAT[mine.device.type]
            error = float((mine - theirs).double().norm() / theirs.double().norm().clamp(min=1e-30))
            if not error <= allowed:
                return f"{name} off by an RMS of {error:.1e}"
    return None


def _parts(one: Answer) -> tuple[Tensor, ...]:
    return (one.out, *one.grads)


def _names(one: Answer) -> list[str]:
    return ["output", *(f"gradient {place}" for place in range(len(one.grads)))]


def race(
    systems: Mapping[str, Callable[[], System]],
    references: Mapping[str, Callable[[], Answer]],
    setting: Setting,
    *,
    tokens: int,
    steps: int,
    spiking: bool,
    pick: Callable[[Tensor], Tensor] = lambda x: x,
) -> Result:
    """Figures per system, interleaved in rounds. One that cannot run, or answers otherwise, has none.

    Args:
        systems: makers; an ImportError or a RuntimeError costs the system's rows only.
        references: what each `wanted` name must answer, only made where a system asks for it.
        setting: device and durations.
        tokens: B * T, for memory per token.
        steps: T.
        spiking: how answers are compared.
        pick: the part of an answer that the references answer for.
    """
    made: dict[str, System] = {}
    missing: list[dict[str, str]] = []
    known: dict[str, Answer] = {}
    for label, make in systems.items():
        try:
            system = make()
            found = answer(system)
        except (ImportError, RuntimeError) as error:
            missing.append({"label": label, "why": str(error).split("\n", 1)[0]})
            continue
        if system.wanted not in known:
            known[system.wanted] = references[system.wanted]()
        part = Answer(pick(found.out), tuple(pick(grad) for grad in found.grads))
        why = disagreement(part, known[system.wanted], spiking=spiking)
        if why is None:
            made[label] = system
        else:
            missing.append({"label": label, "why": f"its answers are not the reference's: {why}"})
    known.clear()
    memory = {label: kept(system, tokens, steps) for label, system in made.items()}
    gc.collect()
    times = measure.interleave(
        {label: _timed(system, setting) for label, system in made.items()}, rounds=setting.rounds
    )
    figures = {label: {**measure.summary(rounds), **memory[label]} for label, rounds in times.items()}
    return {"figures": figures, "missing": missing}


def _timed(system: System, setting: Setting) -> Callable[[int], list[float]]:
    return lambda turn: measure.block(lambda _: answer(system), range(setting.calls), budget=setting.budget)


def kept(system: System, tokens: int, steps: int) -> dict[str, float]:
    """Bytes per token: what the backward keeps (each storage once, leaves left out), and the most that was
    allocated at once during forward and backward.
    """
    found = {"saved_bytes_per_token": saved_bytes(system) / tokens}
    if steps <= PROFILED or system.above.is_cuda:
        found["peak_bytes_per_token"] = peak_bytes(system) / tokens
    return found


def saved_bytes(system: System) -> float:
    """Bytes of the tensors that autograd saves in a forward."""
    leaves = {leaf.untyped_storage().data_ptr() for leaf in system.leaves}
    sizes: dict[int, int] = {}
    alive = []  # a storage freed during the forward could give its address to another

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in leaves:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = system.forward()
    del out
    return float(sum(sizes.values()))


def peak_bytes(system: System) -> float:
    """The most bytes allocated at once by one call, above what was there."""
    device = system.above.device.type
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    return allocated(lambda: answer(system), device) - before


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Hill's expansion to the third order; within 1 % from 3 on)."""
    z, n = 1.959964, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def exponent(steps: Sequence[int], rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """b of time ~ T^b by least squares on logarithms over all rounds, and half its 95 % interval.

    Args:
        steps: T of each point.
        rounds: milliseconds, one list per T with one value per round.
    """
    points = [(step, ms) for step, values in zip(steps, rounds, strict=True) for ms in values]
    x = torch.tensor([float(step) for step, _ in points], dtype=torch.float64).log()
    y = torch.tensor([ms for _, ms in points], dtype=torch.float64).log()
    x = x - x.mean()
    slope = float((x * y).sum() / x.square().sum())
    residual = y - y.mean() - slope * x
    freedom = len(points) - 2
    error = float((residual.square().sum() / max(freedom, 1) / x.square().sum()).sqrt())
    return slope, student(max(freedom, 1)) * error
