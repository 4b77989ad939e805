"""Run the rows of the cortical stack: one process per row group, device and number of threads.

python -m experiments.spiking_bench --only lif,block
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import torch

from experiments.bench import measure, source
from experiments.bench.source import ROOT
from experiments.spiking_bench import neurons, report, scans, sizes, stacks, stages
from experiments.spiking_bench.timing import Setting
from t4dm.training.heap import keep_freed_memory

GROUPS: Final = {
    "lif": neurons.lif,
    "attention": scans.attention,
    "rwkv": scans.rwkv,
    "block": stacks.block,
    "stack": stacks.stack,
    "curve": stacks.curve,
    "kept_memory": stacks.kept_memory,
    "stream": stacks.stream,
    "stages": stages.stages,
}
BY_THREADS: Final = ("lif", "block", "stack")  # the others take the first number only
PACKAGES: Final = ("torch", "numpy", "spikingjelly", "snntorch", "norse", "fla-core", "triton")
_DEFAULTS: Final = {"rounds": 5, "calls": 20, "budget": 0.5, "threads": "1,2", "sizes": "full"}
_QUIET: Final = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # the profiler talks to stderr
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Step(NamedTuple):
    """One process: a group on a device with some threads."""

    group: str
    device: str
    threads: int

    @property
    def name(self) -> str:
        return " ".join(map(str, self))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not stored yet, then write the report."""
    reader = parser()
    options = reader.parse_args(sys.argv[1:] if arguments is None else arguments)
    check(options, reader)
    return run(options)


def run(options: argparse.Namespace) -> int:
    """What `main` does, its arguments read."""
    if options.child:
        group, device, threads = options.child.split()
        return child(Step(group, device, int(threads)), options)
    failed = [] if options.report else [step for step in wanted(options) if not measured(step, options)]
    for step in failed:
        print(f"{step.name} failed: its rows are missing; run it again with --only {step.group}")
    files = [result_file(step, options) for step in every(options)]
    stored = [json.loads(file.read_text()) for file in files if file.exists()]
    report.write(stored, docs_of(options))
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    reader = argparse.ArgumentParser(
        prog="python -m experiments.spiking_bench", description=__doc__, allow_abbrev=False
    )
    reader.add_argument("--rounds", type=int, default=_DEFAULTS["rounds"], help="interleaved rounds")
    reader.add_argument(
        "--calls", type=int, default=_DEFAULTS["calls"], help="calls of one system in one round, at most"
    )
    reader.add_argument(
        "--budget",
        type=float,
        default=_DEFAULTS["budget"],
        help="seconds of a system in a round, at most",
    )
    reader.add_argument(
        "--threads", default=_DEFAULTS["threads"], help="numbers of CPU threads, joined by commas"
    )
    reader.add_argument("--sizes", default=_DEFAULTS["sizes"], choices=sorted(sizes.NAMED), help="how large")
    reader.add_argument("--only", default="", help="row groups, joined by commas: " + ", ".join(GROUPS))
    reader.add_argument(
        "--work", type=Path, default=ROOT / "outputs" / "spiking_bench", help="where results go"
    )
    reader.add_argument(
        "--docs", type=Path, help="where the report goes; docs/, and beside the results if tiny"
    )
    reader.add_argument("--again", action="store_true", help="measure also what is stored")
    reader.add_argument("--report", action="store_true", help="only write the report from what is stored")
    reader.add_argument("--child", default="", help=argparse.SUPPRESS)
    return reader


def check(options: argparse.Namespace, reader: argparse.ArgumentParser) -> None:
    """End with a message where an option cannot be what was meant."""
    unknown = [name for name in filter(None, options.only.split(",")) if name not in GROUPS]
    if unknown:
        reader.error(f"no row group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")
    if not all(part.isdigit() and int(part) > 0 for part in options.threads.split(",")):
        reader.error(f"--threads {options.threads} is no list of numbers; pass for example --threads 1,2")


def names() -> list[str]:
    return list(GROUPS)


