"""The first claim: recall beyond the window, by arm and distance, over seeds.

    python experiments/first_night/run.py [seed ...]        # default 1 2 3; about 25 minutes on 2 cores

For each seed three trainings of equal length: LoRA alone, the stack without memory, the stack with T4DX.
Each is a plain `t4dm train` in a process and on a core of its own, so that the figures do not depend on the
number of cores; a training that is already there is not repeated. Writes results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from t4dm.evaluation.intervals import mean_interval

HERE = Path(__file__).parent
RUNS = Path("outputs/first_night")
SEEDS = (1, 2, 3)
# One training gives several arms; each arm is taken from the training that is fair to it.
TRAININGS = {
    "none": ("frozen", "memory", "shuffled", "after_night", "in_prompt"),
    "no_memory": ("no_memory",),
    "no_stack": ("lora",),
}


def main(seeds: list[int]) -> None:
    """Train what is missing, then gather."""
    begun = time.time()
    jobs = [(ablation, seed) for seed in seeds for ablation in TRAININGS]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda job: train(*job), jobs))
    results = gather(seeds)
    results["command"] = "python experiments/first_night/run.py " + " ".join(map(str, seeds))
    results["seconds_of_this_call"] = round(time.time() - begun)
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def folder(ablation: str, seed: int) -> Path:
    return RUNS / f"{ablation}-{seed}"


def train(ablation: str, seed: int) -> None:
    """One training, unless its summary is there."""
    output = folder(ablation, seed)
    if (output / "summary.json").exists():
        return
    words = [
        "experiment=first_night_full",
        f"ablation={ablation}",
        f"seed={seed}",
        f"hydra.run.dir={output}",
        f"exam.arms=[{','.join(TRAININGS[ablation])}]",
    ]
    print("t4dm train", *words, flush=True)
    command = [Path(sys.executable).with_name("t4dm"), "train", *words]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def gather(seeds: list[int]) -> dict:
    """Mean and 95 % interval over seeds of each arm and distance; the night's cost and what it saved."""
    recall: dict = defaultdict(lambda: defaultdict(list))
    nights, gates, seconds, chance = [], [], 0.0, 0.0
    for seed in seeds:
        for ablation, arms in TRAININGS.items():
            summary = json.loads((folder(ablation, seed) / "summary.json").read_text())
            seconds += summary["seconds"]["total"]
            for arm in arms:
                for distance, found in summary["recall"][arm].items():
                    recall[arm][distance].append(found)
            if ablation == "none":
                chance = summary["chance"]
                nights.append(summary["night"])
                gates.append(summary["gate"])
    cells = {arm: {d: cell(values) for d, values in by.items()} for arm, by in sorted(recall.items())}
    return {
        "chance": chance,
        "seeds": seeds,
        "recall": cells,
        "night": nights,
        "gate": gates,
        "training_seconds": round(seconds),
    }


def cell(values: list[dict]) -> dict:
    mean, half = mean_interval([v["mean"] for v in values])
    return {
        "mean": mean,
        "ci": [max(0.0, mean - half), min(1.0, mean + half)] if len(values) > 1 else None,
        "seeds": [v["mean"] for v in values],
        "questions": sum(v["n"] for v in values),
    }


def table(results: dict) -> str:
    """Arms by distances, in per cent."""
    distances = list(next(iter(results["recall"].values())))
    lines = [f"{'recall, %':>12} " + " ".join(f"{d:>16}" for d in distances)]
    for arm, by in results["recall"].items():
        row = " ".join(percent(by[d]["mean"], by[d]["ci"]) for d in distances)
        lines.append(f"{arm:>12} {row}")
    return "\n".join([*lines, f"{'chance':>12} {100 * results['chance']:6.1f}"])


def percent(mean: float, ci: list[float] | None) -> str:
    span = f" ({100 * ci[0]:3.0f}-{100 * ci[1]:3.0f})" if ci else ""
    return f"{100 * mean:5.1f}{span}".rjust(16)


if __name__ == "__main__":
    reader = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    reader.add_argument("seeds", type=int, nargs="*", default=list(SEEDS), metavar="seed")
    main(reader.parse_args().seeds)
