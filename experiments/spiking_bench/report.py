"""From stored results to the rows of docs/benchmarks.json, docs/benchmarks_spiking.md and the plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments.bench.measure import ratio
from experiments.bench.report import calibration, short, store, table, under_load, versions
from experiments.spiking_bench.stages import STAGES
from experiments.spiking_bench.targets import OURS, PEERS, Target, targets_of, title

Stored = Mapping[str, Any]
KEPT: Final = (
    "p50", "p99", "worst", "rounds", "calls", "saved_bytes_per_token", "peak_bytes_per_token",
    "half_interval", "points_ms", "bytes_after", "state_bytes", "gigabytes_per_s",
)  # fmt: skip


def write(stored: Sequence[Stored], docs: Path) -> None:
    """Write all files of the report."""
    rows = rows_of(stored)
    store(rows, docs / "benchmarks.json", mine=_mine, first=False)
    pictures: list[str] = []
    try:
        from experiments.spiking_bench import plots
    except ImportError:
        print("matplotlib is missing: no plots; install it with pip install matplotlib")
    else:
        pictures = plots.draw(rows, docs / "images")
    (docs / "benchmarks_spiking.md").write_text(page(rows, stored, pictures))


def _mine(row: Mapping[str, Any]) -> bool:
    return "threads" in row and not row["bench"].startswith("lm_")


def rows_of(stored: Sequence[Stored]) -> list[dict[str, Any]]:
    """One row per bench and system; one more of ours for every further target that judges it."""
    rows = []
    for group in stored:
        for bench, systems in group["figures"].items():
            for label in sorted(systems, key=lambda label: (label != OURS, label)):
                if label == OURS:
                    targets = targets_of(bench, group["device"]) or [None]
                    rows += [_ours(bench, systems, group, target) for target in targets]
                else:
                    rows.append(_theirs(bench, label, systems, group))
    return rows


def _ours(bench: str, systems: Mapping[str, Any], group: Stored, target: Target | None) -> dict[str, Any]:
    against = PEERS.get(bench.split("_")[0]) if target is None else target.against
    found = _ratio(systems[OURS], systems.get(against or ""))
    met = None
    if target is not None and found is not None:
        met = found <= target.at_most and (target.at_least is None or found >= target.at_least)
    if target is None and found is None:
        against = None
    return _row(bench, OURS, systems[OURS], group) | {
        "ratio": found,
        "target": None if target is None else target.words,
        "met": met,
        "wanted": None if target is None else target.wish,
        "against": against,
    }


def _theirs(bench: str, label: str, systems: Mapping[str, Any], group: Stored) -> dict[str, Any]:
    """Of a variant of ours the ratio is its own over the peer's; of a peer ours over its."""
    own = label.startswith(OURS)
    against = PEERS.get(bench.split("_")[0]) if own else label
    ours, peer = (systems[label] if own else systems.get(OURS)), systems.get(against or "")
    found = None if ours is None else _ratio(ours, peer)
    return _row(bench, label, systems[label], group) | {
        "ratio": found,
        "target": None,
        "met": None,
        "wanted": None,
        "against": None if found is None else against,
    }


def _ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None) -> float | None:
    """The time of ours over the peer's; what has no peer by its nature brings its own figure."""
    if "exponent" in ours:
        return float(ours["exponent"])
    if "count" in ours:
        return float(ours["count"])
    if "bytes_after" in ours:
        sizes = list(ours["bytes_after"].values())
        return max(sizes) / min(sizes)
    if theirs is None:
        return None
    if "floor_ms" in theirs:
        return float(ours["p50"]) / float(theirs["floor_ms"])
    return ratio(ours["rounds_p50"], theirs["rounds_p50"])


def _row(bench: str, label: str, figure: Mapping[str, Any], group: Stored) -> dict[str, Any]:
    metric, value = _value(figure)
    row = {"bench": bench, "system": label, "metric": metric, "value": value}
    row |= dict.fromkeys(("ratio", "target", "met", "wanted", "against"))
    row |= {name: figure[name] for name in KEPT if name in figure}
    if "tokens" in figure:
        row["ms_per_token"] = figure["p50"] / figure["tokens"]
    row |= {name: group[name] for name in ("device", "threads", "machine", "versions", "command")}
    return row | {"loaded_by_others": group["others"], "when": group["when"]}


