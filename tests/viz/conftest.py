"""Run folders as a run or a study leaves them: whole, interrupted, strange."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DISTANCES = (1, 2, 4, 8, 16)
CHANCE = 0.03125
LEVELS = {
    "frozen": 0.028,
    "lora": 0.034,
    "no_memory": 0.031,
    "memory": 0.955,
    "shuffled": 0.036,
    "after_night": 0.945,
    "in_prompt": 0.985,
}
WORDS = (
    "The colour of Mira 's boat is amber . The wind had gone down and the harbour lay still . "
    "The trade of Oskar is glazier . Nobody on the quay spoke . The town of Lena is Varn . "
    "What is the colour of Mira 's boat ?"
)
TOKENS = ["The", "color", "of", "Ann", "is", "red", ".", "Bob", "lives", "in", "Oslo"]
RunMaker = Callable[..., Path]
StudyMaker = Callable[..., Path]


@pytest.fixture
def summary() -> dict[str, Any]:
    return make_summary(seed=7)


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """`make_run(name, without=("summary.json",), **extra)` writes a run folder and returns its path."""

    def make(
        name: str = "2026-03-01_120000-000001", *, without: tuple[str, ...] = (), **options: Any
    ) -> Path:
        folder = tmp_path / "outputs" / "train" / "first_night" / name
        write_run(folder, **options)
        for file in without:
            (folder / file).unlink()
        return folder

    return make


@pytest.fixture
def make_study(tmp_path: Path) -> StudyMaker:
    """`make_study(tokens, blocks=2, width=12, without=("attention",))` writes a study's folder."""

    def make(
        tokens: list[str] = TOKENS,
        *,
        blocks: int = 2,
        width: int = 12,
        heads: int = 2,
        without: tuple[str, ...] = (),
        text: str | None = None,
    ) -> Path:
        arrays: dict[str, Any] = {
            "tokens": np.array(tokens, dtype=np.str_),
            "blocks": np.arange(blocks),
            "target_rate": np.float64(0.05),
            "dropped": np.array([f"block0.{name}" for name in without], dtype=np.str_),
        }
        for block in range(blocks):
            made = block_arrays(np.random.default_rng(block), len(tokens), width, heads)
            arrays |= {f"block{block}.{name}": array for name, array in made.items() if name not in without}
        folder = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        np.savez(folder / "inside.npz", **arrays)
        text = "".join(tokens) if text is None else text
        run = {
            "command": ["t4dm", "study", "block", text, "--seed", "7"],
            "seed": 7,
            "versions": {"torch": "2.13.0"},
        }
        run |= {"git": {"sha": "3f1c2d9", "dirty": True}, "started": "2026-03-01T12:00:00", "seconds": 1.25}
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
        told = {"text": text, "model": "the shipped tiny backbone with a fresh stack", "trained": False}
        (folder / "study.json").write_text(json.dumps(told), encoding="utf-8")
        return folder

    return make


def block_arrays(rng: np.random.Generator, steps: int, width: int, heads: int) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for stage in ("integrate", "qk", "apical", "out"):
        membrane = rng.normal(0.2, 0.6, (steps, width)).astype(np.float32)
        arrays |= {stage: (membrane >= 1).astype(np.uint8), f"{stage}.membrane": membrane}
    arrays |= {name: rng.random((steps, width), dtype=np.float32) for name in ("gate", "opening", "calcium")}
    causal = np.tril(rng.normal(size=(heads, steps, steps))).astype(np.float32)
    arrays |= {"attention": causal.transpose(1, 0, 2), "capsules": np.full((steps, 4), 0.25, np.float32)}
    arrays |= {name: rng.random(steps, dtype=np.float32) for name in ("prediction_error", "goodness")}
    return arrays | {"rate": arrays["out"].mean(axis=0).astype(np.float32)}


