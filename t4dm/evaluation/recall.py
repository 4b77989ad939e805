"""Recall beyond the window: facts told 1, 2, 4, 8, 16 windows ago, asked with and without the memory that
holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from t4dm.data.recall import CHANCE, Episode, RecallTask, Sentence
from t4dm.data.recall_windows import WindowEncoder
from t4dm.errors import ExamTooSmallError
from t4dm.evaluation.intervals import wilson
from t4dm.memory.memory import Memory
from t4dm.model import MemoryLM, Reads
from t4dm.model.writer import MemoryWriter

Arm = Literal["frozen", "lora", "no_memory", "memory", "shuffled", "after_night", "in_prompt"]
ARMS: tuple[Arm, ...] = ("frozen", "lora", "no_memory", "memory", "shuffled", "after_night", "in_prompt")
DISTANCES = (1, 2, 4, 8, 16)


def held_out_task(
    *, facts: int = 3, distractors: int = 2, update_rate: float = 0.15, distances: Sequence[int] = DISTANCES
) -> RecallTask:
    """Episodes that tell for `max(distances)` windows, then ask once at each distance in one last window."""
    last = max(distances)
    return RecallTask(
        windows=last + 1,
        telling=last,
        facts=facts,
        distractors=distractors,
        questions=len(distances),
        distances=tuple(distances),
        asking=last,
        update_rate=update_rate,
    )


@dataclass(slots=True)
class Hits:
    """Right and total answers by distance."""

    right: dict[int, int] = field(default_factory=dict)
    total: dict[int, int] = field(default_factory=dict)

    def count(self, distance: int, right: bool) -> None:
        self.right[distance] = self.right.get(distance, 0) + int(right)
        self.total[distance] = self.total.get(distance, 0) + 1

    def table(self) -> dict[str, dict[str, Any]]:
        """`{distance: {"mean", "ci": [low, high], "n"}}`, with Wilson's 95 % intervals."""
        return {
            str(d): {"mean": self.right[d] / n, "ci": list(wilson(self.right[d], n)), "n": n}
            for d, n in sorted(self.total.items())
        }


