"""What every runner shares: cases named by a short text, failures that replay alone, and one row per run."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context

FOLDER = "PYTHONPATH=tests/t4dx python -m reliability"


class Fault(AssertionError):
    """What a case found; `case` is a narrower case that shows the same, where there is one."""

    kind = "wrong"

    def __init__(self, message: str, *, case: str = "") -> None:
        super().__init__(message, case)
        self.message, self.case = message, case

    def __str__(self) -> str:
        return self.message


class Wrong(Fault):
    """The store answered, kept or raised something that it must not."""


class Lost(Fault):
    """Something acknowledged is gone."""

    kind = "lost"


@dataclass(frozen=True, slots=True)
class Failure:
    """One fault of a run, with the command that shows it again."""

    kind: str
    command: str
    message: str


@dataclass(frozen=True, slots=True)
class Runner:
    """One kind of test.

    Attributes:
        name: of the row.
        cases: (seed, size) -> the cases to try; the same for the same arguments.
        check: tries one case, raises Lost or Wrong, returns how many single trials it held.
        sizes: size per tier.
    """

    name: str
    cases: Callable[[int, int], list[str]]
    check: Callable[[str], int]
    sizes: dict[str, int]


@dataclass(slots=True)
class Row:
    """What a run of one kind of test tried and found."""

    test: str
    tried: int
    lost: int
    wrong: int
    seed: int
    command: str
    size: int
    seconds: float
    extra: dict[str, object] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def assert_clean(self) -> None:
        """Raise with every failure and the command that replays it."""
        found = [f"{f.kind}: {f.message}\n  again: {f.command}" for f in self.failures]
        assert not found, f"{self.test}, seed {self.seed}:\n" + "\n".join(found)
        assert self.tried > 0, f"{self.test}, seed {self.seed}: nothing was tried"

    def entry(self) -> dict[str, object]:
        """The row as it is published."""
        plain = {name: getattr(self, name) for name in ("test", "tried", "lost", "wrong", "seed", "command")}
        told = [f"{f.kind}: {f.message} [{f.command}]" for f in self.failures]
        return (
            plain | {"seconds": round(self.seconds, 1), **self.extra} | ({"failures": told} if told else {})
        )


def run(
    runner: Runner, *, seed: int, size: int, jobs: int = 1, stop: bool = False, part: tuple[int, int] = (0, 1)
) -> Row:
    """Try the cases of one runner.

    Args:
        runner: which kind of test.
        seed: of the cases.
        size: how many, in the runner's own unit.
        jobs: processes; 1 stays in this one.
        stop: at the first failure.
        part: (number, of how many): only a share of the cases, for tests that are spread.
    """
    started = time.perf_counter()
    cases = runner.cases(seed, size)[part[0] :: part[1]]
    command = f"{FOLDER} {runner.name} --seed {seed} --size {size}"
    row = Row(runner.name, 0, 0, 0, seed, command, size, 0.0)
    for tried, failure in _results(runner, cases, jobs):
        row.tried += tried
        if failure is not None:
            row.failures.append(failure)
            row.lost += failure.kind == "lost"
            row.wrong += failure.kind == "wrong"
            if stop:
                break
    row.seconds = time.perf_counter() - started
    return row


def attempt(runner: Runner, case: str) -> tuple[int, Failure | None]:
    """One case, with whatever it raises as a failure: an unexpected exception is a fault as well."""
    again = f"{FOLDER} {runner.name} --case '{{}}'"
    try:
        return runner.check(case), None
    except Fault as fault:
        return 1, Failure(fault.kind, again.format(fault.case or case), fault.message)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.name}, {place.filename.rpartition('/')[2]}:{place.lineno}"
        told = f"{type(error).__name__}: {error} ({where})"
        return 1, Failure("wrong", again.format(case), told)


def runner_named(name: str) -> Runner:
    """The runner in `reliability.<name>`."""
    found: Runner = import_module(f"reliability.{name}").RUNNER
    return found


def _results(runner: Runner, cases: Sequence[str], jobs: int):
    if jobs < 2 or len(cases) < 2:
        yield from (attempt(runner, case) for case in cases)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_elsewhere, [runner.name] * len(cases), cases)


def _elsewhere(name: str, case: str) -> tuple[int, Failure | None]:
    return attempt(runner_named(name), case)
