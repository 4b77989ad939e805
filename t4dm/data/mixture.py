"""Recall episodes and plain text in turns, so that perplexity is protected while memory is learnt.

Batches alternate whole: the windows of an episode keep their order, and what was written stays before
what is asked.
"""

from __future__ import annotations

import math
from fractions import Fraction

import lightning.pytorch as pl

from t4dm.data.loader import Batch, BatchLoader
from t4dm.errors import SettingError


class MixtureDataModule(pl.LightningDataModule):
    """Two data modules whose loaders are `BatchLoader`s, one after the other in a fixed ratio.

    An epoch is one epoch of `recall`; the text goes on where the last epoch left it, and starts over when
    it is through.

    Args:
        recall: episodes; their validation loader comes first.
        text: plain text; its validation loader comes second.
        text_share: share of the training batches that are text, in [0, 1).
    """

    def __init__(
        self, *, recall: pl.LightningDataModule, text: pl.LightningDataModule, text_share: float = 0.5
    ) -> None:
        super().__init__()
        if not 0 <= text_share < 1:
            raise SettingError("data.text_share", text_share, "set it to a share in [0, 1)")
        self.recall, self.text, self.text_share = recall, text, text_share

    @property
    def distances(self) -> tuple[int, ...]:
        """How many windows ago held-out questions ask about."""
        return tuple(getattr(self.recall, "distances", ()))

    def setup(self, stage: str | None = None) -> None:
        """Set up both."""
        for part in (self.recall, self.text):
            part.setup(stage or "fit")

    def train_dataloader(self) -> BatchLoader:
        """Text and episodes in turns."""
        return interleave(self.recall.train_dataloader(), self.text.train_dataloader(), share=self.text_share)

    def val_dataloader(self) -> list[BatchLoader]:
        """Episodes, then held-out text."""
        return [self.recall.val_dataloader(), self.text.val_dataloader()]


def interleave(main: BatchLoader, other: BatchLoader, *, share: float) -> BatchLoader:
    """`main` once through, with `other` as an evenly spread `share` of all batches.

    Raises:
        SettingError: `other` holds no batch although it is to have a share.
    """
    part = Fraction(share).limit_denominator(1000)
    if part and not other.steps:
        fix = "the text holds no batch, so set it to 0 or name more text: data.text.files=[book.txt]"
        raise SettingError("data.text_share", share, fix)
    steps = total_steps(main.steps, part)
    turns = math.floor(steps * part)

    def batch_at(epoch: int, step: int) -> Batch:
        before = math.floor(step * part)
        if math.floor((step + 1) * part) == before:
            return main.batch_at(epoch, step - before)
        return other.batch_at(*divmod(epoch * turns + before, other.steps))

    return BatchLoader(batch_at=batch_at, steps=steps)


def total_steps(main: int, part: Fraction) -> int:
    """How many steps there are if all but a `part` of them, rounded up, are the `main` ones."""
    steps = math.floor(main / (1 - part))
    return steps if steps - math.floor(steps * part) == main else steps + 1
