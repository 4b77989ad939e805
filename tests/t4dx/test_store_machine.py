"""Hypothesis looks for a short sequence of operations after which the store and the model disagree."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from reliability import questions
from reliability.model_ops import MOVES, Play
from reliability.operations import WRITES

SEEDS = st.integers(0, 999)


class StoreMachine(RuleBasedStateMachine):
    """Every write and every move is a rule with its own dice; some reads follow each."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play(1)

    @rule(name=st.sampled_from(sorted(WRITES)), seed=SEEDS)
    def write(self, name: str, seed: int) -> None:
        world = self.play.world
        world.rng.seed(seed)
        world.clock.now += 1.0
        lives = any(world.model.current(item_id) for item_id in world.ids)
        WRITES[name if lives else "insert"][0](world, world.store)
        questions.ask(world, 2)

    @rule(name=st.sampled_from(sorted(MOVES)), seed=SEEDS)
    def move(self, name: str, seed: int) -> None:
        self.play.rng.seed(seed)
        self.play.world.clock.now += 1.0
        MOVES[name][0](self.play)
        questions.ask(self.play.world, 2)

    def teardown(self) -> None:
        self.play.compare(what="at the end")


def search(*, examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(StoreMachine, settings=chosen)


def test_no_short_sequence_of_operations_makes_store_and_model_disagree() -> None:
    search(examples=25, steps=25)


@pytest.mark.nightly
def test_no_longer_sequence_of_operations_makes_store_and_model_disagree() -> None:
    search(examples=600, steps=80)