def _value(figure: Mapping[str, Any]) -> tuple[str, float]:
    if "exponent" in figure:
        return "exponent", figure["exponent"]
    if "count" in figure:
        return "scans", figure["count"]
    if "bytes_after" in figure:
        return "bytes", list(figure["bytes_after"].values())[-1]
    return "p50 ms", figure["floor_ms"] if "floor_ms" in figure else figure["p50"]


def page(rows: Sequence[Mapping[str, Any]], stored: Sequence[Stored], pictures: Sequence[str]) -> str:
    """The page as Markdown; without results it says how to get them."""
    lines = ["# Speed of the cortical stack beside other libraries", "", *INTRODUCTION, ""]
    if not stored:
        return (
            "\n".join([*lines, f"No figures are stored: `{COMMAND}` takes them.", "", *_notes(stored)]) + "\n"
        )
    first = stored[0]
    lines += [
        f"Machine: {first['machine']}. Versions: {versions(stored)}.",
        f"Measured {first['when']} with `{COMMAND}`; the JSON beside this page holds the command of each",
        "row.",
    ]
    if not any(group["device"] == "cuda" for group in stored):
        lines += ["No GPU was there: the rows that need one are absent."]
    lines += ["", *under_load(stored)]
    lines += [line for name in pictures for line in (f"![Cost against T](images/{name})", "")]
    lines += ["## Targets", ""]
    judged = [row for row in rows if row["target"]]
    lines += table(
        ["what", "on", "T4DM", "peer", "ratio", "wanted", ""], [_judged(row, rows) for row in judged]
    )
    lines += ["", "## All figures", ""]
    heads = [
        "what",
        "on",
        "system",
        "value",
        "p99 ms",
        "rounds",
        "T4DM / it",
        "saved B/token",
        "peak B/token",
    ]
    lines += table(heads, [_full(row) for row in _once(rows)])
    lines += _stages(stored)
    return "\n".join([*lines, "", *_notes(stored)]) + "\n"


def _judged(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    peers = [other for other in rows if _same(row, other) and other["system"] == row["against"]]
    peer = f"{row['against']}: {_words(peers[0])}" if peers else str(row["against"])
    verdict = {True: "met", False: "**not met**", None: "not measured"}[row["met"]]
    return [title(row["bench"]), _on(row), _words(row), peer, short(row["ratio"]), row["wanted"], verdict]


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("bench", "device", "threads"))


