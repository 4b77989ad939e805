"""Timing: blocks of calls, systems interleaved in rounds, and the machine's own speed before and after."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

Call = Callable[[Any], object]
MS: Final = 1e-6  # nanoseconds to milliseconds


def block(call: Call, arguments: Iterable[Any], *, budget: float = 5.0) -> list[float]:
    """Milliseconds of each call, one after the other, until the arguments or `budget` seconds are used up."""
    times, clock = [], time.perf_counter_ns
    end = clock() + int(budget * 1e9)
    for argument in arguments:
        begin = clock()
        call(argument)
        now = clock()
        times.append((now - begin) * MS)
        if now > end:
            break
    return times


def interleave(
    runs: Mapping[str, Callable[[int], list[float]]], *, rounds: int
) -> dict[str, list[list[float]]]:
    """{system: one list of milliseconds per round}; every round takes all systems, the order rotates."""
    names, found = list(runs), {name: [] for name in runs}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            found[name].append(runs[name](turn))
    return found


def summary(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """p50 and p99 as medians over rounds, milliseconds; `rounds_p50` keeps one figure per round."""
    p50 = [float(np.percentile(times, 50)) for times in rounds]
    p99 = [float(np.percentile(times, 99)) for times in rounds]
    return {
        "p50": float(np.median(p50)),
        "p99": float(np.median(p99)),
        "worst": float(max(max(times) for times in rounds)),
        "rounds": len(rounds),
        "calls": sum(len(times) for times in rounds),
        "rounds_p50": p50,
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of ours / theirs, both as time: a load that drifts cancels out."""
    return float(np.median([a / b for a, b in zip(ours, theirs, strict=True)]))


def calibrate(folder: Path, *, seconds: float = 1.0) -> dict[str, float]:
    """p50 in milliseconds of three fixed jobs: a 10K x 1024 product, a Python loop, append + fdatasync of
    4.2 KB; and the load of the machine.
    """
    matrix = np.full((10_000, 1024), 0.5, np.float32)
    vector = np.ones(1024, np.float32)
    path = folder / "calibration.bin"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)

    def append(_: int) -> None:
        os.write(fd, bytes(4200))
        getattr(os, "fdatasync", os.fsync)(fd)

    try:
        jobs: dict[str, Call] = {
            "matvec10K_ms": lambda _: matrix @ vector,
            "python_loop_ms": lambda _: sum(range(10_000)),
            "append_fdatasync_ms": append,
        }
        found = {
            name: float(np.percentile(block(job, range(500), budget=seconds), 50))
            for name, job in jobs.items()
        }
    finally:
        os.close(fd)
        path.unlink()
    return {**found, "load": os.getloadavg()[0]}


class Others:
    """How many cores other processes keep busy while this one measures: figures taken under load say so."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = time.perf_counter(), _busy(), sum(os.times()[:4])

    def cores(self) -> float:
        """Cores that others used since the start, on average; 0 where the system does not tell."""
        wall = time.perf_counter() - self._wall
        own = sum(os.times()[:4]) - self._own
        return round(max(0.0, _busy() - self._busy - own) / max(wall, 1e-3), 2)


def _busy() -> float:
    """Seconds that the machine's cores were busy since it started."""
    if not (info := Path("/proc/stat")).exists():
        return sum(os.times()[:4])
    ticks = [int(field) for field in info.read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Processor, cores, memory and kernel in one line."""
    cpu, memory = platform.processor() or platform.machine(), 0.0
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    if (info := Path("/proc/meminfo")).exists():
        memory = int(info.read_text().split()[1]) / 2**20
    return f"{os.cpu_count()} x {cpu}, {memory:.0f} GiB, {platform.system()} {platform.release()}"
