"""Hypothesis looks for a sequence of writes and moves after which the kept index answers otherwise than BM25
over the visible texts, computed anew without any index.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from naive_bm25 import ranking
from simulated_fs import SimulatedFileSystem
from store_model import Ticks

from t4dm.t4dx import T4DX, Bm25, Item, Options, text_index

NAMES = st.sampled_from([f"i{n}" for n in range(6)])
TEXTS = st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join)
QUERY = "a b b d"


class TextMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock, self.fs = Ticks(), SimulatedFileSystem()
        self.texts: dict[str, str] = {}
        self.past: list[tuple[float, dict[str, str]]] = []
        self.forgotten: set[str] = set()
        self.store = self.opened()

    def opened(self) -> T4DX:
        options = Options(durability="sync", background=False)
        return T4DX.open("s", dim=2, options=options, clock=self.clock, fs=self.fs)

    @rule(name=NAMES, text=TEXTS)
    def insert(self, name: str, text: str) -> None:
        self.store.insert(Item(id=name, content=text))
        self.texts[name] = text

    @rule(pairs=st.lists(st.tuples(NAMES, TEXTS), min_size=1, unique_by=lambda pair: pair[0]))
    def insert_many(self, pairs: list[tuple[str, str]]) -> None:
        self.store.insert_many([Item(id=name, content=text) for name, text in pairs])
        self.texts.update(pairs)

    @rule(name=NAMES, close=st.booleans())
    def remove(self, name: str, close: bool) -> None:
        if name in self.texts:
            (self.store.close_item if close else self.store.delete)(name)
            del self.texts[name]
            if not close:
                self.past = [(at, {i: t for i, t in texts.items() if i != name}) for at, texts in self.past]

    @rule()
    def remember(self) -> None:
        self.past.append((self.clock(), dict(self.texts)))

    @rule(move=st.sampled_from(["flush", "compact", "reopen", "crash"]))
    def move(self, move: str) -> None:
        if move == "crash":
            self.fs = self.fs.after_crash("synced")
            self.store = self.opened()
        elif move == "reopen":
            self.store.close()
            self.store = self.opened()
        else:
            getattr(self.store, move)()

    @invariant()
    def answers_are_those_of_all_visible_texts(self) -> None:
        for at, texts in [(None, self.texts), *self.past[-2:]]:
            bm25 = Bm25(variant=("lucene", "okapi", "plus")[len(self.texts) % 3])
            hits = self.store.search_text(QUERY, 99, as_of=at, bm25=bm25)
            split = {name: text.split() for name, text in texts.items()}
            wanted = ranking(split, QUERY.split(), bm25) if any(split.values()) else []
            assert sorted(hits.ids) == sorted(name for name, _ in wanted)
            assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-9)
            assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)


def search(*, examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(TextMachine, settings=chosen)


def test_no_short_sequence_makes_the_index_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "WORTH", 1)
    search(examples=30, steps=20)


@pytest.mark.nightly
def test_no_longer_sequence_makes_the_index_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_index, "WORTH", 1)
    search(examples=500, steps=60)
