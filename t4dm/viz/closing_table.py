"""The table printed when a run ends: recall by arm and distance, then what the run holds and what it cost."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from t4dm.viz.palette import arm_style
from t4dm.viz.recall_cells import Cell, all_distances, recall_cells
from t4dm.viz.run_folder import Json, figure, mapping
from t4dm.viz.text import NBSP, NONE, number, percent, seconds, size

WIDTH = 74  # of the lines below: a narrow table would fold them
STRONG = {"memory": "bold"}


def closing_table(summary: dict[str, Any]) -> Table:
    """Arms down, distances (windows) across, mean ± half of the 95 % interval in percent; chance below.

    Losses, items, kappa, seconds and peak memory follow as lines under the table. A figure that is missing
    from the summary is a dash, and its line is left out where nothing of it is known.
    """
    cells = recall_cells(summary)
    distances = all_distances(cells)
    table = Table(
        title=_title(summary),
        title_justify="left",
        caption=_lines(summary),
        caption_justify="left",
        min_width=WIDTH,
    )
    table.add_column("windows ago" if cells else "no recall figures", no_wrap=True)
    for distance in distances:
        table.add_column(str(distance), justify="right", no_wrap=True)
    for arm, line in cells.items():
        texts = [_text(line.get(distance)) for distance in distances]
        table.add_row(Text(arm_style(arm).name), *texts, style=STRONG.get(arm))
    chance = figure(summary.get("chance"))
    if cells and chance is not None:
        table.add_section()
        table.add_row("chance", *(f"{100 * chance:.1f}" for _ in distances), style="dim")
    return table


def _text(cell: Cell | None) -> str:
    if cell is None:
        return NONE
    half = f"±{50 * (cell.high - cell.low):.1f}" if cell.has_interval else ""
    return f"{100 * cell.mean:.1f}{half}"


def _title(summary: Json) -> Text:
    seed = figure(summary.get("seed"))
    name = str(summary.get("experiment") or "run")
    seeded = f"{name}, seed {seed:.0f}" if seed is not None else name
    return Text(f"{seeded}: % right" if summary.get("recall") else seeded, style="bold")


def _lines(summary: Json) -> Text:
    lines = (_losses(summary), _items(summary), _kappa(summary), _seconds(summary), _memory(summary))
    return Text("\n".join(line for line in lines if line), style="not italic")


def _losses(summary: Json) -> str:
    losses = mapping(summary.get("losses"))
    names = {"train": "train", "val": "validation", "text_val": "plain text"}
    found = [(label, figure(losses.get(key))) for key, label in names.items()]
    known = [f"{label} {value:.3f}" for label, value in found if value is not None]
    return f"loss      {', '.join(known)} nats per token" if known else ""


def _items(summary: Json) -> str:
    items = {name: figure(value) for name, value in mapping(summary.get("items")).items()}
    if items.get("written") is None and items.get("stored") is None:
        return ""
    rate = figure(summary.get("write_rate"))
    share = f" ({percent(rate)})" if rate is not None else ""
    written = f"{number(items.get('written'))} of {number(items.get('offered'))} offered spans{share}"
    left = f"{number(items.get('stored'))} items, {number(items.get('pruned'))} pruned"
    return f"written   {written}\nstore     {left}, {number(items.get('prototypes'))} prototypes made"


def _kappa(summary: Json) -> str:
    mean, nights = figure(mapping(summary.get("kappa")).get("mean")), figure(summary.get("nights"))
    known = [f"mean {mean:.2f}"] if mean is not None else []
    known += [f"after {nights:.0f} night{'' if nights == 1 else 's'}"] if nights is not None else []
    return f"kappa     {' '.join(known)}" if known else ""


def _seconds(summary: Json) -> str:
    spent = mapping(summary.get("seconds"))
    found = [(name, figure(spent.get(name))) for name in ("train", "sleep", "evaluate", "total")]
    known = [f"{name} {seconds(value)}" for name, value in found if value is not None]
    return f"time      {', '.join(known)}".replace(NBSP, " ") if known else ""


def _memory(summary: Json) -> str:
    peak = figure(summary.get("peak_memory_mib"))
    return f"memory    peak {size(peak * 2**20)}".replace(NBSP, " ") if peak is not None else ""
