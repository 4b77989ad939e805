"""What was recalled, written and read, as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from t4dm.memory.memory import Recall
from t4dm.model import MemoryLM
from t4dm.model.decoding import begin
from t4dm.model.hearing import Offered
from t4dm.model.hits import RecalledItem
from t4dm.model.in_stream import MemoryRows
from t4dm.model.recall_reading import row_tokens, strongest_rows, watching_recall

STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def ago(seconds: float) -> str:
    """An age in its largest whole unit: `"3 min ago"`."""
    whole = round(seconds)
    unit, name = next(((unit, name) for unit, name in STEPS if whole >= unit), STEPS[-1])
    return f"{seconds / unit:.0f} {name} ago"


def hit_line(hit: RecalledItem) -> str:
    """Id, age, score, text."""
    return f"{hit.id[:8]}  {ago(hit.age)}, score {hit.score:.2f}: {hit.text}"


def offered_line(offered: Offered) -> str:
    """What became of a sentence at the gate."""
    head = "not written      " if offered.id is None else f"written  {offered.id[:8]}"
    return f"{head}  tau {offered.tau:.2f}: {offered.text}"


def why_lines(model: MemoryLM, prompt: Sequence[int], recall: Recall, rows: MemoryRows) -> Iterator[str]:
    """What each head of the recall attention reads most before the first token of an answer."""
    assert model.stack is not None
    reads: list[tuple[str, Tensor]] = []
    with watching_recall(model.stack, lambda name, weights: reads.append((name, weights[0, :, -1].cpu()))):
        begin(model, [prompt], rows=rows)
    decode = model.backbone.tokenizer.decode
    for name, weights in reads:
        block = name.partition(".")[0]
        gate = math.tanh(float(getattr(model.stack.blocks, block[5:]).recall.gate.detach()))
        yield f"{block}, gate {gate:.2f}:"
        found = strongest_rows(weights, recall)
        for row, token in zip(found, row_tokens(recall, found), strict=True):
            item = f"{recall.ids[0][row.item][:8]}: {recall.contents[0][row.item]}"
            yield f"  head {row.head} reads {str(decode([token])).strip()!r} ({row.weight:.2f}) in {item}"
