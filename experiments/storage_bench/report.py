"""From stored results to docs/benchmarks.json, docs/benchmarks.md and the plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments.bench.measure import ratio
from experiments.bench.report import calibration, short, store, table, under_load, versions
from experiments.storage_bench import floors_report, shares_report
from experiments.storage_bench.targets import TARGETS, Target, scaling

Stored = Mapping[str, Any]
BENCHES: Final = frozenset(target.bench for target in TARGETS)
_UNEVEN: Final = 1.5  # loads run one after the other: the machine must have been about as fast for all
_STALL_MS: Final = 50.0


def write(stored: Sequence[Stored], docs: Path) -> None:
    """Write all files of the report."""
    rows = rows_of(stored)
    own = [*rows, *floors_report.rows_of(stored), *shares_report.rows_of(stored)]
    store(own, docs / "benchmarks.json", mine=owns, first=True)
    (docs / "benchmarks.md").write_text(page(rows, stored))
    try:
        from experiments.storage_bench import plots
    except ImportError:
        print("matplotlib is missing: no plots; install it with pip install matplotlib")
    else:
        plots.draw(rows, docs / "images")
        plots.draw_scaling(rows, docs / "images")


def owns(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of the store's."""
    prefixes = ("scaling_", floors_report.PREFIX, shares_report.PREFIX)
    return row["bench"] in BENCHES or row["bench"].startswith(prefixes)


def targets_of(stored: Sequence[Stored]) -> list[Target]:
    """The rows of the plan, and one for each size that was measured."""
    sizes = {entry["name"].partition(" ")[2] for entry in stored if entry["name"].startswith("scaling ")}
    return [
        *TARGETS,
        *(scaling(name) for name in sorted(sizes, key=lambda name: int(name.partition("x")[0]))),
    ]


def rows_of(stored: Sequence[Stored]) -> list[dict[str, Any]]:
    """One row per operation and system; the one of ours that the plan judges has a target."""
    rows, shown = [], set[tuple[str, str]]()
    for target in targets_of(stored):
        group = merged([entry for entry in stored if _group(entry["name"]) == target.group])
        systems = figures(target, group.get("systems", {}))
        labels = sorted(systems, key=lambda label: (label != target.ours, label))
        if (target.group, target.part) in shown:  # the same figures beside another peer
            labels = [label for label in labels if label in (target.ours, target.against)]
        shown.add((target.group, target.part))
        for label in labels:
            rows.append(_row(target, label, systems, group))
    return rows


def _group(name: str) -> str:
    """The loads of one set belong together; only the easy one is judged."""
    group, _, rest = name.partition(" ")
    if group == "index":
        return group if rest.startswith("easy ") else name
    return name if group == "scaling" else group


def merged(entries: Sequence[Stored]) -> dict[str, Any]:
    """The loads are one process per system: seen as one group."""
    found: dict[str, Any] = {}
    for entry in entries:
        systems, versions = found.get("systems", {}), found.get("versions", {})
        others = max(found.get("others", 0.0), entry["others"])
        speeds = [*found.get("speeds", []), *(side["matvec10K_ms"] for side in entry["calibration"])]
        found = {
            **entry,
            "systems": {**systems, **entry["systems"]},
            "others": others,
            "speeds": speeds,
            "versions": {**versions, **entry["versions"]},
        }
    return found


