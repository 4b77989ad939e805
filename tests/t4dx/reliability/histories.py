"""Short histories of several threads on one open store, and whether some sequential order explains them.

A call is recorded with the tick before it and the tick after it. A history is linearizable where its calls
can be put into one order in which whatever had returned before another call began comes before it, and in
which a plain dict gives every answer that the store gave. The search is that of Wing and Gong ("Testing and
verifying concurrent objects", J. Parallel Distrib. Comput. 17, 1993): as next comes any call before which no
other must come. With what Lowe added ("Testing for linearizability", Concurrency Computat.: Pract. Exper. 29,
2017): the same set of calls that left the same state is not tried twice.

Threads do not repeat exactly, so a failure holds the whole history as a case of its own: the verdict repeats.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from reliability.options import options
from reliability.rows import Wrong

from t4dm.errors import ItemNotFoundError
from t4dm.t4dx import T4DX, Filter, Item, Options

Todo = tuple[str, list[Any]]
"""A call to make: its name and arguments, of lists, strings and numbers only, as JSON keeps them."""
State = frozenset[tuple[str, float]]
"""Ids that live, with their kappas."""

IDS = ("a", "b", "c")
DONE, MISSING = "done", "missing"
WRITES = {"insert": 3, "update_fields": 3, "merge_kappa": 4, "delete": 1}
READS = {"get": 2, "get_many": 2, "snapshot": 2, "count": 1}
CALLS = WRITES | READS | {"transaction": 6, "flush": 1, "compact": 1}
LOOKS, PAUSE = 16, 2e-4
"""Of the thread that only reads: its calls are so fast that without a pause few would meet a write."""
WAIT = 60.0


class Call(NamedTuple):
    """One call, from tick to tick."""

    since: int
    until: int
    thread: int
    name: str
    args: list[Any]
    answer: Any

    def __str__(self) -> str:
        called = f"{self.name}({', '.join(map(json.dumps, self.args))})"
        return f"{self.since:3}-{self.until:<3} thread {self.thread}: {called} -> {json.dumps(self.answer)}"


def check(case: str) -> int:
    """A history to make, by its seed, or one that was recorded; returns its number of calls."""
    calls = parsed(case) if case.startswith("[") else record(int(case))
    if explained(calls) is None:
        rows = "\n".join(f"  {call}" for call in sorted(calls))
        told = f"no order of {len(calls)} calls explains every answer:\n{rows}"
        raise Wrong(told, case=literal(calls))
    return len(calls)


def literal(calls: Sequence[Call]) -> str:
    """A history as JSON without a quote that a shell would end at."""
    return json.dumps(calls, separators=(",", ":")).replace("'", "\\u0027")


def parsed(text: str) -> list[Call]:
    """The history of a literal."""
    return [Call(*row) for row in json.loads(text)]


def explained(calls: Sequence[Call]) -> list[Call] | None:
    """The calls in an order that explains every answer, from an empty store on; None where there is none."""
    tried: set[tuple[int, State]] = set()

    def search(done: int, state: State) -> list[Call] | None:
        left = [(bit, call) for bit, call in enumerate(calls) if not done >> bit & 1]
        if not left:
            return []
        if (done, state) in tried:
            return None
        tried.add((done, state))
        first_return = min(call.until for _, call in left)
        for bit, call in left:
            if call.since < first_return:
                answer, after = step(state, call.name, call.args)
                if answer == call.answer and (rest := search(done | 1 << bit, after)) is not None:
                    return [call, *rest]
        return None

    return search(0, frozenset())


def step(state: State, name: str, args: Sequence[Any]) -> tuple[Any, State]:
    """What a plain dict answers, and what it holds then."""
    held = dict(state)
    try:
        answer = expected(held, name, args)
    except KeyError:
        return MISSING, state
    return answer, frozenset(held.items())


def expected(held: dict[str, float], name: str, args: Sequence[Any]) -> Any:
    """One call on a plain dict; KeyError refuses it, whatever was done of it by then."""
    match name, args:
        case "get", [one]:
            return held.get(one)
        case (("get_many" | "snapshot"), _):
            return [held.get(one) for one in args]
        case "count", [least]:
            return sum(kappa >= least for kappa in held.values())
        case "insert", [one, kappa]:
            held[one] = kappa
        case "update_fields", [one, kappa]:
            del held[one]
            held[one] = kappa
        case "merge_kappa", [one, eta]:
            held[one] = (1.0 - eta) * held[one] + eta
        case "delete", [one]:
            del held[one]
        case "transaction", _:
            for inner, *rest in args:
                expected(held, inner, rest)
    return DONE


def answered(store: T4DX, name: str, args: Sequence[Any]) -> Any:
    """The same call on the store. An error that no dict has is an answer that nothing explains."""
    try:
        return asked(store, name, args)
    except ItemNotFoundError:
        return MISSING
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def asked(store: T4DX, name: str, args: Sequence[Any]) -> Any:
    """One call on the store."""
    match name, args:
        case "get", [one]:
            return kappa_of(store.get(one))
        case "get_many", _:
            return [kappa_of(item) for item in store.get_many(args)]
        case "snapshot", _:
            view = store.snapshot()
            return [kappa_of(view.get(one)) for one in args]
        case "count", [least]:
            return store.count(Filter(kappa=(least, None)))
        case "flush", _:
            store.flush()
        case "compact", [full]:
            store.compact(full=full)
        case "transaction", _:
            with store.transaction() as tx:
                for inner, *rest in args:
                    written(tx, inner, rest)
        case _:
            written(store, name, args)
    return DONE


def written(target: Any, name: str, args: Sequence[Any]) -> None:
    """One write on the store or in a transaction."""
    match name, args:
        case "insert", [one, kappa]:
            target.insert(Item(id=one, kappa=kappa))
        case "update_fields", [one, kappa]:
            target.update_fields(one, kappa=kappa)
        case "merge_kappa", [one, eta]:
            target.merge_kappa([one], eta)
        case "delete", [one]:
            target.delete(one)


def kappa_of(item: Item | None) -> float | None:
    """All that these histories look at."""
    return None if item is None else item.kappa


def record(seed: int) -> list[Call]:
    """Play a history: some items, three or four threads at once, a last look, and one more after a reopen."""
    rng = random.Random(seed)
    ids = IDS[: rng.choice((2, 3))]
    chosen, plays = small(rng), plans(rng, ids)
    looks: list[Todo] = [("get_many", list(ids)), ("count", [0.0]), ("count", [0.5])]
    calls: list[Call] = []
    ticks = count()  # one next() is one step of the interpreter: no two threads get the same tick

    def play(thread: int, todo: Sequence[Todo], pause: float = 0.0) -> None:
        for name, args in todo:
            time.sleep(pause)
            since = next(ticks)
            answer = answered(store, name, args)
            calls.append(Call(since, next(ticks), thread, name, args, answer))

    with tempfile.TemporaryDirectory() as folder:
        with T4DX.open(f"{folder}/s", dim=2, options=chosen) as store:
            play(0, [("insert", [one, rng.randrange(64) / 64]) for one in ids if rng.random() < 0.9])
            at_once([partial(play, thread, *plan) for thread, plan in enumerate(plays, 1)])
            play(0, looks)
        with T4DX.open(f"{folder}/s", options=chosen) as store:
            play(0, looks)
    return calls


def plans(rng: random.Random, ids: Sequence[str]) -> list[tuple[list[Todo], float]]:
    """What each thread does, and how long it pauses before each call: two or three do anything, one reads."""
    some = [rng.randrange(4, 7) for _ in range(rng.choice((2, 3)))]
    mixed = [([random_call(rng, ids, CALLS) for _ in range(number)], 0.0) for number in some]
    return [*mixed, ([random_call(rng, ids, READS) for _ in range(LOOKS)], PAUSE)]


def small(rng: random.Random) -> Options:
    """Thresholds at which every few writes lead to a flush, by a thread or by the writer itself."""
    return options(
        durability=rng.choice(("interval", "sync", "os")),
        memtable_items=rng.choice((2, 4)),
        memtable_bytes=rng.choice((300, 4096)),
        max_segments=rng.choice((1, 2)),
        max_deltas=rng.choice((1, 2)),
        background=rng.random() < 0.7,
        max_frozen=rng.choice((2, 1000)),
        txn_part_bytes=rng.choice((100, 10_000)),
    )


def random_call(rng: random.Random, ids: Sequence[str], weights: Mapping[str, int]) -> Todo:
    """One call on one id, or on two."""
    [name] = rng.choices(list(weights), list(weights.values()))
    two = rng.sample(ids, 2)
    if name in WRITES:
        return name, random_args(rng, name, two[0])
    if name == "transaction":
        inner = rng.choices(list(WRITES), list(WRITES.values()), k=2)
        return name, [[one, *random_args(rng, one, item)] for one, item in zip(inner, two, strict=True)]
    args = {"get": two[:1], "count": [rng.choice((0.0, 0.5))], "flush": [], "compact": [rng.random() < 0.5]}
    return name, args.get(name, two)


def random_args(rng: random.Random, name: str, item: str) -> list[Any]:
    """Kappas that seldom repeat, and stay exact when they are merged by halves."""
    if name == "delete":
        return [item]
    return [item, 0.5 if name == "merge_kappa" else rng.randrange(64) / 64]


def at_once(plays: Sequence[Callable[[], None]]) -> None:
    """Run all in threads that start together, switching as often as the interpreter can."""
    gate = threading.Barrier(len(plays))

    def go(play: Callable[[], None]) -> None:
        gate.wait()
        play()

    threads = [threading.Thread(target=go, args=(play,), daemon=True) for play in plays]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    finally:
        sys.setswitchinterval(before)
    if any(thread.is_alive() for thread in threads):
        raise Wrong("threads wait for each other: a deadlock")
