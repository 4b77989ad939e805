"""All speed tables by one command; what a wing does not know of the arguments is for the other.

python -m experiments.bench --only lif,get        (also: --only storage, --only spiking, --only lm)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from experiments.lm_bench import __main__ as lm
from experiments.spiking_bench import __main__ as spiking
from experiments.storage_bench import __main__ as storage

WINGS = {"storage": storage, "spiking": spiking, "lm": lm}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the wings that have a chosen row group; all of them when none is chosen."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    reader = argparse.ArgumentParser(prog="python -m experiments.bench", add_help=False, allow_abbrev=False)
    reader.add_argument("--only", default="")
    only, rest = reader.parse_known_args(given)
    names = [name for name in only.only.split(",") if name]
    if {"-h", "--help"} & set(rest):
        print("\n".join(wing.parser().format_help() for wing in WINGS.values()))
        return 0
    if unknown := sorted({name for name in names if not any(_has(wing, name) for wing in WINGS)}):
        known = [*WINGS, *(name for wing in WINGS.values() for name in wing.names())]
        reader.error(f"no row group {', '.join(unknown)}; choose from {', '.join(known)}")
    return _run({wing: _own(wing, names) for wing in WINGS if not names or _own(wing, names)}, names, rest)


def _run(chosen: dict[str, list[str]], names: list[str], rest: list[str]) -> int:
    strange: list[set[str]] = []
    jobs = []
    for wing, own in chosen.items():
        whole = not names or wing in names
        reader = WINGS[wing].parser()
        options, unknown = reader.parse_known_args([*rest, *([] if whole else ["--only", ",".join(own)])])
        WINGS[wing].check(options, reader)
        strange.append({token for token in unknown if token.startswith("-")})
        jobs.append((WINGS[wing], options))
    if left := set.intersection(*strange):
        argparse.ArgumentParser(prog="python -m experiments.bench").error(
            f"no option {', '.join(sorted(left))}; see python -m experiments.bench --help"
        )
    return max(module.run(options) for module, options in jobs)


def _own(wing: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if _has(wing, name)]


def _has(wing: str, name: str) -> bool:
    module: ModuleType = WINGS[wing]
    return name == wing or name in module.names()


if __name__ == "__main__":
    sys.exit(main())
