"""What was read and said becomes memories: its sentences are offered to the write gate as in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from t4dm.memory.memory import Memory, Recall
from t4dm.model.memory_lm import MemoryLM
from t4dm.model.writer import MemoryWriter

ENDS = (".", "!", "?", "\n", "\u2026", "\u3002", "\uff01", "\uff1f")
ASKS = ("?", "\uff1f")


class Offered(NamedTuple):
    """One sentence that the gate was shown."""

    text: str
    tau: float
    id: str | None
    """Of the item; None where the gate was closed."""


@torch.no_grad()
def remember(
    model: MemoryLM,
    memory: Memory,
    writer: MemoryWriter,
    ids: Sequence[int],
    *,
    session: str,
    event_time: float,
    recall: Recall | None = None,
) -> list[Offered]:
    """Offer the sentences of a text to the gate and write what passes, through the writer that training uses.

    The text is read once more, for the prediction error of its tokens. The gate stays as training left it.

    Args:
        model: in evaluation mode, with an embedder.
        ids: the text's tokens, no more than the backbone has positions for.
        session: whose memory it becomes.
        event_time: when it was said, seconds.
        recall: what was recalled for it, by one query; the written items get an edge to the best hit.

    Returns:
        What was offered, in the order of the text.
    """
    spans = sentences(model.backbone.tokenizer, ids, longest=model.recall_tokens)
    if not spans:
        return []
    tokens = torch.tensor([list(ids)], device=model.backbone.device)
    output = model(tokens, labels=tokens)
    batch = {
        "input_ids": tokens,
        "sessions": [session],
        "event_times": torch.tensor([event_time], dtype=torch.float64),
        "write_start": torch.tensor([[start for start, _ in spans]]),
        "write_end": torch.tensor([[end for _, end in spans]]),
    }
    done = writer.write(model, memory, batch, output._replace(recall=recall), learn=False)
    texts = model.backbone.tokenizer.batch_decode([list(ids[start:end]) for start, end in spans])
    taus = np.asarray(done.tau, dtype=np.float64).tolist()
    return [Offered(t.strip(), tau, name) for t, tau, name in zip(texts, taus, done.ids, strict=True)]


def sentences(tokenizer: Any, ids: Sequence[int], *, longest: int) -> list[tuple[int, int]]:
    """Spans `(start, end)` of a text that may become memories.

    A sentence ends at its mark, at a special token, or after `longest` tokens, since no more of an item is
    read. A question tells nothing (in training none is offered): it is kept with the sentence after it, its
    answer, where both fit into one span, and left out where nothing follows. One token alone cannot be read.
    """
    whole = list(_split(tokenizer, ids, longest=longest))
    found: list[tuple[int, int]] = []
    asked: int | None = None
    for place, (start, end, asks) in enumerate(whole):
        if asks:
            follows = place + 1 < len(whole) and whole[place + 1].start == end
            asked = start if follows else None
            continue
        first = asked if asked is not None and end - asked <= longest else start
        asked = None
        words = any(mark.isalnum() for mark in str(tokenizer.decode(list(ids[start:end]))))
        if words and end - first > 1:
            found.append((first, end))
    return found


class _Sentence(NamedTuple):
    start: int
    end: int
    asks: bool


def _split(tokenizer: Any, ids: Sequence[int], *, longest: int) -> Iterator[_Sentence]:
    """Every sentence of a text; special tokens belong to none."""
    special, start = set(tokenizer.all_special_ids), 0
    for at, token in enumerate(ids):
        if token in special:
            if at > start:
                yield _Sentence(start, at, False)
            start = at + 1
            continue
        word = str(tokenizer.decode([token])).rstrip(" ")
        if word.endswith(ENDS) or at + 1 - start == longest:
            yield _Sentence(start, at + 1, word.endswith(ASKS))
            start = at + 1
    if len(ids) > start:
        yield _Sentence(start, len(ids), False)
