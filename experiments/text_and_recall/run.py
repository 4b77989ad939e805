"""Does the adapter cost anything on plain text while recall beyond the window holds?

python experiments/text_and_recall/run.py TEXT [TEXT ...] --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from t4dm.evaluation.intervals import mean_interval

HERE = Path(__file__).parent
RUNS = Path("outputs/text_and_recall")
ARMS = {"adapter": "none", "LoRA alone": "no_stack"}


def main() -> None:
    """Train what is missing, one process after the other, then gather."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("text", type=Path, nargs="+", help="plain text; its last part is held out")
    reader.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = reader.parse_args()
    files = [str(file.resolve()) for file in options.text]
    for seed in options.seeds:
        for ablation in ARMS.values():
            train(ablation, seed, files)
    results = gather(options.seeds)
    names = " ".join(file.name for file in options.text)
    results["command"] = f"python experiments/text_and_recall/run.py {names} --seeds {spaced(options.seeds)}"
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def spaced(seeds: list[int]) -> str:
    return " ".join(map(str, seeds))


def folder(ablation: str, seed: int) -> Path:
    return RUNS / f"{ablation}-{seed}"


def train(ablation: str, seed: int, files: list[str]) -> None:
    """One training, unless its summary is there."""
    output = folder(ablation, seed)
    if (output / "summary.json").exists():
        return
    quoted = ",".join(f"'{file}'" for file in files)
    words = [
        *(
            "experiment=text_and_recall",
            f"data.text.files=[{quoted}]",
            f"ablation={ablation}",
            f"seed={seed}",
        ),
        *(f"hydra.run.dir={output}", f"exam.arms=[{'memory' if ablation == 'none' else 'lora'}]"),
    ]
    print("t4dm train", *words, flush=True)
    command = [sys.executable, "-m", "t4dm.apps.train", *words]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def gather(seeds: list[int]) -> dict:
    """Held-out text loss of both arms, its relative difference by seed, recall by distance."""
    told = {
        arm: [json.loads((folder(ablation, seed) / "summary.json").read_text()) for seed in seeds]
        for arm, ablation in ARMS.items()
    }
    losses = {arm: [run["losses"]["text_val"] for run in runs] for arm, runs in told.items()}
    pairs = zip(losses["adapter"], losses["LoRA alone"], strict=True)
    above = [100 * (ours / theirs - 1) for ours, theirs in pairs]
    mean, half = mean_interval(above) if len(above) > 1 else (above[0], math.nan)
    told_half = None if math.isnan(half) else half
    recall = {
        distance: fmean(run["recall"]["memory"][distance]["mean"] for run in told["adapter"])
        for distance in told["adapter"][0]["recall"]["memory"]
    }
    return {
        "seeds": seeds,
        "text_val_loss": losses,
        "above_lora_percent": {
            "by_seed": above,
            "mean": mean,
            "half_interval": told_half,
        },
        "recall_with_memory": recall,
        "seconds": {arm: [run["seconds"]["train"] for run in runs] for arm, runs in told.items()},
    }


if __name__ == "__main__":
    main()
