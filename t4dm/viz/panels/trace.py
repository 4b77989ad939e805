"""The parts of a trace's page: output, streams, LoRAs, logit lens, blocks, memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t4dm.viz.heat import heat_strip
from t4dm.viz.panel import Figure, Panel, Table
from t4dm.viz.raster import Strip, printable, raster
from t4dm.viz.text import NONE, number, percent
from t4dm.viz.trace_folder import TraceFolder

TOKEN = "Token of prompt and answer"
PERCENT_FROM = 0.0005


def output(trace: TraceFolder) -> Panel:
    """Each token of the answer, and what else might have come."""
    top, words = trace.arrays.get("output.top"), trace.told.get("output_words", [])
    said = trace.told.get("said", [])
    lead = f"The answer ends because of: {REASONS.get(str(trace.told.get('end')), NONE)}."
    if top is None:
        return Panel("output", "The answer", lead, missing=("Not recorded, over the byte budget.",))
    rows = tuple(
        (str(place), printable(word), *_likely(others, chances))
        for place, (word, others, chances) in enumerate(zip(said, words, top, strict=False))
    )
    table = Table(("", "Token", *_places(top)), rows, "The likeliest tokens at each step.", frozenset({0}))
    return Panel("output", "The answer", lead, tables=(table,))


REASONS = {"length": "its length", "end": "the token that ends a text", "stop": "a stop string"}


def streams(trace: TraceFolder) -> Panel:
    """Length of the residual stream after each layer, and what the stack and each LoRA change of it."""
    count, figures = int(trace.told.get("layers", 0)), []
    norms = trace.layers("norm", count)
    if norms is not None:
        caption = (
            "Length of the residual stream after each decoder layer, as a power of ten, the first layer at "
            f"the top; mean {number(float(norms.mean()), 3)}."
        )
        figures.append(
            _heat(np.log10(np.maximum(norms, 1e-9)), trace, "b-1", "length of the stream", caption)
        )
    for target in _targets(trace):
        up = trace.layers(f"{target}.lora_norm", count)
        base = trace.layers(f"{target}.base_norm", count)
        if up is not None and base is not None:
            share = up / np.maximum(base, 1e-9)
            caption = (
                f"What the LoRA of {target} adds, its length beside that of the frozen layer's own output; "
                f"mean {percent(float(share.mean()), 1)}, largest {percent(float(share.max()), 1)}."
            )
            figures.append(_heat(share, trace, "b-3", f"share of the LoRA of {target}", caption))
    missing = () if norms is not None else ("The stream was not recorded, over the byte budget.",)
    return Panel("streams", "The stream through the layers", _change(trace), tuple(figures), missing=missing)


def _change(trace: TraceFolder) -> str:
    before, after = (trace.arrays.get(f"insert.{side}.stream") for side in ("before", "after"))
    if before is None or after is None:
        return ""
    share = np.linalg.norm(after - before, axis=-1) / np.maximum(np.linalg.norm(before, axis=-1), 1e-9)
    return (
        f"Before layer {trace.told.get('insert_at')} the cortical stack adds to the stream: "
        f"{percent(float(share.mean()), 1)} of its length on the mean token, "
        f"{percent(float(share.max()), 1)} at most."
    )


def _targets(trace: TraceFolder) -> list[str]:
    names = [name for name in trace.arrays if name.startswith("layer0.") and name.endswith(".lora_norm")]
    return [name.removeprefix("layer0.").removesuffix(".lora_norm") for name in names]


def lens(trace: TraceFolder) -> Panel:
    """The likeliest next tokens after each stage, at one position."""
    top, stages = trace.arrays.get("lens.top"), trace.told.get("lens", [])
    at = int(trace.told.get("position", 0))
    word = printable(trace.tokens[at]) if at < len(trace.tokens) else NONE
    lead = (
        f"If the stream ended after a stage, these would be the likeliest tokens after \u201c{word}\u201d "
        f"(token {at}); choose another with --position."
    )
    if top is None:
        missing = ("The streams were not recorded, over the byte budget.",)
        return Panel("lens", "Logit lens", lead, missing=missing)
    rows = tuple(
        (str(stage), *_likely(words, chances))
        for stage, words, chances in zip(stages, trace.told.get("lens_words", []), top, strict=False)
    )
    return Panel("lens", "Logit lens", lead, tables=(Table(("After", *_places(top)), rows),))


def blocks(trace: TraceFolder) -> Panel:
    """Spikes of the output neurons, and the rates of every stage."""
    found = sorted({int(name[5:].split(".")[0]) for name in trace.arrays if name.startswith("block")})
    strips = [Strip(i, trace.arrays[f"block{i}.out"]) for i in found if f"block{i}.out" in trace.arrays]
    if not found:
        return Panel("blocks", "The cortical blocks", missing=("This model has no cortical stack.",))
    figures = []
    if strips:
        drawn = raster(strips, trace.tokens, name="Spikes of the output neurons, by block", x_title=TOKEN)
        figures = [Figure(drawn, "Each stroke is a spike of an output neuron (stage 6).", "wide")]
    columns = ("Block", "integrate", "q and k", "apical", "output", "prediction error", "goodness")
    rows = tuple(
        (
            str(index),
            *(percent(_mean(trace.arrays.get(f"block{index}.{stage}")), 1) for stage in STAGES),
            *(number(_mean(trace.arrays.get(f"block{index}.{what}")), 3) for what in MEANS),
        )
        for index in found
    )
    target = trace.told.get("target_rate")
    caption = f"Means over tokens and neurons; the target rate is {percent(target)}."
    table = Table(columns, rows, caption, frozenset(range(1, 7)))
    return Panel("blocks", "The cortical blocks", figures=tuple(figures), tables=(table,))


STAGES = ("integrate", "qk", "apical", "out")
MEANS = ("prediction_error", "goodness")


def memory(trace: TraceFolder) -> Panel:
    """Every search and write, and which remembered tokens the heads read."""
    operations: Sequence[Mapping[str, Any]] = trace.told.get("operations", [])
    hits = tuple(
        (
            printable_text(search.get("query")),
            *(_hit(hit) if hit is not None else ("nothing", "", "", "", "")),
        )
        for search in operations
        if search.get("operation") == "search"
        for hit in (search["hits"] or [None])
    )
    writes = tuple(
        (
            printable_text(write["text"]),
            number(float(write["tau"]), 3),
            _short(write["id"]) if write["id"] else "not written",
        )
        for write in operations
        if write.get("operation") == "write"
    )
    reads = tuple(
        (
            str(read["block"]).removeprefix("block"),
            str(read["head"]),
            printable(str(read["token"])),
            percent(float(read["weight"])),
            printable_text(read["text"]),
        )
        for read in trace.told.get("reads", [])
    )
    columns = ("Query", "Recalled", "Score", "Age (s)", "Kappa", "Id")
    tables = (
        Table(columns, hits, "Searches." if hits else "The memory was not asked.", frozenset({2, 3, 4})),
        Table(
            ("Block", "Head", "Reads", "Weight", "In"),
            reads,
            "What each head of the recall attention reads most at the chosen token."
            if reads
            else "No head reads a memory at the chosen token.",
            frozenset({0, 1, 3}),
        ),
        Table(
            ("Offered to the gate", "Tau", "Item"),
            writes,
            "Writes, to a copy of the store." if writes else "Nothing was offered to the write gate.",
            frozenset({1}),
        ),
    )
    return Panel("memory", "The memory", f"Session {trace.told.get('session')!r}.", tables=tables)


def printable_text(text: object) -> str:
    """A text of any length, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text or NONE)).split())