def figures(target: Target, systems: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{system: {value, times: one time per round, ...}} in the metric of a target."""
    found: dict[str, dict[str, Any]] = {}
    for label, entry in systems.items():
        if target.part and target.part not in entry:
            continue
        part = {**entry, **entry.get(target.part, {})}
        if "value" in part:
            figure = {"value": part["value"], "times": [part["value"]]}
        elif target.metric == "rows/s" and target.group in ("load", "index"):
            figure = {"value": part["rate"], "times": [part["seconds"]]}
        elif target.metric == "rows/s":
            figure = {"value": part["rate"], "times": part["rounds_p50"]}
        elif target.metric in ("recalls/s", "inserts/s"):
            figure = {"value": part["rate"], "times": [1 / rate for rate in part["rounds_rate"]]}
        elif target.metric == "p99 ms":
            figure = {"value": part["p99"], "times": part["rounds_p99"]}
        elif target.metric == "worst ms":
            figure = {"value": part["worst"], "times": [part["worst"]]}
        else:
            figure = {"value": part["p50"], "times": part["rounds_p50"]}
        found[label] = {**part, **figure}
    return found


def _row(target: Target, label: str, systems: Mapping[str, Any], group: Stored) -> dict[str, Any]:
    figure, judged = systems[label], label == target.ours
    own = judged or (label.startswith("t4dx") and target.ours.startswith("t4dx"))
    over = target.against if own else label
    ours = figure if own else systems.get(target.ours)
    compared = ratio_of(target, ours, systems.get(over))
    even = target.group not in ("load", "index") or max(group["speeds"]) <= _UNEVEN * min(group["speeds"])
    row: dict[str, Any] = {
        "bench": target.bench,
        "system": label,
        "metric": target.metric,
        "value": figure["value"],
        "ratio": compared,
        "target": f"<= {target.at_most:.4g}" if judged and target.at_most is not None else None,
        "met": compared <= target.at_most
        if judged and target.at_most and compared is not None and even
        else None,
        "wanted": target.wish if judged else None,
        "against": over if compared is not None else None,
    }
    kept = ("p50", "p99", "worst", "rounds", "calls", "durability", "seconds", "edges_per_s", "bytes")
    kept += ("recall", "effort", "matches", "after_queries_MB")
    row |= {name: figure[name] for name in kept if name in figure}
    row |= {name: group[name] for name in ("machine", "versions", "command")}
    return row | {"loaded_by_others": group["others"], "when": group["when"]}


def ratio_of(
    target: Target, ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None
) -> float | None:
    """Ours over theirs, as time; None where one of the two was not measured."""
    if ours is None:
        return None
    if target.group == "stall":
        return (
            float(ours["value"]) / _STALL_MS if ours.get("durability", "").startswith("in the log") else None
        )
    return None if theirs is None or theirs is ours else ratio(ours["times"], theirs["times"])


def page(rows: Sequence[Mapping[str, Any]], stored: Sequence[Stored]) -> str:
    """The table as Markdown."""
    first = stored[0]
    n, dim = first["size"]
    lines = [
        "# Speed of T4DX beside other embedded stores",
        "",
        f"{n:,} items of {dim} dimensions with 200 bytes of text, 10 edges each. The systems of a row",
        "run in one process, on the same data, interleaved in rounds; p50 and p99 are medians over rounds.",
        "A ratio is our time over the named peer's, the median over rounds: below 1 is ahead. Where answers",
        "differ, no time is kept.",
        "",
        f"Machine: {first['machine']}. Versions: {versions(stored)}.",
        f"Measured {first['when']}; the JSON beside this page holds the command of each row, the first is",
        f"`{first['command']}`.",
        "",
    ]
    lines += under_load(stored)
    lines += ["![Ratios and targets](images/benchmarks.svg)", ""]
    if any(row["bench"].startswith("scaling_") for row in rows):
        lines += ["![Searches by the number of rows](images/benchmarks_scaling.svg)", ""]
    lines += ["## Targets", ""]
    lines += table(
        ["operation", "T4DX", "peer", "ratio", "wanted", ""],
        [_judged(row, rows) for row in rows if row["wanted"]],
    )
    lines += ["", "## All figures", ""]
    lines += table(
        ["operation", "system", "value", "p50 ms", "p99 ms", "recall", "rounds", "T4DX / it", "durability"],
        [_full(row) for row in rows],
    )
    lines += floors_report.lines_of(stored)
    lines += shares_report.lines_of(stored)
    return "\n".join([*lines, "", *_notes(stored)]) + "\n"


def _judged(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    peers = [other for other in rows if other["bench"] == row["bench"] and other["system"] == row["against"]]
    peer = f"{row['against']}: {_value(peers[0])}" if peers else (row["against"] or "not measured")
    unjudged = "not measured" if row["ratio"] is None else "not judged: uneven speed"
    verdict = {True: "met", False: "**not met**", None: unjudged}[row["met"]] if row["target"] else "-"
    return [_title(row["bench"]), _value(row), peer, short(row["ratio"]), row["wanted"], verdict]


def _full(row: Mapping[str, Any]) -> list[str]:
    own = row["ratio"] is not None and row["against"] != row["system"]
    return [
        _title(row["bench"]),
        row["system"],
        _value(row),
        short(row.get("p50")),
        short(row.get("p99")),
        f"{row['recall']:.3f}" if "recall" in row else "-",
        str(row.get("rounds", "")),
        f"{short(row['ratio'])} ({row['against']})" if own else short(row["ratio"]),
        row["durability"],
    ]


def _title(bench: str) -> str:
    if bench.startswith("scaling_"):
        return scaling(bench.removeprefix("scaling_")).title
    return next(target.title for target in TARGETS if target.bench == bench)


def _value(row: Mapping[str, Any]) -> str:
    number, unit = row["value"], row["metric"]
    if unit.endswith("/s"):
        return f"{number:,.0f} {unit}"
    return f"{short(number)} {'ms' if unit.endswith('ms') else unit}"


def _notes(stored: Sequence[Stored]) -> list[str]:
    """How each kind of row is measured, what is missing, and the calibration."""
    lines = ["## How", ""]
    lines += [f"- {note}" for note in NOTES]
    missing = {(entry["label"], entry["why"]) for group in stored for entry in group["missing"]}
    lines += [f"- {label}: no rows ({why})." for label, why in sorted(missing)]
    return [*lines, "", *calibration(stored)]


NOTES: Final = (
    "Making the store's own objects (an `Item`, a `Point`, a blob) is part of each call.",
    "*bulk load* ends when the rows are safe in files and one search has answered: exact search for T4DX and "
    "SQLite, the vector index for the others. Single runs, one after the other, and judged only where the "
    "calibration stayed within a factor of 1.5.",
    "*bulk update* sets one field of the first 10,000 items in one call: by a range of numbers for T4DX, "
    "SQLite, kuzu and LanceDB, by ids for qdrant-edge and Chroma.",
    "*2 hops* returns the ids of all nodes one or two edges away. SQLite works on integer keys here, its "
    "fastest layout; T4DX (`reachable`) and kuzu take and return string ids.",
    "*scale* includes reading one weight afterwards, so that work put off is paid.",
    "*reopen* starts with modules imported and files in the page cache; kuzu and, for the first search, all "
    "have their vector index.",
    "*search*: 400 queries that are not stored. On every second one the least effort is sought (`ef`, "
    "`hnsw_ef`, `efs`, probes; T4DX: `recall` and `ef`) that finds 99 % of the true 10 nearest; the others "
    "give the recall of the row and its times, with the next effort where they fall short. A system that "
    "cannot reach it has no row. *t4dx default* is told nothing; *t4dx-hnswlib* has the graphs of the second "
    "back-end; *faiss* and *hnswlib* are the libraries alone, faiss with 8-bit codes and 32 candidates "
    "compared again. All answer with ids, none loads items (T4DX: `nearest`). "
    "One thread asks; T4DX, qdrant-edge, kuzu, faiss and hnswlib answer with one, LanceDB and Chroma with "
    "pools.",
    "*easy* is the clustered mixture of the other rows, *harder* has wide, overlapping clusters and more "
    "noise, *sentences* are 5,098 of LoCoMo and MemoryBank by MiniLM (384 dimensions), asked by "
    "their questions.",
    "*rows pass*: kappa, uniform and independent of the vectors, is at most a value; qdrant-edge and LanceDB "
    "have an index on it, qdrant-edge from before its load; Chroma looks it up in its SQLite tables.",
    "*unmerged segments*: of 10 % of the rows each, as many in the memtable, beside the indexed rows. "
    "qdrant-edge holds the indexed rows alone; *qdrant-edge fresh* the same rows as T4DX, not optimised.",
    "*bulk load with the index* ends when the index stands and a search has answered: T4DX merges all into "
    "one segment and awaits its graph, built by 2 threads; the others use both cores too, kuzu one.",
    "*anonymous memory*: growth of a fresh process from before the imports, after the open and one search. "
    "*bytes on disk* are those that the files take up; a store also holds 200 bytes of text and columns.",
    "*256 queries*: in T4DX two threads that share them call at once; qdrant-edge takes them by "
    "`query_batch`, and *one by one*.",
    "*as of*: 1 % of the rows were replaced after the moment that is asked for.",
    "*8 writers*: eight threads insert without pause; SQLite has one writer at a time, so its threads take "
    "turns at one connection. Not in the plan's table: it shows what one fsync for many is worth.",
    "*readers*: a recall is a search in a 1 % time window, a get and 2 hops; two threads recall without "
    "pause, alone and beside a writer that inserts synced without pause while flushes and merges run.",
    "*writer stall*: the longest unsynced insert of all rounds, through several flushes and merges; the bare "
    "loop writes the same bytes to a file and shows what the machine holds up by itself.",
    "Slow systems make fewer calls: a round of one system ends after some seconds.",
)
