"""One cortical block while a text is read: its spikes, membranes, gates, attention, rates and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from t4dm.viz.attention_map import attention_map, strongest
from t4dm.viz.chart import Chart
from t4dm.viz.heat import MOST_ROWS, heat_strip
from t4dm.viz.inside_folder import InsideFolder
from t4dm.viz.palette import block_class
from t4dm.viz.panel import Figure, Fold, Panel, Table
from t4dm.viz.raster import MOST_NEURONS, WIDTH, Strip, printable, raster
from t4dm.viz.text import number, percent
from t4dm.viz.ticks import nice_ticks, widened
from t4dm.viz.traces import TraceRow, trace_rows

STAGES = {"integrate": "integrate", "qk": "q and k", "apical": "apical", "out": "output"}
TOKEN = "Token of the text"
LINKS = 8
MOST_BARS = 256


def build(inside: InsideFolder, block: int) -> Panel:
    """Every figure of one block; what was not recorded is named."""
    makers = (_raster, _membranes, _gates, _attention, _rates, _errors, _calcium, _capsules)
    figures = [figure for make in makers for figure in make(inside, block)]
    gone = [name.partition(".")[2] for name in inside.dropped if name.startswith(f"block{block}.")]
    missing = (f"Not recorded, over the byte budget: {', '.join(gone)}.",) if gone else ()
    return Panel(
        f"block{block}",
        f"Block {block}",
        _lead(inside, block),
        figures=tuple(figures),
        folds=tuple(_links(inside, block)),
        missing=missing,
    )


def _lead(inside: InsideFolder, block: int) -> str:
    error, good = inside.of(block, "prediction_error"), inside.of(block, "goodness")
    rate = inside.of(block, "rate")
    if error is None or good is None or rate is None:
        return ""
    return (
        f"Output neurons fire at {percent(float(rate.mean()), 1)} (target {percent(inside.target_rate)}); "
        f"mean prediction error {number(float(error.mean()))}, mean goodness {number(float(good.mean()))}."
    )


def _raster(inside: InsideFolder, block: int) -> list[Figure]:
    found = {name: inside.of(block, stage) for stage, name in STAGES.items()}
    strips = [Strip(block, spikes, name) for name, spikes in found.items() if spikes is not None]
    if not strips:
        return []
    svg = raster(strips, inside.tokens, name=f"Block {block}: spikes of its four layers", x_title=TOKEN)
    caption = (
        "Each stroke is a spike; the layers stand from the first (stage 2) down to the last (stage 6), up to "
        f"{MOST_NEURONS} evenly spaced neurons of each, and the rate at the right counts all."
    )
    return [Figure(svg, caption, "wide")]


def telling_neurons(spikes: NDArray[Any], membrane: NDArray[Any]) -> list[int]:
    """Up to four neurons to show: the busiest, the median and the quietest of those that fired, and the
    silent one that came nearest to its threshold.
    """
    counts = spikes.sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    fired = [int(neuron) for neuron in order if counts[neuron] > 0]
    silent = np.flatnonzero(counts == 0)
    chosen = [fired[0], fired[len(fired) // 2], fired[-1]] if fired else []
    if silent.size:
        chosen.append(int(silent[np.argmax(membrane[:, silent].max(axis=0))]))
    return list(dict.fromkeys(chosen))


def _membranes(inside: InsideFolder, block: int) -> list[Figure]:
    spikes, membrane = inside.of(block, "out"), inside.of(block, "out.membrane")
    if spikes is None or membrane is None:
        return []
    rows = [
        TraceRow(
            f"neuron {neuron}, {_times(int((spikes[:, neuron] > 0).sum()))}",
            membrane[:, neuron],
            block_class(block),
            after=membrane[:, neuron] - spikes[:, neuron],
            level=1.0,
            level_text="threshold",
            events=spikes[:, neuron] > 0,
        )
        for neuron in telling_neurons(spikes > 0, membrane)
    ]
    svg = trace_rows(
        rows,
        inside.tokens,
        name=f"Block {block}: membranes of a few output neurons",
        y_title="Membrane (thresholds)",
        x_title=TOKEN,
    )
    caption = (
        "Membranes of the busiest, a typical and the quietest output neuron that fired, and of the silent "
        "one nearest to firing: where one reaches the threshold (dot) it loses one threshold."
    )
    return [Figure(svg, caption, "wide")]


def _times(count: int) -> str:
    return {0: "never fires", 1: "fires once"}.get(count, f"fires {count} times")


def _gates(inside: InsideFolder, block: int) -> list[Figure]:
    figures = []
    for what, title, caption in (
        ("gate", "thalamic gate", "Openings of the thalamic gate (stage 1), 0 shut to 1 open"),
        ("opening", "apical gate", "Openings of the apical gate (stage 4), 0 shut to 1 open"),
    ):
        if (values := inside.of(block, what)) is not None:
            figures.append(_heat(inside, block, values, title, caption))
    return figures


def _calcium(inside: InsideFolder, block: int) -> list[Figure]:
    values = inside.of(block, "calcium")
    if values is None:
        return []
    caption = "Calcium of the apical stage: loaded where basal and apical spikes meet, leaking after"
    return [_heat(inside, block, values, "calcium", caption)]


def _capsules(inside: InsideFolder, block: int) -> list[Figure]:
    values = inside.of(block, "capsules")
    if values is None:
        return []
    even = number(1 / values.shape[1], 2)
    caption = (
        f"Weights of the capsules, which sum to 1: what agrees with the prediction gets more than {even}"
    )
    return [_heat(inside, block, values, "capsules", caption)]


def _heat(inside: InsideFolder, block: int, values: NDArray[Any], title: str, caption: str) -> Figure:
    width = values.shape[1]
    svg = heat_strip(
        values,
        inside.tokens,
        class_=block_class(block),
        name=f"Block {block}: {title}",
        y_title="Channel",
        x_title=TOKEN,
        height=max(min(150.0, 5.0 * width), 60.0),
    )
    grouped = f", neighbours of {width} channels averaged" if width > MOST_ROWS else ""
    return Figure(svg, f"{caption}{grouped}; mean {number(float(values.mean()), 2)}.", "wide")


def _attention(inside: InsideFolder, block: int) -> list[Figure]:
    weights = inside.of(block, "attention")
    if weights is None:
        return []
    svg = attention_map(weights, inside.tokens, name=f"Block {block}: attention weights")
    caption = (
        "How much of each token's value each token takes in (blue) or takes away (orange) in spike attention "
        "(stage 3), the mean of the heads and each head with its largest weight: nothing lies above the "
        "diagonal, and a row without a spiking query stays empty."
    )
    return [Figure(svg, caption, "wide")]


def _links(inside: InsideFolder, block: int) -> list[Fold]:
    weights = inside.of(block, "attention")
    if weights is None:
        return []
    rows = tuple(
        (
            printable(inside.tokens[link.reader]),
            str(link.reader),
            printable(inside.tokens[link.read]),
            str(link.read),
            number(link.weight, 2),
        )
        for link in strongest(weights, count=LINKS)
    )
    columns = ("Token", "at", "takes from", "at", "Weight")
    table = Table(columns, rows, "Mean over the heads." if rows else "None.", frozenset({1, 3, 4}))
    return [Fold("The strongest looks back", (table,))]


def _rates(inside: InsideFolder, block: int) -> list[Figure]:
    rate = inside.of(block, "rate")
    if rate is None:
        return []
    high = np.sort(100 * np.asarray(rate, dtype=np.float64))[::-1]
    width, target = len(high), 100 * inside.target_rate
    top = widened(0.0, max(float(high[0]), 1.5 * target))[1]
    chart = Chart(
        x=(0.0, float(width)),
        y=(0.0, top),
        x_title="Output channels, the busiest first",
        y_title="Firing rate (% of tokens)",
        name=f"Block {block}: firing rate of each output channel",
        width=WIDTH,
        height=230.0,
        x_ticks=nice_ticks(0.0, float(width), count=6),
        labels=[f"target {target:.3g} %"],
    )
    edges = [float(edge) for edge in range(width + 1)]
    if width <= MOST_BARS:
        titles = [f"{height:.1f} %" for height in high]
        chart.bars(edges, high.tolist(), class_=block_class(block), titles=titles)
    else:
        chart.steps(edges, high.tolist(), class_=block_class(block))
    chart.level(target, class_="s-chance", label=f"target {target:.3g} %")
    dead = int((high == 0).sum())
    chance = (1 - inside.target_rate) ** len(inside.tokens)
    caption = (
        f"Firing rate of every output channel; {dead} of {width} ({percent(dead / width)}) never fire in "
        f"this text, where {percent(chance)} would be silent by chance if all fired at the target."
    )
    return [Figure(chart.svg(), caption, "wide")]


def _errors(inside: InsideFolder, block: int) -> list[Figure]:
    error, good = inside.of(block, "prediction_error"), inside.of(block, "goodness")
    if error is None or good is None:
        return []
    rows = [
        TraceRow("prediction error", error, block_class(block)),
        TraceRow("goodness", good, block_class(block), level=1.0, level_text="at target"),
    ]
    svg = trace_rows(
        rows,
        inside.tokens,
        name=f"Block {block}: prediction error and goodness of each token",
        y_title="Mean square",
        x_title=TOKEN,
    )
    caption = (
        "How far the basal drive of each token is from what the membranes before it foretold, and the mean "
        "squared rate trace in units of the target, 1 where every neuron fires at it."
    )
    return [Figure(svg, caption, "wide")]