def _once(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A row of ours that several targets judge is shown once."""
    seen: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        seen.setdefault((row["bench"], row["device"], row["threads"], row["system"]), row)
    return list(seen.values())


def _full(row: Mapping[str, Any]) -> list[str]:
    own = row["against"] is not None and row["against"] != row["system"]
    compared = f"{short(row['ratio'])} ({row['against']})" if own else short(row["ratio"])
    memory = [row.get(f"{kind}_bytes_per_token") for kind in ("saved", "peak")]
    return [
        title(row["bench"]),
        _on(row),
        row["system"],
        _words(row),
        short(row.get("p99")),
        str(row.get("rounds", "")),
        compared,
        *("-" if number is None else f"{number:,.0f}" for number in memory),
    ]


def _on(row: Mapping[str, Any]) -> str:
    return "GPU" if row["device"] == "cuda" else f"CPU x {row['threads']}"


def _words(row: Mapping[str, Any]) -> str:
    number, metric = row["value"], row["metric"]
    if metric == "exponent":
        return f"{number:.3f} ± {row['half_interval']:.3f}"
    if metric == "p50 ms":
        each = row.get("ms_per_token")
        return f"{short(number)} ms" + ("" if each is None else f" ({short(each)} a token)")
    return f"{number:,.0f} {metric}"


def _stages(stored: Sequence[Stored]) -> list[str]:
    """The profile: parts of a block, and of the LIF neuron, forward and backward."""
    lines: list[str] = []
    for group in stored:
        if not group.get("stages"):
            continue
        known = {row["part"]: row for row in group["stages"]}
        whole = sum(known["block"][way] for way in ("forward_ms", "backward_ms"))
        rows = [_part(known[name], whole) for name in ("block", *STAGES, "rest of the block")]
        rows += [_part(known[name], None) for name in ("stack", "LIF, leaks fixed", "LIF, leaks learned")]
        heads = ["part", "forward ms", "backward ms", "share of the block"]
        of, on = group["stages_of"], _on(group)
        lines += [
            "",
            f"## Where the time of a block goes ({on})",
            "",
            *(STAGES_NOTE.format(**of).split("\n")),
            "",
        ]
        lines += table(heads, rows)
    return lines


def _part(row: Mapping[str, Any], whole: float | None) -> list[str]:
    both = row["forward_ms"] + row["backward_ms"]
    share = "" if whole is None else f"{both / whole:.0%}"
    return [row["part"], short(row["forward_ms"]), short(row["backward_ms"]), share]


def _notes(stored: Sequence[Stored]) -> list[str]:
    """How each kind of row is measured, what is missing, and the calibration."""
    lines = ["## How", "", *(f"- {note}" for note in NOTES)]
    why: dict[tuple[str, str], set[str]] = {}
    for group in stored:
        for entry in group["missing"]:
            where = f"{title(entry['bench'])} ({_on(group)})"
            why.setdefault((entry["label"], entry["why"]), set()).add(where)
    for (label, reason), places in sorted(why.items()):
        lines.append(f"- {label}: no row in {'; '.join(sorted(places, key=_natural))} ({reason}).")
    return [*lines, "", *calibration(stored)] if stored else lines


def _natural(text: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


COMMAND: Final = "make bench ARGS='--only spiking --again'"
HEADS: Final = (
    "what", "on", "system", "value", "p99 ms", "rounds", "T4DM / it", "saved B/token", "peak B/token",
)  # fmt: skip
INTRODUCTION: Final = (
    "One layer of LIF neurons, the scans, a block and the stack, forward and backward in fp32. The systems",
    "of a row run in one process on the same input, interleaved in rounds; p50 and p99 are medians over",
    "rounds. A ratio is our time over the named peer's, the median over rounds: below 1 is ahead. A",
    "system whose spikes or gradients are not those of its reference has no row.",
)
STAGES_NOTE: Final = (
    "B {batch}, T {steps}, D {width}: each stage alone on what reaches it, medians of milliseconds; the\n"
    "stack has {blocks} such blocks. The rest are norms, residual sums, the rate trace and reductions. The\n"
    "LIF layer at the end is the one of the LIF rows at D {lif_width}; learned leaks are what a stack has."
)
NOTES: Final = (
    "*LIF*: currents of standard deviation 0.53 at alpha = 0.9 (5 % spikes), batch 4; the time is that of "
    "the spikes and of the gradient of the current. Ours and SpikingJelly's have the soft reset; snnTorch "
    "delays its reset by a step and Norse differentiates through it with 1/(1+|x|)^2: each is compared with "
    "a loop of the neuron that it implements, on the first and the last row of the batch. Spikes may differ "
    "in one of a million (rounding at the threshold), gradients by 1e-5 of the largest, in 64 of a million "
    "entries by more.",
    "*eager loop*: the equations step by step, recorded by autograd, slices taken by `unbind`. The loop that "
    "indexes (`x[:, t]`) is quadratic in T backward; it has rows where T is small and judges nothing.",
    "*SpikingJelly*: `lif_multi_step(..., store_v_seq=False)`, its operator for the device. Libraries that "
    "put time first get their inputs so before the clock starts.",
    "*attention scan*: decayed linear attention, S = diag(w) S + k v^T; *RWKV scan*: version 6 with bonus. "
    "On a CPU fla has naive references only, and they are what is measured; outputs and all gradients agree "
    "within an RMS of 1e-4, on a GPU 5e-3.",
    "*block*, *stack*: without recall, gradients to the input and to all parameters; the twin has GELU units "
    "in place of spiking ones. *bandwidth floor*: saved bytes written and read once, parameters read twice "
    "and their gradients written, at the rate of a copy on this machine.",
    "*cost against T*: batch 1, one thread, all lengths interleaved; the exponent is a least squares fit on "
    "logarithms over all lengths and rounds, with its 95 % interval; its point estimate is what is judged. "
    "*in a training process*: the same where freed memory is kept, as `t4dm train` keeps it on a CPU "
    "(`keep_freed_memory`); else a call over 8,192 tokens waits for the pages of 4 GB that autograd keeps.",
    "*state*: bytes after each window of one long stream; *one token after the other*: batch 1, no gradient.",
    "*saved*: bytes that autograd keeps for the backward (each storage once, input and parameters left out); "
    "*peak*: the most allocated at once during forward and backward, from the allocator's own events, up to "
    "T 512 on a CPU. Both per token of the batch.",
)
