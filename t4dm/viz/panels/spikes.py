"""What the cortical blocks do: the spikes of one window, and firing rates over training."""

from __future__ import annotations

import numpy as np

from t4dm.viz.metrics import Series
from t4dm.viz.over_training import Curve, chart_over_training, how_drawn, night_steps, traced
from t4dm.viz.palette import block_class
from t4dm.viz.panel import Figure, Panel
from t4dm.viz.raster import MOST_NEURONS, Strip, raster
from t4dm.viz.run_folder import RunFolder

SPIKES = "spikes_block"
RATE = "spikes/rate_block"


def build(run: RunFolder) -> Panel:
    """The raster from traces.npz; the rates from traces.npz or, failing that, from metrics.csv."""
    figures, missing = [], []
    strips = _strips(run)
    if strips:
        width = max(strip.spikes.shape[1] for strip in strips)
        some = (
            f"{MOST_NEURONS} evenly spaced neurons of {width}" if width > MOST_NEURONS else f"{width} neurons"
        )
        caption = (
            f"Spikes of one example window, {some} per block; the mean rate counts all neurons and tokens."
        )
        figures.append(Figure(raster(strips, _tokens(run)), caption, "wide"))
    else:
        missing.append("traces.npz has no spikes of an example window.")
    curves, nights = _rates(run), night_steps(run)
    if curves:
        svg = chart_over_training(
            curves,
            y_title="Firing rate (% of neurons per token)",
            name="Mean firing rate of each block over training",
            nights=nights,
        )
        figures.append(Figure(svg, f"Mean firing rate of each block. {how_drawn(curves, nights)}"))
    else:
        missing.append("Neither traces.npz nor metrics.csv has firing rates.")
    return Panel("spikes", "Spikes", figures=tuple(figures), missing=tuple(missing))


def _strips(run: RunFolder) -> list[Strip]:
    names = (name.removeprefix(SPIKES) for name in run.traces if name.startswith(SPIKES))
    blocks = sorted(int(number) for number in names if number.isdecimal())
    strips = [Strip(block, run.traces[f"{SPIKES}{block}"]) for block in blocks]
    return [s for s in strips if s.spikes.ndim == 2 and s.spikes.size and s.spikes.dtype.kind in "buif"]


def _tokens(run: RunFolder) -> list[str]:
    tokens = run.traces.get("tokens")
    return [str(token) for token in np.ravel(tokens)] if tokens is not None else []


def _rates(run: RunFolder) -> list[Curve]:
    rates = run.traces.get("rates")
    if rates is not None and rates.ndim == 2 and rates.dtype.kind in "uif":
        found = {block: traced(run, RATE, rates[:, block]) for block in range(rates.shape[1])}
    else:
        names = {name: name.removeprefix(RATE) for name in run.metrics.columns if name.startswith(RATE)}
        blocks = {int(block): name for name, block in names.items() if block.isdecimal()}
        found = {block: run.metrics.series(name) for block, name in sorted(blocks.items())}
    return [
        Curve(Series(s.name, s.x, 100 * s.y), f"block {block}", block_class(block), noisy=True)
        for block, s in found.items()
        if s is not None
    ]
