"""Run the table: one process per row group, each stored at once, so that a run goes on where it stopped.

python -m experiments.storage_bench --n 100000 --dim 1024
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from experiments.bench import measure
from experiments.storage_bench import (
    data,
    floors,
    groups,
    indexed,
    live,
    report,
    search_floors,
    search_shares,
    searches,
    sets,
    shares,
)
from experiments.storage_bench.systems import release

ROOT: Final = Path(__file__).resolve().parents[2]
STORES: Final = ("t4dx", "sqlite", "qdrant-edge", "lancedb", "chroma", "kuzu")
ENGINES: Final = (*STORES, "t4dx-hnswlib", "faiss", "hnswlib")
LIVE: Final = {
    "reopen": live.reopen,
    "readers": live.readers,
    "writers": live.writers,
    "stall": live.stall,
    "shares": shares.shares,
    "floors": floors.floors,
}
SEARCH: Final = {
    "nearest": ("easy", searches.nearest),
    "nearest_harder": ("harder", searches.nearest),
    "nearest_minilm": ("minilm", searches.nearest),
    "fresh": ("easy", indexed.fresh),
    "filter": ("easy", searches.filtered),
    "reopen_search": ("easy", indexed.reopened),
    "footprint": ("easy", indexed.footprint),
    "batch": ("easy", searches.batch),
    "as_of": ("easy", indexed.as_of),
    "search_shares": ("easy", search_shares.search_shares),
    "search_floors": ("easy", search_floors.floors),
}
"""Row groups of the indexed stores: which set of vectors they search, and how."""
BUNDLE: Final = "search"
"""All of them, with the loads before and the sizes after."""
INDEXED: Final = {
    "easy": searches.SEARCHERS,
    "harder": ("t4dx", "t4dx-hnswlib", "qdrant-edge", "lancedb", "faiss", "hnswlib"),
    "minilm": searches.SEARCHERS,
}
SCALED: Final = ("t4dx", "qdrant-edge", "lancedb", "faiss", "hnswlib")
_ALSO: Final = {
    "floors": ("floors.py", "leanest.py"),
    "search_floors": ("search_floors.py", "leanest_search.py"),
    "search_shares": ("search_shares.py", "shares.py"),
}
"""What these groups run beside the sources of all of their kind."""
_DEFAULTS: Final = {"rounds": 5, "calls": 3000, "budget": 3.0}
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not stored yet, then write the report."""
    return run(parse(sys.argv[1:] if arguments is None else arguments))


def run(options: argparse.Namespace) -> int:
    """What `main` does, its arguments read."""
    if options.child:
        return child(options)
    failed = [] if options.report else [name for name in wanted(options) if not measured(name, options)]
    for name in failed:
        print(f"{name} failed: its rows are missing; run it again with --only {name.partition(' ')[0]}")
    stored = [json.loads(file.read_text()) for file in sorted((options.work / "results").glob("*.json"))]
    if stored:
        report.write([entry for entry in stored if entry["size"] == size(options)], options.docs)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments.storage_bench", description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="items")
    parser.add_argument("--dim", type=int, default=1024, help="vector size")
    parser.add_argument("--rounds", type=int, default=_DEFAULTS["rounds"], help="interleaved rounds")
    parser.add_argument(
        "--calls", type=int, default=_DEFAULTS["calls"], help="calls of one system in one round, at most"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=_DEFAULTS["budget"],
        help="seconds of one system in one round, at most",
    )
    parser.add_argument("--only", default="", help="row groups, joined by commas: " + ", ".join(names()))
    parser.add_argument(
        "--sizes", default="10000,100000", help="rows of the group scaling; with 1000000 it takes an hour"
    )
    parser.add_argument("--scaling-dim", type=int, default=128, help="vector size of the group scaling")
    parser.add_argument("--systems", default=",".join(ENGINES), help="stores, joined by commas")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "outputs" / "storage_bench", help="stores and results"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the report goes")
    parser.add_argument("--again", action="store_true", help="measure also what is stored")
    parser.add_argument("--report", action="store_true", help="only write the report from what is stored")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    reader = parser()
    options = reader.parse_args(arguments)
    check(options, reader)
    return options


