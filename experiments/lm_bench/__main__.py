"""Run the rows of the language model with its memory: one process per row group and device.

python -m experiments.lm_bench --only lm_step
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
from typing import Final

import torch

from experiments.bench import measure, source
from experiments.bench.source import ROOT
from experiments.lm_bench import report

GROUPS: Final = ("lm_step", "lm_decode", "lm_search")
PACKAGES: Final = ("torch", "numpy", "transformers", "peft", "bitsandbytes", "faiss-cpu")
_DEFAULTS: Final = {"rounds": 5, "calls": 10, "budget": 2.0, "threads": 1, "stored": 10_000}
_QUIET: Final = {"HF_HUB_OFFLINE": "1", "KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not stored yet, then write the report."""
    reader = parser()
    options = reader.parse_args(sys.argv[1:] if arguments is None else arguments)
    check(options, reader)
    return run(options)


def run(options: argparse.Namespace) -> int:
    """What `main` does, its arguments read."""
    if options.child:
        group, device = options.child.split()
        return child(group, device, options)
    chosen = [name for name in names() if not options.only or name in options.only.split(",")]
    steps = [(group, device) for group in chosen for device in devices()]
    failed = [] if options.report else [step for step in steps if not measured(*step, options)]
    for group, device in failed:
        print(f"{group} {device} failed: its rows are missing; run it again with --only {group}")
    files = [result_file(group, device, options) for group in GROUPS for device in devices()]
    stored = [json.loads(file.read_text()) for file in files if file.exists()]
    report.write(stored, options.docs or ROOT / "docs")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    reader = argparse.ArgumentParser(
        prog="python -m experiments.lm_bench", description=__doc__, allow_abbrev=False
    )
    reader.add_argument("--rounds", type=int, default=_DEFAULTS["rounds"], help="interleaved rounds")
    reader.add_argument("--calls", type=int, default=_DEFAULTS["calls"], help="calls in one round, at most")
    reader.add_argument(
        "--budget", type=float, default=_DEFAULTS["budget"], help="seconds in a round, at most"
    )
    reader.add_argument("--threads", type=int, default=_DEFAULTS["threads"], help="CPU threads")
    reader.add_argument("--stored", type=int, default=_DEFAULTS["stored"], help="items in the searched store")
    reader.add_argument("--only", default="", help="row groups, joined by commas: " + ", ".join(GROUPS))
    reader.add_argument("--work", type=Path, default=ROOT / "outputs" / "lm_bench", help="where results go")
    reader.add_argument("--docs", type=Path, help="where the report goes; docs/ by default")
    reader.add_argument("--again", action="store_true", help="measure also what is stored")
    reader.add_argument("--report", action="store_true", help="only write the report from what is stored")
    reader.add_argument("--child", default="", help=argparse.SUPPRESS)
    return reader


def check(options: argparse.Namespace, reader: argparse.ArgumentParser) -> None:
    """End with a message where an option cannot be what was meant."""
    unknown = [name for name in filter(None, options.only.split(",")) if name not in GROUPS]
    if unknown:
        reader.error(f"no row group {', '.join(unknown)}; choose from {', '.join(GROUPS)}")


def names() -> list[str]:
    return list(GROUPS)


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def measured(group: str, device: str, options: argparse.Namespace) -> bool:
    """Whether there is a result for these sources and settings, now or from before."""
    file = result_file(group, device, options)
    if not options.again and file.exists() and json.loads(file.read_text())["key"] == key_of(options):
        print(f"{group} {device}: stored", flush=True)
        return True
    begin = time.perf_counter()
    print(f"{group} {device} ...", end=" ", flush=True)
    command = [python(), "-W", "ignore", "-m", "experiments.lm_bench", "--child", f"{group} {device}"]
    for option in (*_DEFAULTS, "work"):
        command += [f"--{option}", str(getattr(options, option))]
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(options.threads)), **_QUIET}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
    print(f"{time.perf_counter() - begin:.0f} s", flush=True)
    return done


def python() -> str:
    """The project's own environment where there is one: nothing here has a peer, and the packages of other
    tables' peers need not fit transformers.
    """
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def child(group: str, device: str, options: argparse.Namespace) -> int:
    """Measure one group in this process and store it."""
    from experiments.lm_bench import groups  # imports transformers, which the parent can do without

    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    setting = groups.Setting(device, options.rounds, options.calls, options.budget, options.stored)
    others, before = measure.Others(), measure.calibrate(options.work, seconds=0.5)
    found = groups.GROUPS[group](setting)
    chip = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; " if device == "cuda" else ""
    stored = {
        "name": f"{group} {device}",
        "key": key_of(options),
        "device": device,
        "threads": options.threads,
        **found,
        "calibration": [before, measure.calibrate(options.work, seconds=0.5)],
        "others": others.cores(),
        "machine": chip + measure.machine(),
        "versions": installed(),
        "command": f"make bench ARGS='--only {group} --again'",
        "when": time.strftime("%Y-%m-%d"),
    }
    file = result_file(group, device, options)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(stored, indent=1))
    return 0


def installed() -> dict[str, str]:
    """Versions of what was measured."""
    return source.installed(PACKAGES)


def result_file(group: str, device: str, options: argparse.Namespace) -> Path:
    return Path(options.work) / "results" / f"{group}-{device}.json"


def key_of(options: argparse.Namespace) -> str:
    """Changes with the settings, the packages and every source that is measured or measures."""
    told = [getattr(options, name) for name in _DEFAULTS]
    told.append(sorted(pair for pair in installed().items() if pair[0] != "t4dm"))
    digest = hashlib.sha256(json.dumps(told).encode())
    files = [Path(__file__).with_name(name) for name in ("groups.py", "models.py")]
    for wing in ("spiking", "model", "memory", "backbone", "t4dx"):
        files += sorted((ROOT / "t4dm" / wing).rglob("*.py"))
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
