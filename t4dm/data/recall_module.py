"""Recall episodes for Lightning: lanes of episodes that advance one window a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lightning.pytorch as pl
import numpy as np

from t4dm.data.loader import Batch, BatchLoader
from t4dm.data.recall import Episode, RecallTask
from t4dm.data.recall_windows import Encode, WindowEncoder
from t4dm.errors import SettingError

SECONDS_PER_WINDOW = 60.0
_STREAMS = {"train": 0, "val": 1, "test": 2, "count": 3}


class RecallDataModule(pl.LightningDataModule):
    """Episodes drawn from (seed, split, epoch, lane), so every step can be made again and the splits never
    meet.

    A step is one window of `lanes` episodes; after `task.windows` steps the lanes take up new episodes.
    Windows keep their order: what a window tells is written before a later one asks. With more
    `windows_per_step` a training step holds as many windows of each lane, the earlier ones first: their later
    ones are asked about what the working memory holds (`MemoryLM`), not the store.

    Args:
        encode: text to token ids.
        task: recipe of training episodes.
        held_out: recipe of validation episodes; `task` by default.
        lanes: rows of a batch.
        rounds: episodes of each lane in an epoch.
        val_rounds: episodes of each lane in a validation.
        windows_per_step: windows of a lane in a training step; divides `task.windows`.
        length: tokens in a window.
        reads, writes: spans of each kind that a row can hold.
        pad_id: id of padding.
        answer_weight: loss weight of answers.
        seed: of everything drawn.

    Raises:
        SettingError: `windows_per_step` does not divide the windows of an episode.
    """

    def __init__(
        self,
        *,
        encode: Encode,
        task: RecallTask,
        held_out: RecallTask | None = None,
        lanes: int = 16,
        rounds: int = 8,
        val_rounds: int = 1,
        windows_per_step: int = 1,
        length: int = 64,
        reads: int = 2,
        writes: int = 8,
        pad_id: int = 0,
        answer_weight: float = 8.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if windows_per_step < 1 or task.windows % windows_per_step:
            fix = f"choose a divisor of the {task.windows} windows of an episode: data.windows_per_step=1"
            raise SettingError("data.windows_per_step", windows_per_step, fix)
        self.windows_per_step = windows_per_step
        self.task, self.held_out = task, held_out or task
        self.lanes, self.rounds, self.val_rounds, self.seed = lanes, rounds, val_rounds, seed
        self.encoder = WindowEncoder(
            encode=encode,
            length=length,
            reads=reads,
            writes=writes,
            pad_id=pad_id,
            answer_weight=answer_weight,
        )
        self._drawn: dict[tuple[str, int, int], list[Episode]] = {}

    @property
    def distances(self) -> tuple[int, ...]:
        """How many windows ago held-out questions ask about."""
        return tuple(self.held_out.distances)

    def train_dataloader(self) -> BatchLoader:
        """Windows of fresh episodes, new ones in every epoch."""
        return self._loader("train", self.task, self.rounds, windows=self.windows_per_step)

    def val_dataloader(self) -> BatchLoader:
        """Windows of held-out episodes, the same ones every time."""
        return self._loader("val", self.held_out, self.val_rounds)

    def spans(self, *, episodes: int = 64) -> Iterator[Sequence[int]]:
        """Token spans of sentences of the same kind, for counting how rare each word is."""
        for lane in range(episodes):
            for window in self._draw("count", self.task, 0, lane).windows:
                for sentence in window:
                    answer = f" {sentence.answer}." if sentence.answer else ""
                    yield self.encoder.ids(sentence.text + answer)

    def episodes(self, split: str, task: RecallTask, *, epoch: int, turn: int) -> list[Episode]:
        """The episodes of all lanes in one turn."""
        key = (split, epoch, turn)
        if key not in self._drawn:
            first = turn * self.lanes
            self._drawn = {key: [self._draw(split, task, epoch, first + lane) for lane in range(self.lanes)]}
        return self._drawn[key]

    def _draw(self, split: str, task: RecallTask, epoch: int, lane: int) -> Episode:
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, _STREAMS[split], epoch, lane]))
        return task.episode(rng, session=f"{split}-{self.seed}-{epoch}-{lane}")

    def _loader(self, split: str, task: RecallTask, rounds: int, *, windows: int = 1) -> BatchLoader:
        def batch_at(epoch: int, step: int) -> Batch:
            turn, first = divmod(step * windows, task.windows)
            epoch = epoch if split == "train" else 0
            episodes = self.episodes(split, task, epoch=epoch, turn=turn)
            rows = [(episode, first + w) for w in range(windows) for episode in episodes]
            start = (epoch * rounds + turn) * task.windows * SECONDS_PER_WINDOW
            return self.encoder.batch(rows, start_time=start)

        return BatchLoader(batch_at=batch_at, steps=rounds * task.windows // windows)