def check(options: argparse.Namespace, reader: argparse.ArgumentParser) -> None:
    """End with a message where an option cannot be what was meant."""
    unknown = [name for name in filter(None, options.only.split(",")) if name not in names()]
    if unknown:
        reader.error(f"no row group {', '.join(unknown)}; choose from {', '.join(names())}")
    if options.n < 100:
        reader.error("100 items are the least; pass --n 100 or more")


def names() -> list[str]:
    return ["load", *groups.POINT, *LIVE, BUNDLE, "index", *SEARCH, "scaling"]


def wanted(options: argparse.Namespace) -> list[str]:
    chosen = options.only.split(",") if options.only else [name for name in names() if name != BUNDLE]
    steps = [step for name in chosen for step in steps_of(name, options)]
    return list(dict.fromkeys(steps))


def steps_of(name: str, options: argparse.Namespace) -> list[str]:
    """The processes that measure a row group, in their order; loads before searches."""
    engines = options.systems.split(",")
    match name:
        case "load":
            return [f"load {label}" for label in groups.LOADED if label.partition(" ")[0] in engines]
        case "search":
            return [step for each in ("index", *SEARCH, "scaling") for step in steps_of(each, options)]
        case "index":
            return [
                f"index {held} {one}" for held, labels in INDEXED.items() for one in labels if one in engines
            ]
        case "scaling":
            held = [f"{size}x{options.scaling_dim}" for size in options.sizes.split(",")]
            loads = [[f"index {one} {label}" for label in SCALED if label in engines] for one in held]
            return [step for one, own in zip(held, loads, strict=True) for step in [*own, f"scaling {one}"]]
    return [name]


def measured(name: str, options: argparse.Namespace) -> bool:
    """Whether the group has a result for these sources and sizes, now or from before."""
    file, key = result_file(name, options), key_of(name, options)
    made = folder_of(name, options)
    loaded = made is None or made.exists()
    if (
        not options.again
        and loaded
        and file.exists()
        and _is_this(json.loads(file.read_text()), key, options)
    ):
        print(f"{name}: stored", flush=True)
        return True
    print(f"{name} ...", flush=True)
    command = [sys.executable, "-m", "experiments.storage_bench", "--child", name]
    for option in (
        "n",
        "dim",
        "rounds",
        "calls",
        "budget",
        "systems",
        "work",
        "docs",
        "sizes",
        "scaling_dim",
    ):
        command += [f"--{option.replace('_', '-')}", str(getattr(options, option))]
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "LANCE_LOG": "error"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def child(options: argparse.Namespace) -> int:
    """Measure one group in this process and store it."""
    name, work = options.child, options.work
    content = content_of(name, options)
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    engines = tuple(options.systems.split(","))
    stores = stores_of(options, set_of(name))
    setting = groups.Setting(content, stores, scratch, options.rounds, options.calls, options.budget, engines)
    others, before = measure.Others(), measure.calibrate(work, seconds=options.budget / 3)
    found = figures(name, setting)
    stored = {
        "name": name,
        "key": key_of(name, options),
        "size": size(options),
        "engines": sorted(engines),
        **found,
        "calibration": [before, measure.calibrate(work, seconds=options.budget / 3)],
        "others": others.cores(),
        "machine": measure.machine(),
        "versions": versions(found["systems"]),
        "command": repeat(options, name.partition(" ")[0]),
        "when": time.strftime("%Y-%m-%d"),
        "data": data.statistics(content),
    }
    result_file(name, options).parent.mkdir(parents=True, exist_ok=True)
    result_file(name, options).write_text(json.dumps(stored, indent=1))
    shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _is_this(stored: dict[str, Any], key: str, options: argparse.Namespace) -> bool:
    """Whether a result is that of these sources and sizes, and of all systems that are asked for."""
    asked = set(options.systems.split(","))
    return stored["key"] == key and asked <= set(stored.get("engines", asked))


