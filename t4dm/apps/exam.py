"""The exam at the end of a run: recall by arm and distance, on a store of its own, with a night in it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t4dm.apps.assembly import Parts, Plain, open_store, port
from t4dm.config import build, chosen
from t4dm.evaluation.recall import RecallExam, RecallScores
from t4dm.sleep.cycle import run_cycle
from t4dm.sleep.night import Phase
from t4dm.training.callbacks.progress import RunBar
from t4dm.training.event_clock import EventClock

SECONDS_PER_WINDOW = 60.0


def sit(
    c: Plain, parts: Parts, *, folder: Path, phases: Sequence[Phase], rng: np.random.Generator, bar: RunBar
) -> RecallScores | None:
    """Ask the held-out questions under every arm; None where the config has no exam.

    Args:
        c: with `exam` and `storage`.
        parts: the trained model and what belongs to it.
        folder: of the run; the exam's store is in it while the exam lasts.
        phases: of the night between `memory` and `after_night`.
        rng: of the exam's ids and night.
        bar: shows how far it is.
    """
    if "_target_" not in (c["exam"] or {}).get("recall", {}):  # debug=fast may leave settings without an exam
        return None
    exam: RecallExam = build(c["exam"]["recall"], encode=parts.encode, pad_id=parts.pad_id)
    clock = EventClock(SECONDS_PER_WINDOW * exam.task.windows)
    bar.stage("exam", total=exam.task.windows - 1 + len(c["exam"]["arms"]))

    def told(word: str) -> None:
        bar.name(f"exam: {word}")
        bar.advance()

    with (
        tempfile.TemporaryDirectory(prefix=".exam-", dir=folder) as room,
        open_store(c, clock=clock, folder=Path(room) / "store") as store,
    ):
        memory = port(store, clock=clock, rng=rng)

        def night() -> None:
            if memory is not None and phases:
                run_cycle(memory, parts.model.stack, phases=phases, clock=clock, rng=rng)

        return exam.run(
            parts.model,
            memory=memory,
            writer=parts.writer,
            night=night,
            arms=_arms(c, memory),
            progress=told,
        )


def _arms(c: Plain, memory: object | None) -> list[Any]:
    """Without a store or a stack there is nothing to switch on, shuffle or put to sleep."""
    stack, sleeps = bool(chosen({"": c["model"].get("stack")})), bool(chosen(c["sleep"]["phases"]))
    possible = {
        "no_memory": stack,
        "memory": stack and memory is not None,
        "shuffled": stack and memory is not None,
        "after_night": stack and memory is not None and sleeps,
    }
    return [arm for arm in c["exam"]["arms"] if possible.get(arm, True)]


def scores_part(scores: RecallScores | None) -> dict[str, Any]:
    """What of summary.json comes from the exam."""
    if scores is None:
        return {"chance": None, "recall": {}, "gate": {}, "night": {}}
    return {"chance": scores.chance, "recall": scores.recall, "gate": scores.gate, "night": scores.store}