class RecallScores(NamedTuple):
    """What an evaluation found."""

    chance: float
    recall: dict[str, dict[str, dict[str, Any]]]
    """By arm and distance."""
    gate: dict[str, float]
    """Share of tellings and of distractors that were written, and of all spans."""
    store: dict[str, dict[str, float]]
    """Items and bytes before and after the night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallExam:
    """Asks held-out episodes of a model under several arms; every arm answers the same questions.

    Args:
        task: recipe of the episodes; its last window asks.
        encode: text to token ids.
        length: tokens in a window; in the arm `in_prompt` the facts stand before the questions, in
            `prompt_length` tokens.
        episodes: how many.
        seed: of the episodes; training must use another stream.
        batch: episodes at a time.
    """

    task: RecallTask
    encode: Callable[[str], Sequence[int]]
    length: int = 64
    prompt_length: int = 96
    pad_id: int = 0
    episodes: int = 64
    seed: int = 1
    batch: int = 64

    def draw(self) -> list[Episode]:
        """The held-out episodes."""
        streams = np.random.SeedSequence([self.seed, 0x7E57]).spawn(self.episodes)
        return [
            self.task.episode(np.random.default_rng(s), session=f"exam-{self.seed}-{i}")
            for i, s in enumerate(streams)
        ]

    def run(
        self,
        model: MemoryLM,
        *,
        memory: Memory | None,
        writer: MemoryWriter | None,
        night: Callable[[], None] | None = None,
        arms: Iterable[Arm] = ARMS,
        progress: Callable[[str], None] = lambda _: None,
    ) -> RecallScores:
        """Tell, ask, sleep, ask again.

        Args:
            model: under test; evaluated in eval mode and without gradient.
            memory: an empty store's port for the arms that use memory.
            writer: decides what is written.
            night: consolidates `memory`; the arm `after_night` asks after it.
            arms: which to ask.
            progress: called with a word for each part.

        Raises:
            ExamTooSmallError: the arm `shuffled` has no other episode to take memories from.
        """
        wanted, episodes = list(arms), self.draw()
        training = model.training
        model.eval()
        with torch.no_grad():
            gate = self._tell(model, memory, writer, episodes, progress)
            store: dict[str, dict[str, float]] = {}
            scores: dict[str, dict[str, dict[str, Any]]] = {}
            for arm in wanted:
                if arm == "after_night" and memory is not None:
                    store["before"] = _size(memory)
                    if night is not None:
                        night()
                    store["after"] = _size(memory)
                progress(arm)
                scores[arm] = self._ask(model, memory, arm, episodes).table()
        model.train(training)
        return RecallScores(CHANCE, scores, gate, store)

    def _tell(
        self,
        model: MemoryLM,
        memory: Memory | None,
        writer: MemoryWriter | None,
        episodes: list[Episode],
        progress: Callable[[str], None],
    ) -> dict[str, float]:
        """Run every telling window through the model and write what the gate lets pass."""
        if memory is None or writer is None:
            return {}
        encoder, last = self._encoder(self.length), self.task.windows - 1
        told, kept = [], []
        for w in range(last):
            progress(f"tell {w + 1}/{last}")
            for part in _parts(episodes, self.batch):
                batch = encoder.batch([(e, w) for e in part])
                output = _forward(model, batch)
                written = writer.write(model, memory, batch, output, learn=False)
                told.append(written.told)
                kept.append(written.kept)
        is_told, is_kept = np.concatenate(told), np.concatenate(kept)
        return {
            "write_rate": float(is_kept.mean()),
            "told_kept": float(is_kept[is_told].mean()) if is_told.any() else float("nan"),
            "distractors_kept": float(is_kept[~is_told].mean()) if (~is_told).any() else float("nan"),
        }

    def _ask(self, model: MemoryLM, memory: Memory | None, arm: Arm, episodes: list[Episode]) -> Hits:
        hits = Hits()
        encoder = self._encoder(self.prompt_length if arm == "in_prompt" else self.length)
        last = self.task.windows - 1
        if arm == "shuffled" and len(episodes) < 2:
            raise ExamTooSmallError(len(episodes))
        sessions = [episode.session for episode in episodes]
        strangers = dict(zip(sessions, sessions[1:] + sessions[:1], strict=True))
        for part in _parts(episodes, self.batch):
            rows = [(_with_facts(e), 0) for e in part] if arm == "in_prompt" else [(e, last) for e in part]
            batch = encoder.batch(rows, start_time=60.0 * last if arm == "in_prompt" else 0.0)
            if arm == "shuffled":
                batch["sessions"] = [strangers[episode.session] for episode in part]
            with _disabled_lora(model, arm):
                guess = _forward(model, batch, memory=memory, arm=arm).logits[:, :-1].argmax(-1)
            _count(hits, guess, batch)
        return hits

    def _encoder(self, length: int) -> WindowEncoder:
        writes = self.task.facts + self.task.distractors + self.task.questions
        return WindowEncoder(
            encode=self.encode, length=length, reads=self.task.questions, writes=writes, pad_id=self.pad_id
        )


def _forward(
    model: MemoryLM, batch: Mapping[str, Any], *, memory: Memory | None = None, arm: Arm = "no_memory"
) -> Any:
    """One pass of the arm: with or without stack or memory."""
    uses_memory = arm in ("memory", "shuffled", "after_night") and memory is not None
    inputs = {name: batch[name] for name in ("attention_mask", "labels", "reset")}
    if arm in ("frozen", "lora", "in_prompt"):
        return model(batch["input_ids"], **inputs, bypass=True)
    reads = Reads(batch["read_start"], batch["read_end"], batch["sessions"]) if uses_memory else None
    return model(batch["input_ids"], **inputs, reads=reads, memory=memory, count_accesses=False)


def _disabled_lora(model: MemoryLM, arm: Arm) -> AbstractContextManager[Any]:
    """The arms `frozen` and `in_prompt` see the backbone as it was loaded."""
    disable = getattr(model.language_model, "disable_adapter", None)
    return disable() if disable is not None and arm in ("frozen", "in_prompt") else nullcontext()


def _count(hits: Hits, guess: Tensor, batch: Mapping[str, Any]) -> None:
    asked = batch["answers"][:, 1:]
    right = (guess == batch["input_ids"][:, 1:])[asked].tolist()
    for distance, ok in zip(batch["distance"][:, 1:][asked].tolist(), right, strict=True):
        hits.count(distance, ok)


def _with_facts(episode: Episode) -> Episode:
    """The asking window alone, the facts it asks for told right before it."""
    asking = episode.windows[-1]
    questions = [s for s in asking if s.kind == "question"]
    facts = [_last_telling(episode, s) for s in questions]
    return Episode(episode.session, ((*facts, *questions),))


def _last_telling(episode: Episode, question: Sentence) -> Sentence:
    tellings = [
        s
        for window in episode.windows
        for s in window
        if s.key == question.key and s.kind in ("fact", "update")
    ]
    return tellings[-1]


def _size(memory: Memory) -> dict[str, float]:
    memory.store.flush()
    stats = memory.store.stats()
    undo = float(stats["undo_bytes"])
    return {"items": float(stats["items"]), "bytes": stats["bytes"] - undo, "undo_bytes": undo}


def _parts(episodes: list[Episode], size: int) -> Iterable[list[Episode]]:
    return (episodes[i : i + size] for i in range(0, len(episodes), size))
