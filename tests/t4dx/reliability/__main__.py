"""`python -m reliability`: run the tests of a tier and write docs/reliability.{json,md}, or one test, or one
case.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability import report, rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="reliability", description=__doc__)
    parser.add_argument("test", nargs="?", help="one kind of test; without it, all of a tier")
    parser.add_argument("--tier", choices=("pr", "nightly"), default="pr")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, help="instead of the tier's")
    parser.add_argument("--write", action="store_true", help="put the row of one test into the report")
    parser.add_argument("--case", help="replay one case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the report")
    args = parser.parse_args()
    if args.case is not None:
        runner = rows.runner_named(args.test)
        print(f"{runner.check(args.case)} tried, nothing found")
        return 0
    found = []
    for name in (args.test,) if args.test else report.TESTS:
        runner = rows.runner_named(name)
        size = runner.sizes[args.tier] if args.size is None else args.size
        row = rows.run(runner, seed=args.seed, size=size, jobs=args.jobs)
        print(
            f"{name:20} tried {row.tried}, lost {row.lost}, wrong {row.wrong} ({row.seconds:.0f} s)",
            flush=True,
        )
        for failure in row.failures[:5]:
            print(f"  {failure.kind}: {failure.message}\n  again: {failure.command}", flush=True)
        found.append(row)
    if not args.test or args.write:
        report.write(found, tier=args.tier, folder=args.out)
    return int(any(row.failures for row in found))


if __name__ == "__main__":
    sys.exit(main())