def _hit(hit: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (number(float(hit["score"]), 2), f"{float(hit['age']):.0f}", f"{float(hit['kappa']):.2f}")
    return (printable_text(hit["text"]), *numbers, _short(hit["id"]))


def _short(name: object) -> str:
    return str(name)[:8]


def _likely(words: Sequence[Any], chances: NDArray[Any]) -> tuple[str, ...]:
    return tuple(
        f"{printable(str(word))} {_chance(float(chance))}"
        for word, chance in zip(words, chances, strict=False)
    )


def _chance(value: float) -> str:
    return percent(value, 1) if value >= PERCENT_FROM else "<\u00a00.1\u00a0%"


def _places(top: NDArray[Any]) -> tuple[str, ...]:
    names = ("Likeliest", "second", "third", "fourth", "fifth")
    return names[: top.shape[1]]


def _mean(values: NDArray[Any] | None) -> float:
    return math.nan if values is None else float(np.asarray(values, dtype=np.float64).mean())


def _heat(values: NDArray[Any], trace: TraceFolder, class_: str, title: str, caption: str) -> Figure:
    drawn = heat_strip(
        values,
        trace.tokens,
        class_=class_,
        name=f"Layers by tokens: {title}",
        y_title="Layer",
        x_title=TOKEN,
        height=max(min(260.0, 16.0 * values.shape[1]), 64.0),
    )
    return Figure(drawn, caption, "wide")
