"""Break the engine on purpose and see that the other runners notice: a harness that never bites proves
nothing.
"""

from __future__ import annotations

import random
import sys

from reliability import sabotage_search, sabotage_upkeep
from reliability.rows import Failure, Runner, Wrong, attempt, run, runner_named
from reliability.sabotage import MUTANTS

TABLES = (sabotage_search, sabotage_upkeep)


def cases(seed: int, size: int) -> list[str]:
    """`size` mutants, another choice for another seed; 0: all."""
    names = sorted(MUTANTS)
    return names if size == 0 else random.Random(seed).sample(names, size)


def check(case: str) -> int:
    """A mutant must be noticed."""
    if killed_by(case) is None:
        raise Wrong(f"the mutant {case} lives: no runner of {MUTANTS[case].killers} noticed")
    return 1


def killed_by(name: str) -> Failure | None:
    """What the first runner that notices a mutant says."""
    chosen = MUTANTS[name]
    forget()
    try:
        with chosen.at_work():
            for test, size in chosen.killers:
                runner = runner_named(test)
                if isinstance(size, str):
                    failures = [found] if (found := attempt(runner, size)[1]) else []
                else:
                    failures = run(runner, seed=77, size=size, stop=True).failures
                if failures:
                    return failures[0]
    finally:
        forget()
    return None


def forget() -> None:
    """Nothing that was computed with another engine may be used."""
    for name, module in list(sys.modules.items()):
        if name.startswith("reliability."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


RUNNER = Runner("mutants", cases, check, {"pr": 5, "nightly": 0})
