"""What happens inside each cortical block while a text is read: the stack under a recorder, as arrays.

`look_inside` runs the model and returns the arrays, `save` writes them to one file of a run folder, from
which the page of `t4dm study block` is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from t4dm.errors import BlockChoiceError, NoStackError, NoTextError, TextTooLongError
from t4dm.model import MemoryLM
from t4dm.spiking.block import CorticalBlock
from t4dm.spiking.recorder import SpikeRecorder, recording

FILE = "inside.npz"
STAGES = ("integrate", "qk", "apical", "out")
QUANTITIES = ("gate", "opening", "attention", "calcium", "capsules")
LONGEST = 512
Arrays = Mapping[str, NDArray[Any]]


class Inside(NamedTuple):
    """One reading of a text.

    `arrays` holds, for each block i that was asked for (T tokens, D channels, P neurons per compartment, H
    heads, C capsules):

    - `block<i>.<stage>` uint8 `[T, N]`: spikes of integrate (stage 2, N = D), qk (stage 3, queries then
      keys), apical (stage 4, N = 2 P, basal then apical) and out (stage 6, N = D);
    - `block<i>.<stage>.membrane` fp32 `[T, N]`: the membrane before its reset, in units of the threshold 1;
    - `block<i>.gate` `[T, D]` and `block<i>.opening` `[T, P]`: the thalamic and the apical gate, 0 to 1;
    - `block<i>.attention` `[T, H, T]`: how much each token takes from the value of each, signed;
    - `block<i>.calcium` `[T, P]`, `block<i>.capsules` `[T, C]`;
    - `block<i>.prediction_error` `[T]`, `block<i>.goodness` `[T]`, `block<i>.rate` `[D]` spikes per token.
    """

    tokens: tuple[str, ...]
    """The text of each token; U+FFFD where a token holds a part of a character."""
    blocks: tuple[int, ...]
    target_rate: float
    """Spikes per token and neuron that stages 2, 4 and 6 are meant to fire at."""
    arrays: Arrays
    dropped: tuple[str, ...]
    """The names that did not fit into the recorder's budget."""


def look_inside(
    model: MemoryLM,
    text: str,
    *,
    blocks: Sequence[int] | None = None,
    longest: int = LONGEST,
    byte_budget: int = 256 << 20,
) -> Inside:
    """Read a text once, from a fresh state and without a memory, and keep what the blocks do.

    Args:
        model: with a stack; it runs in evaluation mode and is left as it was.
        text: what is read.
        blocks: which of the stack's blocks are kept; all by default.
        longest: the most tokens, since attention weights grow with their square.
        byte_budget: of the recorder.

    Raises:
        NoTextError, TextTooLongError: the text has no token, or too many.
        NoStackError: the model is a bare backbone.
        BlockChoiceError: the stack has no such block.
    """
    ids = token_ids(model, text, longest=longest)
    if model.stack is None:
        raise NoStackError
    count = len(model.stack.blocks)
    chosen = tuple(range(count)) if blocks is None else tuple(sorted(set(blocks)))
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise BlockChoiceError(",".join(map(str, chosen)), count)
    wanted = [f"block{block}." for block in chosen]
    recorder = SpikeRecorder(byte_budget=byte_budget, membranes=True, inner=True, only=wanted)
    was_training = model.training
    try:
        with torch.no_grad(), recording(model.stack, recorder):
            aux = model.eval()(torch.tensor([ids], device=model.backbone.device)).aux
    finally:
        model.train(was_training)
    arrays: dict[str, NDArray[Any]] = {}
    for block in chosen:
        arrays |= recorded(recorder, f"block{block}")
        arrays[f"block{block}.prediction_error"] = _array(aux.prediction_error[block, 0])
        arrays[f"block{block}.goodness"] = _array(aux.goodness[block, 0])
        arrays[f"block{block}.rate"] = _array(aux.rate[block])
    target = cast(CorticalBlock, model.stack.blocks[0]).target_rate
    tokens = tuple(model.backbone.tokenizer.batch_decode([[i] for i in ids]))
    return Inside(tokens, chosen, target, arrays, tuple(recorder.dropped))


def token_ids(model: MemoryLM, text: str, *, longest: int = LONGEST) -> list[int]:
    """The text's tokens as the model's own tokenizer cuts them.

    Raises:
        NoTextError, TextTooLongError: there are none, or more than `longest` or than the backbone has
            positions for.
    """
    if not text.strip():
        raise NoTextError
    tokenizer: Any = model.backbone.tokenizer
    cut: Any = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids: list[int] = cut["input_ids"]
    longest = min(longest, int(model.backbone.decoder.config.max_position_embeddings))
    if len(ids) > longest:
        raise TextTooLongError(len(ids), longest, characters=int(cut["offset_mapping"][longest - 1][1]))
    return ids


def recorded(recorder: SpikeRecorder, block: str) -> dict[str, NDArray[Any]]:
    """What a recorder holds of the first row of one block, `"block0"`: spikes, membranes, quantities."""
    arrays = {}
    for stage in STAGES:
        if (name := f"{block}.{stage}") in recorder.names():
            arrays[name] = recorder.spikes(name)[0].numpy()
            arrays[f"{name}.membrane"] = recorder.membrane(name)[0].numpy()
    for quantity in QUANTITIES:
        if (name := f"{block}.{quantity}") in recorder.quantities():
            arrays[name] = recorder.values(name)[0].numpy()
    return arrays


def save(inside: Inside, folder: Path) -> Path:
    """Write `inside.npz` to a folder, whole or not at all: the arrays, `tokens`, `blocks`, `target_rate`,
    `dropped`.
    """
    file = folder / FILE
    beside = file.with_name(f".{FILE}.part")
    arrays: dict[str, Any] = {
        "tokens": np.asarray(inside.tokens, dtype=np.str_),
        "blocks": np.asarray(inside.blocks, dtype=np.int64),
        "target_rate": np.float64(inside.target_rate),
        "dropped": np.asarray(inside.dropped, dtype=np.str_),
        **inside.arrays,
    }
    with beside.open("wb") as out:
        np.savez_compressed(out, **arrays)
    beside.replace(file)
    return file


def _array(values: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().to("cpu", torch.float32).numpy()
    return array
