"""Plain text as training windows: the user's own files or a hub data set, packed, partly held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from t4dm.data.documents import hub_documents, read_documents
from t4dm.data.loader import Batch, BatchLoader
from t4dm.data.packing import Packed, pack
from t4dm.data.sampler import StepSampler
from t4dm.data.split import split
from t4dm.errors import SettingError, TextEmptyError, TextSourceError

Encode = Callable[[str], Sequence[int]]
TEXT_SESSION = "text"
NO_SPAN = -1


class TextDataModule(pl.LightningDataModule):
    """Windows of plain text in the batch format of recall episodes, with nothing to read or write.

    Args:
        encode: text to token ids, without special tokens.
        files: paths or globs of .txt, .jsonl and .parquet files.
        hub: name of a hub data set, instead of files.
        hub_subset, hub_split, hub_revision: which part of it, and at which commit.
        field: the field or column that holds the text.
        section_chars: a .txt file is cut at blank lines into sections of at least this size; null keeps
            it whole.
        length: tokens in a window, T.
        batch_size: windows in a batch, B.
        held_out: share of the documents that is validated on, by hash of their content; of a single document,
            its end.
        seed: of the split and of the order.
        end_id: token appended to each document; null appends none.
        pad_id: token that pads the last window.
        reads, writes: width of the empty span fields, as wide as those of the episodes that are mixed in.

    Raises:
        TextSourceError: neither or both of `files` and `hub` are given.
    """

    def __init__(
        self,
        *,
        encode: Encode,
        files: Sequence[str] = (),
        hub: str | None = None,
        hub_subset: str | None = None,
        hub_split: str = "train",
        hub_revision: str | None = None,
        field: str = "text",
        section_chars: int | None = 4096,
        length: int = 128,
        batch_size: int = 8,
        held_out: float = 0.05,
        seed: int = 1234,
        end_id: int | None = None,
        pad_id: int = 0,
        reads: int = 1,
        writes: int = 1,
    ) -> None:
        super().__init__()
        if bool(files) == bool(hub):
            raise TextSourceError
        self._encode, self._files, self._hub = encode, list(files), hub
        self._subset, self._split, self._revision = hub_subset, hub_split, hub_revision
        self._field, self._section_chars = field, section_chars
        self.length, self.batch_size, self._held_out, self._seed = length, batch_size, held_out, seed
        self._end_id, self._pad_id, self._widths = end_id, pad_id, (reads, writes)
        self._packed: tuple[Packed, Packed] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read, split and pack, once.

        Raises:
            TextEmptyError: there is no text, or a single word although some are to be held out.
            T4DMError: see `read_documents` and `hub_documents`.
        """
        if self._packed is not None:
            return
        documents, source = list(self._documents()), self._hub or ", ".join(self._files)
        if not documents:
            raise TextEmptyError(source, "no text")
        try:
            sides = split(documents, fraction=self._held_out, seed=self._seed)
        except SettingError:
            raise
        except ValueError as error:
            raise TextEmptyError(source, "a single word, so nothing can be held out") from error
        self._packed = self._pack(sides.train), self._pack(sides.held_out)

    @property
    def train(self) -> Packed:
        """The windows that are trained on."""
        self.setup()
        assert self._packed is not None
        return self._packed[0]

    @property
    def held_out(self) -> Packed:
        """The windows that are validated on."""
        self.setup()
        assert self._packed is not None
        return self._packed[1]

    def train_dataloader(self) -> BatchLoader:
        """Training windows, in an order of their own each epoch."""
        return self._loader(self.train, seed=self._seed)

    def val_dataloader(self) -> BatchLoader:
        """Held-out windows in order."""
        return self._loader(self.held_out, seed=None)

    def _documents(self) -> Iterator[str]:
        if self._hub is None:
            return read_documents(self._files, field=self._field, section_chars=self._section_chars)
        return hub_documents(
            self._hub, subset=self._subset, split=self._split, revision=self._revision, field=self._field
        )

    def _pack(self, documents: Sequence[str]) -> Packed:
        return pack(
            map(self._encode, documents), length=self.length, end_id=self._end_id, pad_id=self._pad_id
        )

    def _loader(self, packed: Packed, *, seed: int | None) -> BatchLoader:
        sampler = StepSampler(size=len(packed.tokens), batch_size=self.batch_size, seed=seed)
        reads, writes = self._widths

        def batch_at(epoch: int, step: int) -> Batch:
            return text_batch(packed, sampler.rows(epoch, step), reads=reads, writes=writes)

        return BatchLoader(batch_at=batch_at, steps=sampler.steps)


def text_batch(packed: Packed, rows: NDArray[np.int64], *, reads: int = 1, writes: int = 1) -> Batch:
    """Rows of packed text in the batch format of recall episodes: no spans, no answers, weight 1 each."""
    tokens, mask = packed.tokens[rows], packed.mask[rows]
    count, length = tokens.shape
    return {
        "input_ids": torch.from_numpy(tokens),
        "attention_mask": torch.from_numpy(mask),
        "labels": torch.from_numpy(packed.labels[rows]),
        "loss_weights": torch.from_numpy(mask.astype(np.float32)),
        "reset": torch.from_numpy(packed.starts[rows]),
        "sessions": [TEXT_SESSION] * count,
        "event_times": torch.zeros(count, dtype=torch.float64),
        "window": torch.zeros(count, dtype=torch.int64),
        "read_start": torch.full((count, reads), NO_SPAN),
        "read_end": torch.full((count, reads), NO_SPAN),
        "write_start": torch.full((count, writes), NO_SPAN),
        "write_end": torch.full((count, writes), NO_SPAN),
        "told": torch.zeros(count, writes, dtype=torch.bool),
        "answers": torch.zeros(count, length, dtype=torch.bool),
        "distance": torch.full((count, length), -1),
    }
