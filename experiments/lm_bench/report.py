"""From stored results to the rows of docs/benchmarks.json and docs/benchmarks_lm.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from experiments.bench.measure import ratio
from experiments.bench.report import calibration, short, store, table, under_load, versions

OURS: Final = "t4dm"
PEERS: Final = {"lm_step": "LoRA", "lm_decode": "bare", "lm_search": "forward pass"}
GIB: Final = 2**30
COMMAND: Final = "make bench ARGS='--only lm --again'"
Stored = Mapping[str, Any]


class Target(NamedTuple):
    """`bench` is a regular expression; `of` names what is judged: the ratio of times, or a peak in GiB."""

    bench: str
    device: str
    of: str
    at_most: float
    wish: str


TARGETS: Final = (
    Target(r"lm_step_qwen25_3b_.*", "cuda", "time", 1.15, "adapter at most 15 % of a QLoRA step"),
    Target(r"lm_step_qwen25_3b_.*", "cuda", "forward_peak_bytes", 12.0, "forward <= 12 GiB"),
    Target(r"lm_step_qwen25_3b_.*", "cuda", "peak_bytes", 18.0, "step <= 18 GiB"),
    Target(r"lm_step_qwen25_3b_.*", "cuda", "extra_peak_bytes", 2.0, "peak extra <= 2 GiB"),
    Target(r"lm_decode_qwen25_3b", "cuda", "time", 1 / 0.85, ">= 85 % of the bare model's tokens/s"),
    Target(r"lm_search_.*", "", "time", 1.0, "search hidden behind compute"),
)


def write(stored: Sequence[Stored], docs: Path) -> None:
    """Write all files of the report."""
    rows = rows_of(stored)
    store(rows, docs / "benchmarks.json", mine=lambda row: row["bench"].startswith("lm_"), first=False)
    (docs / "benchmarks_lm.md").write_text(page(rows, stored))


def rows_of(stored: Sequence[Stored]) -> list[dict[str, Any]]:
    """One row per bench and system, one more of ours for every target that judges it."""
    rows = []
    for group in stored:
        for bench, systems in group["figures"].items():
            peer = next(peer for start, peer in PEERS.items() if bench.startswith(start))
            for label, figure in systems.items():
                row = _row(bench, label, figure, group)
                if not label.startswith(OURS):
                    rows.append(row)
                    continue
                row["ratio"] = ratio(figure["rounds_p50"], systems[peer]["rounds_p50"])
                row["against"] = peer
                judges = targets_of(bench, group["device"]) if label == OURS else []
                rows += [row | _judged(target, row, figure) for target in judges] or [row]
    return rows


def targets_of(bench: str, device: str) -> list[Target]:
    """The targets of one bench on one kind of device."""
    return [t for t in TARGETS if re.fullmatch(t.bench, bench) and t.device in ("", device)]


def _judged(target: Target, row: Mapping[str, Any], figure: Mapping[str, Any]) -> dict[str, Any]:
    found = row["ratio"] if target.of == "time" else figure[target.of] / GIB
    return {
        "judged": target.of,
        "value_judged": found,
        "target": f"<= {target.at_most:.4g}",
        "met": found <= target.at_most,
        "wanted": target.wish,
    }


def _row(bench: str, label: str, figure: Mapping[str, Any], group: Stored) -> dict[str, Any]:
    row = {"bench": bench, "system": label, "metric": "p50 ms", "value": figure["p50"]}
    row |= dict.fromkeys(("ratio", "target", "met", "wanted", "against"))
    row |= {name: figure[name] for name in ("p99", "rounds", "calls", "tokens")}
    row |= {name: figure[name] for name in figure if name.endswith("peak_bytes")}
    row["tokens_per_s"] = 1e3 * figure["tokens"] / figure["p50"]
    row |= {name: group[name] for name in ("device", "threads", "machine", "versions", "command")}
    return row | {"loaded_by_others": group["others"], "when": group["when"]}


def page(rows: Sequence[Mapping[str, Any]], stored: Sequence[Stored]) -> str:
    """The page as Markdown; without results it says how to get them."""
    lines = ["# What the adapter costs", "", *INTRODUCTION, ""]
    if not stored:
        return "\n".join([*lines, f"No figures are stored: `{COMMAND}` takes them."]) + "\n"
    lines += [
        f"Machine: {stored[0]['machine']}. Versions: {versions(stored)}.",
        f"Measured {stored[0]['when']} with `{COMMAND}`.",
    ]
    if not any(group["device"] == "cuda" for group in stored):
        lines += ["No GPU was there: the rows of Qwen2.5-0.5B and 3B, and their targets, are absent."]
    lines += ["", *under_load(stored), "## Targets", ""]
    judged = [row for row in rows if row["target"]]
    lines += table(["what", "on", "found", "wanted", ""], [_told(row) for row in judged])
    lines += ["", "## All figures", ""]
    heads = ["what", "on", "system", "p50 ms", "p99 ms", "tokens/s", "T4DM / it", "peak MiB"]
    seen: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        seen.setdefault((row["bench"], row["device"], row["system"]), row)
    lines += table(heads, [_full(row) for row in seen.values()])
    return (
        "\n".join([*lines, "", "## How", "", *(f"- {note}" for note in NOTES), "", *calibration(stored)])
        + "\n"
    )


def _told(row: Mapping[str, Any]) -> list[str]:
    found = row["value_judged"]
    words = f"{short(found)}x {row['against']}" if row["judged"] == "time" else f"{short(found)} GiB"
    return [row["bench"], _on(row), words, row["wanted"], "met" if row["met"] else "**not met**"]


def _full(row: Mapping[str, Any]) -> list[str]:
    peak = row.get("peak_bytes")
    return [
        *(row["bench"], _on(row), row["system"], short(row["value"]), short(row["p99"])),
        f"{row['tokens_per_s']:,.0f}",
        "-" if row["ratio"] is None else f"{short(row['ratio'])} ({row['against']})",
        "-" if peak is None else f"{peak / 2**20:,.0f}",
    ]


def _on(row: Mapping[str, Any]) -> str:
    return "GPU" if row["device"] == "cuda" else f"CPU x {row['threads']}"


INTRODUCTION: Final = (
    "The same language model with the cortical stack and without it, in one process, interleaved in rounds:",
    "p50 and p99 are medians over rounds, a ratio is the median over rounds. The shipped backbone runs",
    "everywhere; it is about as small as its stack, so its ratios say nothing of a large model. Where there",
    "is a GPU, the exact shapes of Qwen2.5-0.5B and 3B are made with random weights: neither time nor memory",
    "depends on their values.",
)
NOTES: Final = (
    "*step*: forward, backward and one step of AdamW on what learns; LoRA of rank 16 on queries and values "
    "in both arms. *reading*: two reads a row are answered by a store of 10,000 items, and their tokens pass "
    "through the layers below the stack. Peaks: on a GPU all that is allocated, on a CPU what one step "
    "allocates above what was there.",
    "*decode*: 16 tokens after a prompt of 64, batch 1, key-value cache, prompt included in both arms.",
    "*search*: the keys of all reads of a batch and their search in T4DX, beside the forward pass of that "
    "batch: below 1 it can be hidden behind the compute.",
)