def figures(name: str, setting: groups.Setting) -> groups.Result:
    """What a step measures."""
    group, _, rest = name.partition(" ")
    match group:
        case "load":
            return groups.load(rest, setting)
        case "index":
            return indexed.index(rest.partition(" ")[2], setting)
        case "scaling":
            return searches.nearest(setting._replace(engines=tuple(set(SCALED) & set(setting.engines))))
    if group in SEARCH:
        return SEARCH[group][1](setting)
    return LIVE[name](setting) if name in LIVE else groups.point(name, setting)


def set_of(name: str) -> str:
    """The set of vectors that a step indexes or searches, "" for the data of the other rows."""
    group, _, rest = name.partition(" ")
    if group in ("index", "scaling"):
        return rest.partition(" ")[0]
    return SEARCH[group][0] if group in SEARCH else ""


def content_of(name: str, options: argparse.Namespace) -> data.Data:
    if held := set_of(name):
        return sets.make(held, options.n, options.dim, cache=options.work / "data")
    extra = options.calls * (options.rounds + 1)
    return data.make(options.n, options.dim, extra=extra, cache=options.work / "data")


def folder_of(name: str, options: argparse.Namespace) -> Path | None:
    """The store that a step leaves; None where it leaves none."""
    group, _, rest = name.partition(" ")
    if group == "index":
        return stores_of(options, set_of(name)) / rest.partition(" ")[2]
    return stores_of(options) / rest.partition(" ")[0] if group == "load" else None


def repeat(options: argparse.Namespace, group: str) -> str:
    """The command that measures a group like this again."""
    changed = [f"--{key} {value}" for key in _DEFAULTS if (value := getattr(options, key)) != _DEFAULTS[key]]
    changed += [f"--sizes {options.sizes} --scaling-dim {options.scaling_dim}"] * (group == "scaling")
    return f"make bench N={options.n} DIM={options.dim} ARGS='{' '.join([f'--only {group}', *changed])}'"


def versions(systems: dict[str, Any]) -> dict[str, str]:
    import numpy

    engines = sorted({label.partition(" ")[0] for label in systems} & set(ENGINES) - {"t4dx-hnswlib"})
    found = {engine: release(engine) for engine in engines}
    return {"python": platform.python_version(), "numpy": numpy.__version__, **found}


def size(options: argparse.Namespace) -> list[int]:
    return [options.n, options.dim]


def stores_of(options: argparse.Namespace, held: str = "") -> Path:
    """The folder of the loaded stores, and of those that hold a set of vectors."""
    if "x" in held or held == "minilm":
        return Path(options.work) / "stores" / held
    return Path(options.work) / "stores" / f"{options.n}x{options.dim}{held and '-'}{held}"


def result_file(name: str, options: argparse.Namespace) -> Path:
    return Path(options.work) / "results" / f"{name.replace(' ', '-')}-{options.n}x{options.dim}.json"


def key_of(name: str, options: argparse.Namespace) -> str:
    """Changes with the sizes and with every source that the group runs."""
    digest = hashlib.sha256(json.dumps([options.rounds, options.calls, options.budget]).encode())
    for file in sources_of(name, options):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def sources_of(name: str, options: argparse.Namespace) -> list[Path]:
    """The files whose code a group runs; a peer's load does not run T4DX."""
    here = Path(__file__).parent
    files = [here / "data.py", *([here / "sets.py"] if set_of(name) else [])]
    peer = folder_of(name, options) is not None and not name.rpartition(" ")[2].startswith("t4dx")
    if not peer:
        own = ("searches.py", "indexed.py") if set_of(name) else ("groups.py", "live.py")
        files += [
            ROOT / "experiments" / "bench" / "measure.py",
            *(here / file for file in (*own, *_ALSO.get(name, ()))),
            *sorted((here / "systems").glob("*.py")),
            *sorted((ROOT / "t4dm" / "t4dx").glob("*.py")),
        ]
    return files


if __name__ == "__main__":
    sys.exit(main())
