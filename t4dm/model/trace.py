"""A trace from token to output: one text read and continued under a `GlassBox`, as arrays and one JSON.

`trace` runs the model, `save` writes trace.npz and trace.json, from which `t4dm trace` draws its page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t4dm.errors import PositionError
from t4dm.memory.memory import Memory, Recall
from t4dm.model.generate import generate_batch, positions, prompt_ids
from t4dm.model.glass_box import TOP, GlassBox, observing
from t4dm.model.hearing import remember
from t4dm.model.memory_lm import MemoryLM
from t4dm.model.recall_reading import row_tokens, strongest_rows
from t4dm.model.writer import MemoryWriter
from t4dm.spiking.block import CorticalBlock

ARRAYS, TOLD = "trace.npz", "trace.json"
HEADS_READ = 2


class Trace(NamedTuple):
    """One reading and its continuation.

    `arrays` holds the names of `GlassBox` for the one sequence, without the batch axis: T tokens are those
    that were read, the prompt's and all but the last of the answer's; `output.*` has one row for each token
    of the answer. Attention weights are those of the prompt. `lens.ids` and `lens.top` `[S, 5]` are the
    likeliest next tokens if the stream ended after each of the S stages in `told["lens"]`, at one position.
    """

    arrays: Mapping[str, NDArray[Any]]
    told: Mapping[str, Any]


def trace(
    model: MemoryLM,
    text: str,
    *,
    memory: Memory | None = None,
    writer: MemoryWriter | None = None,
    session: str = "",
    max_new_tokens: int = 8,
    position: int | None = None,
    byte_budget: int = 256 << 20,
    event_time: float = 0.0,
) -> Trace:
    """Read a text and continue it by the likeliest tokens, and keep all that happens.

    Args:
        model: it runs in evaluation mode.
        text: the prompt.
        memory: asked with the text's last tokens; what is recalled does not count as used.
        writer: offers what was read and said to the gate at the end; None writes nothing.
        session: whose memories.
        max_new_tokens: of the answer.
        position: where the lens looks, from 0; the prompt's last token by default, which gives the first
            token of the answer.
        byte_budget: of the recorder.
        event_time: of what is written, seconds.

    Raises:
        NoPromptError, PromptTooLongError: see `generate_batch`.
        PositionError: there is no such position.
    """
    ids = prompt_ids(model, text)
    at = len(ids) - 1 if position is None else position
    if not 0 <= at < len(ids):
        raise PositionError(at, len(ids))
    box = GlassBox(byte_budget=byte_budget)
    recalls: list[Recall] = []
    with observing(model, box, memory=memory):
        pieces = list(
            generate_batch(
                model,
                [ids],
                max_new_tokens=max_new_tokens,
                memory=memory,
                sessions=[session],
                on_recall=lambda _, recall: recalls.append(recall),
                count_accesses=False,
            )
        )
    answer = [piece.token for piece in pieces]
    if memory is not None and writer is not None:
        whole = [*ids, *answer][: positions(model)]
        first = recalls[0] if recalls else None
        with observing(model, box, memory=memory, passes=False):
            remember(model, memory, writer, whole, session=session, event_time=event_time, recall=first)
    decode = model.backbone.tokenizer.batch_decode
    arrays = _recorded(box)
    names, lens = _lens(model, box, at)
    told = {
        "text": text,
        "answer": "".join(piece.text for piece in pieces),
        "end": pieces[-1].end,
        "tokens": decode([[token] for token in [*ids, *answer[:-1]]]),
        "said": decode([[token] for token in answer]),
        "prompt_tokens": len(ids),
        "position": at,
        "insert_at": None if model.stack is None else model.insert_at,
        "layers": len(model.backbone.layers),
        "session": session,
        "lens": names,
        "lens_words": [decode([[int(i)] for i in row]) for row in lens.get("lens.ids", [])],
        "output_words": [decode([[int(i)] for i in row]) for row in arrays.get("output.ids", [])],
        "reads": _reads(model, box, recalls, at),
        "operations": box.operations,
        "target_rate": _target_rate(model),
        "bytes": box.bytes,
        "byte_budget": byte_budget,
        "dropped": box.dropped,
    }
    return Trace({**arrays, **lens}, told)


def save(made: Trace, folder: Path) -> Path:
    """Write trace.npz, then trace.json, each whole or not at all: where trace.json is, both are."""
    beside = folder / f".{ARRAYS}.part"
    with beside.open("wb") as file:
        arrays: dict[str, Any] = dict(made.arrays)
        np.savez_compressed(file, **arrays)
    beside.replace(folder / ARRAYS)
    beside = folder / f".{TOLD}.part"
    beside.write_text(json.dumps(made.told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    beside.replace(folder / TOLD)
    return folder / TOLD


def _recorded(box: GlassBox) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for name in box.names():
        parts = [part[0] for part in box.windows(name)]
        if name.endswith(".reading"):
            most = max(part.shape[-1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, most - part.shape[-1])) for part in parts]
        arrays[name] = torch.cat(parts).numpy()
    spikes = box.spikes
    for name in spikes.names():
        arrays[name] = spikes.spikes(name)[0].numpy()
    for name in spikes.quantities():
        # an answer's tokens come one by one, and their attention looks at a state, not at tokens
        whole = spikes.windows(name)[0] if name.endswith(".attention") else spikes.values(name)
        arrays[name] = whole[0].numpy()
    if "output.ids" in arrays:
        arrays["output.ids"] = arrays["output.ids"].astype(np.int64)
    return arrays


@torch.no_grad()
def _lens(model: MemoryLM, box: GlassBox, at: int) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The logit lens (nostalgebraist 2020): the final norm and the output matrix on the stream of each
    stage.
    """
    stages = ["embedding", *(f"layer{i}" for i in range(len(model.backbone.layers)))]
    if model.stack is not None:
        stages.insert(stages.index(f"layer{model.insert_at - 1}") + 1, "insert.after")
    there = [stage for stage in stages if f"{stage}.stream" in box.names()]
    if not there:
        return [], {}
    head: Any = model.language_model
    base = head.get_base_model() if hasattr(head, "get_base_model") else head
    weight: Tensor = base.lm_head.weight
    streams = torch.stack([box.values(f"{stage}.stream")[0, at] for stage in there])
    normed = model.backbone.decoder.norm(streams.to(weight.device, weight.dtype))
    top = base.lm_head(normed).float().softmax(-1).topk(TOP, dim=-1)
    names = ["stack" if stage == "insert.after" else stage.replace("layer", "layer ") for stage in there]
    return names, {"lens.ids": top.indices.cpu().numpy(), "lens.top": top.values.cpu().numpy()}


def _reads(model: MemoryLM, box: GlassBox, recalls: Sequence[Recall], at: int) -> list[dict[str, Any]]:
    """What each head of each recall attention reads most at one position of the prompt; only its last token
    sees the first search.
    """
    found = []
    for name in box.names():
        if not name.endswith(".reading") or not recalls:
            continue
        rows = strongest_rows(box.windows(name)[0][0, at], recalls[0], count=HEADS_READ)
        for row, token in zip(rows, row_tokens(recalls[0], rows), strict=True):
            found.append(
                {
                    "block": name.partition(".")[0],
                    "head": row.head,
                    "weight": row.weight,
                    "id": recalls[0].ids[0][row.item],
                    "text": recalls[0].contents[0][row.item],
                    "token": str(model.backbone.tokenizer.decode([token])),
                }
            )
    return found


def _target_rate(model: MemoryLM) -> float | None:
    return None if model.stack is None else cast(CorticalBlock, model.stack.blocks[0]).target_rate