def every(options: argparse.Namespace) -> list[Step]:
    """All processes of a whole run; a GPU's only where there is one."""
    threads = [int(part) for part in options.threads.split(",")]
    steps = [
        Step(group, "cpu", count)
        for group in GROUPS
        for count in (threads if group in BY_THREADS else threads[:1])
    ]
    return steps + ([Step(group, "cuda", 1) for group in GROUPS] if torch.cuda.is_available() else [])


def wanted(options: argparse.Namespace) -> list[Step]:
    chosen = options.only.split(",") if options.only else names()
    return [step for step in every(options) if step.group in chosen]


def measured(step: Step, options: argparse.Namespace) -> bool:
    """Whether the step has a result for these sources and settings, now or from before."""
    file = result_file(step, options)
    if not options.again and file.exists() and json.loads(file.read_text())["key"] == key_of(options):
        print(f"{step.name}: stored", flush=True)
        return True
    begin = time.perf_counter()
    print(f"{step.name} ...", end=" ", flush=True)
    command = [sys.executable, "-W", "ignore", "-m", "experiments.spiking_bench", "--child", step.name]
    for option in (*_DEFAULTS, "work"):
        command += [f"--{option}", str(getattr(options, option))]
    environment = {**os.environ, **_QUIET, **dict.fromkeys(_THREADS, str(step.threads))}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
    print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    return done


def child(step: Step, options: argparse.Namespace) -> int:
    """Measure one step in this process and store it."""
    torch.set_num_threads(step.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    setting = Setting(step.device, step.threads, options.rounds, options.calls, options.budget)
    if step.group == "kept_memory":
        keep_freed_memory()
    others, before = measure.Others(), measure.calibrate(options.work, seconds=options.budget)
    found = GROUPS[step.group](setting, sizes.NAMED[options.sizes][step.device])
    stored = {
        "name": step.name,
        "key": key_of(options),
        "device": step.device,
        "threads": step.threads,
        **found,
        "calibration": [before, measure.calibrate(options.work, seconds=options.budget)],
        "others": others.cores(),
        "machine": machine(step.device),
        "versions": installed(),
        "command": repeat(options, step.group),
        "when": time.strftime("%Y-%m-%d"),
    }
    file = result_file(step, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(stored, indent=1))
    return 0


def machine(device: str) -> str:
    """The machine, with its GPU where that was at work."""
    chip = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; " if device == "cuda" else ""
    return chip + measure.machine()


def installed() -> dict[str, str]:
    """Versions of what may have been measured."""
    return source.installed(PACKAGES)


def repeat(options: argparse.Namespace, group: str) -> str:
    """The command that measures a group like this again."""
    changed = [f"--{key} {value}" for key in _DEFAULTS if (value := getattr(options, key)) != _DEFAULTS[key]]
    return f"make bench ARGS='{' '.join([f'--only {group} --again', *changed])}'"


def docs_of(options: argparse.Namespace) -> Path:
    """Only full sizes are published unasked."""
    published: Path = ROOT / "docs" if options.sizes == "full" else options.work / "docs"
    return options.docs or published


def result_file(step: Step, options: argparse.Namespace) -> Path:
    return Path(options.work) / "results" / f"{step.name.replace(' ', '-')}-{options.sizes}.json"


def key_of(options: argparse.Namespace) -> str:
    """Changes with the settings, the packages and every source that is measured or measures."""
    told = [options.rounds, options.calls, options.budget, options.sizes, sorted(installed().items())]
    told[-1] = [pair for pair in told[-1] if pair[0] != "t4dm"]  # a commit that changes no source counts not
    digest = hashlib.sha256(json.dumps(told).encode())
    here = Path(__file__).parent
    unread = {"report.py", "plots.py", "targets.py", "__main__.py"}
    files = [file for file in sorted(here.glob("*.py")) if file.name not in unread]
    for wing in ("spiking", "plasticity"):
        files += sorted((ROOT / "t4dm" / wing).rglob("*.py"))
    for file in (ROOT / "experiments" / "bench" / "measure.py", *files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
