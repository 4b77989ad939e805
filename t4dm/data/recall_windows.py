"""Recall episodes as token windows: sentences to ids, with the spans that the memory path needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t4dm.data.recall import Episode, Sentence
from t4dm.errors import WindowTooShortError

Encode = Callable[[str], Sequence[int]]
"""Text to token ids; " word" with its leading space must be stable under concatenation."""

ANSWER_WEIGHT = 8.0
NO_SPAN = -1


class WindowEncoder:
    """Turns windows of sentences into one batch of `T` tokens.

    A sentence is encoded with a leading space and cached. Reads are the questions' spans, writes the spans
    of everything that is told. Loss weights: answers `answer_weight`, every other token 1, padding 0.

    Args:
        encode: text to token ids.
        length: tokens in a window.
        reads, writes: how many spans of each kind a row can hold.
        pad_id: id of padding.
        answer_weight: loss weight of an answer's token.

    Raises:
        WindowTooShortError: a window's sentences need more tokens, reads or writes than there is room for.
    """

    def __init__(
        self,
        *,
        encode: Encode,
        length: int,
        reads: int,
        writes: int,
        pad_id: int = 0,
        answer_weight: float = ANSWER_WEIGHT,
    ) -> None:
        self._encode = encode
        self._cache: dict[str, list[int]] = {}
        self.length, self.reads, self.writes = length, reads, writes
        self.pad_id, self.answer_weight = pad_id, answer_weight

    def ids(self, text: str) -> list[int]:
        """Token ids of `text` with a leading space."""
        if text not in self._cache:
            self._cache[text] = list(self._encode(" " + text))
        return self._cache[text]

    def batch(self, rows: Sequence[tuple[Episode, int]], *, start_time: float = 0.0) -> dict[str, object]:
        """Encode window `w` of each episode; `event_times` advance by 60 s a window."""
        arrays = _Arrays(len(rows), self.length, self.reads, self.writes, self.pad_id)
        for b, (episode, w) in enumerate(rows):
            self._fill(arrays, b, episode.windows[w])
        out: dict[str, object] = {**arrays.tensors()}
        out["sessions"] = [episode.session for episode, _ in rows]
        out["event_times"] = torch.tensor([start_time + 60.0 * w for _, w in rows], dtype=torch.float64)
        out["window"] = torch.tensor([w for _, w in rows])
        return out

    def _fill(self, a: _Arrays, b: int, sentences: Sequence[Sentence]) -> None:
        at = reads = writes = 0
        for sentence in sentences:
            ids = self.ids(sentence.text)
            answer = [] if sentence.answer is None else [*self.ids(sentence.answer), *self.ids(".")[-1:]]
            end = at + len(ids)
            if end + len(answer) > self.length:
                raise WindowTooShortError(self.length, end + len(answer))
            a.input_ids[b, at : end + len(answer)] = ids + answer
            a.loss_weights[b, at : end + len(answer)] = 1.0
            if sentence.answer is not None:
                if reads == self.reads:
                    raise WindowTooShortError(self.reads, reads + 1, what="reads")
                last = end + len(answer) - 1
                a.answers[b, end:last] = True
                a.distance[b, end:last] = sentence.distance
                a.loss_weights[b, end:last] = self.answer_weight
                a.read_start[b, reads], a.read_end[b, reads] = at, end
                reads += 1
                end = last + 1
            else:
                if writes == self.writes:
                    raise WindowTooShortError(self.writes, writes + 1, what="writes")
                a.write_start[b, writes], a.write_end[b, writes] = at, end
                a.told[b, writes] = sentence.kind != "distractor"
                writes += 1
            at = end
        a.attention_mask[b, :at] = True


class _Arrays:
    """The numpy side of a batch."""

    def __init__(self, rows: int, length: int, reads: int, writes: int, pad_id: int) -> None:
        self.input_ids = np.full((rows, length), pad_id, dtype=np.int64)
        self.attention_mask = np.zeros((rows, length), dtype=bool)
        self.loss_weights = np.zeros((rows, length), dtype=np.float32)
        self.answers = np.zeros((rows, length), dtype=bool)
        self.distance = np.full((rows, length), -1, dtype=np.int64)
        self.read_start, self.read_end = _spans(rows, reads), _spans(rows, reads)
        self.write_start, self.write_end = _spans(rows, writes), _spans(rows, writes)
        self.told = np.zeros((rows, writes), dtype=bool)

    def tensors(self) -> dict[str, Tensor]:
        reset = np.zeros_like(self.attention_mask)
        reset[:, 0] = True
        labels = np.where(self.attention_mask, self.input_ids, -100)
        arrays = {**self.__dict__, "reset": reset, "labels": labels}
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _spans(rows: int, count: int) -> NDArray[np.int64]:
    return np.full((rows, count), NO_SPAN, dtype=np.int64)
