"""Where the time of one call goes: cProfile over a loop of each T4DX operation.

python -m experiments.storage_bench.profiles --n 20000 --dim 256 --only insert,update
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from experiments.storage_bench import data
from experiments.storage_bench.systems import system

LINES: Final = 14


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one profile per operation, with the time per call measured without the profiler."""
    parser = argparse.ArgumentParser(prog="python -m experiments.storage_bench.profiles", description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="items")
    parser.add_argument("--dim", type=int, default=256, help="vector size")
    parser.add_argument("--calls", type=int, default=2000, help="calls of each operation")
    parser.add_argument("--only", default="", help="operations, joined by commas")
    parser.add_argument("--mode", default="os", help="durability")
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    content = data.make(options.n, options.dim, extra=3 * options.calls)
    folder = Path(tempfile.mkdtemp(prefix="t4dx-profile-"))
    try:
        store: Any = system(f"t4dx {options.mode}")
        store.open(folder / "store", content)
        _timed("load", lambda: store.load(content), options)
        _timed("load_edges", lambda: store.load_edges(content), options)
        for name, call in operations(store, content, options.calls).items():
            _timed(name, call, options, calls=options.calls)
        store.close()
        _timed("reopen", lambda: _reopen(store, folder / "store", content), options)
    finally:
        shutil.rmtree(folder)
    return 0


def operations(store: Any, content: data.Data, calls: int) -> dict[str, Callable[[], None]]:
    """Loops of `calls` calls; arguments are made outside of them."""
    rng = np.random.default_rng(0)
    nums = rng.integers(0, content.n, calls).tolist()
    edges = [(num, int(content.targets[num][0]), 1 / 1024) for num in nums]
    rows = iter(content.rows(content.n, content.n + 3 * calls))

    def each(call: Callable[[Any], object], values: Sequence[Any]) -> Callable[[], None]:
        def loop() -> None:
            for value in values:
                call(value)

        return loop

    return {
        "get": each(store.get, nums),
        "two_hops": each(store.two_hops, nums[: calls // 10]),
        "search": each(lambda num: store.search(content.vectors[num], 10), nums[: calls // 100]),
        "update": each(lambda num: store.update(num, 0.5), nums),
        "bump": each(store.bump, edges),
        "insert": lambda: each(store.insert, [next(rows) for _ in range(calls)])(),
        "bulk_update": each(lambda _: store.update_first(min(10_000, content.n), 0.25), nums[:3]),
        "scale": each(
            lambda num: (store.scale(0.9), store.weight(num, int(content.targets[num][0]))), nums[:20]
        ),
    }


def _timed(name: str, call: Callable[[], object], options: argparse.Namespace, *, calls: int = 1) -> None:
    """Once without and, for loops, once with the profiler: a loop may run twice, a load may not."""
    if options.only and name not in options.only.split(","):
        if name in ("load", "load_edges"):
            call()
        return
    profiler = cProfile.Profile()
    if calls > 1:
        begin = time.perf_counter()
        call()
        print(f"== {name}: {(time.perf_counter() - begin) * 1e3:.3f} ms for the loop, without the profiler")
    else:
        print(f"== {name}")
    profiler.runcall(call)
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(LINES)
    print("\n".join(line for line in text.getvalue().splitlines() if line.strip())[:4000], flush=True)


def _reopen(store: Any, folder: Path, content: data.Data) -> None:
    store.open(folder, content)
    store.get(0)
    store.two_hops(0)
    store.close()


if __name__ == "__main__":
    sys.exit(main())