def make_summary(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    recall = {
        arm: {
            str(d): {
                "mean": float(np.clip(level - 0.004 * i + rng.normal(0, 0.006), 0, 1)),
                "ci": 0.012,
                "n": 512,
            }
            for i, d in enumerate(DISTANCES)
        }
        for arm, level in LEVELS.items()
    }
    return {
        "experiment": "first_night",
        "seed": seed,
        "chance": CHANCE,
        "recall": recall,
        "losses": {"train": 1.312, "val": 1.405, "text_val": 3.214},
        "items": {"written": 1210, "offered": 2048, "stored": 731, "pruned": 402, "prototypes": 77},
        "kappa": {"mean": 0.31, "hist": [40] * 20},
        "write_rate": 0.591,
        "seconds": {"train": 171.2, "sleep": 8.4, "evaluate": 52.0, "total": 236.9},
        "peak_memory_mib": 1480.0,
        "nights": 4,
    }


def make_night(index: int, rng: np.random.Generator, *, content: str = "") -> dict[str, Any]:
    items = 260 + 120 * index
    before = rng.beta(1.2 + 0.5 * index, 6, items)
    after = np.clip(before[: items - 90] + 0.25 * (1 - before[: items - 90]), 0, 1)
    fact = content or "The colour of Mira's boat is amber."
    return {
        "replayed": 96,
        "prototypes": 14 + index,
        "merged": 61,
        "pruned": 90,
        "superseded": 7,
        "edges_strengthened": 212,
        "items_before": items,
        "items_after": items - 90,
        "bytes_before": 4096 * items,
        "bytes_after": 4096 * (items - 90),
        "kappa_before": np.histogram(before, bins=20, range=(0, 1))[0].tolist(),
        "kappa_after": np.histogram(after, bins=20, range=(0, 1))[0].tolist(),
        "mean_kappa_before": float(before.mean()),
        "mean_kappa_after": float(after.mean()),
        "seconds": 2.1,
        "replayed_samples": [{"id": f"m{i}", "content": fact, "kappa": 0.1 * i} for i in range(4)],
        "cluster_samples": [
            {"id": "c0", "content": fact, "size": 5, "members": [fact, "Mira rows an amber boat."]}
        ],
        "pruned_samples": [
            {"id": "p0", "content": "Nobody on the quay spoke.", "reason": "weak", "importance": 0.04}
        ],
        "superseded_samples": [],
    }


def make_metrics(rng: np.random.Generator, *, steps: int = 600, blocks: int = 4) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for step in range(0, steps, 5):
        part = step / steps
        row = {
            "epoch": step // 150,
            "step": step,
            "train/ce": 4 * np.exp(-3 * part) + 1 + rng.normal(0, 0.15),
        }
        row |= {"train/goodness": 0.4 + 0.1 * rng.normal(), "train/loss": row["train/ce"] + 0.04}
        row |= {"train/recall_accuracy": min(1.0, 0.03 + part**0.5 * 0.95), "write/rate": 0.6 - 0.2 * part}
        row |= {
            "write/tau_mean": 0.45 + 0.02 * rng.normal(),
            "memory/rss_mib": 1200.0,
            "time/tokens_per_s": 5400.0,
        }
        row |= {f"spikes/rate_block{b}": 0.05 + 0.03 * b + 0.004 * rng.normal() for b in range(blocks)}
        row |= {"store/items": 260 + step % 150 * 2 + step}
        rows.append(row)
        if step % 150 == 145:
            rows.append({"step": step, "val/loss": 4 * np.exp(-3 * part) + 1.1, "val/recall_accuracy": part})
            rows.append(
                {"step": step, "sleep/replayed_items": 96, "sleep/pruned_items": 90, "sleep/seconds": 2.1}
            )
    return rows


def make_traces(rng: np.random.Generator, *, blocks: int = 4, width: int = 128) -> dict[str, np.ndarray]:
    tokens = [f"\u0120{word}" for word in WORDS.split()]
    spikes = {
        f"spikes_block{b}": (rng.random((len(tokens), width)) < 0.04 + 0.03 * b).astype(np.uint8)
        for b in range(blocks)
    }
    steps = np.arange(0, 600, 5)
    rates = 0.05 + 0.03 * np.arange(blocks) + 0.004 * rng.normal(size=(len(steps), blocks))
    tau = 1 / (1 + np.exp(-rng.normal(0.2, 1.6, 4096)))
    return {**spikes, "rates": rates, "steps": steps, "tau": tau, "tokens": np.array(tokens)}


def write_run(
    folder: Path,
    *,
    seed: int = 7,
    nights: int = 4,
    summary: dict[str, Any] | None = None,
    content: str = "",
    config: str = "",
    status: str = "done",
) -> None:
    rng = np.random.default_rng(seed)
    (folder / "store").mkdir(parents=True)
    (folder / "store" / "segment-000001").write_bytes(b"\0" * 4096)
    lines = [json.dumps(make_night(index, rng, content=content)) + "\n" for index in range(nights)]
    (folder / "nights.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary or make_summary(seed)), encoding="utf-8")
    record = {
        "command": ["t4dm", "train", "experiment=first_night"],
        "seed": seed,
        "parent": None,
        "git": {"sha": "3f1c2d9", "dirty": False, "untracked": []},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.0"},
        "machine": {"processor": "x86_64", "cores": 2, "memory_gib": 3.8, "devices": ["cpu"]},
        "started": "2026-03-01T12:00:00.000+00:00",
        "ended": "2026-03-01T12:03:57.100+00:00",
        "seconds": 237.1,
        "status": status,
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "config.yaml").write_text(
        config or f"seed: {seed}\nmodel:\n  stack:\n    blocks: 4\n", encoding="utf-8"
    )
    (folder / "overrides.yaml").write_text("- experiment=first_night\n", encoding="utf-8")
    write_metrics(folder / "metrics.csv", make_metrics(rng))
    np.savez(folder / "traces.npz", **make_traces(rng))


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
