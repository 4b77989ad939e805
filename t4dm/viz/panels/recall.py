"""Recall accuracy by distance, every arm in one picture and in one table."""

from __future__ import annotations

from markupsafe import Markup

from t4dm.viz.chart import Chart
from t4dm.viz.palette import arm_style, style_class
from t4dm.viz.panel import Figure, Panel, Table
from t4dm.viz.recall_cells import Cell, Cells, all_distances, recall_cells
from t4dm.viz.run_folder import RunFolder, figure
from t4dm.viz.text import NONE, percent
from t4dm.viz.ticks import Ticks

DODGE_PX = 5.0


def build(run: RunFolder) -> Panel:
    """One line per arm over the distances of the summary, with 95 % intervals and the chance line."""
    cells = recall_cells(run.summary)
    if not cells:
        why = "summary.json has no recall figures: the run has not been evaluated."
        return Panel("recall", "Recall by distance", missing=(why,))
    chance = figure(run.summary.get("chance"))
    caption = (
        "Share of questions answered exactly, by how many windows before the question the fact was told. "
        "Whiskers: 95 % intervals. Arms are set a little apart sideways so that the whiskers can be seen."
    )
    return Panel(
        "recall",
        "Recall by distance",
        figures=(Figure(_chart(cells, chance), caption, "middle"),),
        tables=(_table(cells, chance),),
        missing=() if chance is not None else ("summary.json names no chance level.",),
    )


def _chart(cells: Cells, chance: float | None) -> Markup:
    distances = all_distances(cells)
    names = [arm_style(arm).name for arm in cells] + ["chance"]
    chart = Chart(
        width=820.0,
        height=380.0,
        x=(-0.3, len(distances) - 0.75),
        y=(-2.0, 102.0),
        x_title="Distance between the fact and the question (windows)",
        y_title="Recall accuracy (%)",
        name="Recall accuracy by distance for every arm",
        x_ticks=Ticks(tuple(float(place) for place in range(len(distances))), 1.0),
        x_texts=[str(distance) for distance in distances],
        y_ticks=Ticks((0.0, 20.0, 40.0, 60.0, 80.0, 100.0), 20.0),
        labels=names,
    )
    if chance is not None:
        chart.level(100 * chance, class_=style_class("chance"), label="chance")
    for index, (arm, line) in enumerate(cells.items()):
        shift = (index - (len(cells) - 1) / 2) * DODGE_PX
        _draw_arm(chart, arm, {distances.index(d): cell for d, cell in line.items()}, distances, shift)
    return chart.svg()


def _draw_arm(chart: Chart, arm: str, line: dict[int, Cell], distances: list[int], shift: float) -> None:
    style, class_ = arm_style(arm), style_class(arm)
    offset = shift / (chart.x(1.0) - chart.x(0.0))
    chart.line(
        [place + offset for place in line],
        [100 * cell.mean for cell in line.values()],
        class_=class_,
        label=style.name,
    )
    for place, cell in line.items():
        if cell.has_interval:
            low, high = 100 * max(cell.low, 0.0), 100 * min(cell.high, 1.0)
            chart.interval(place, low, high, class_=class_, shift=shift)
        title = f"{style.name}, {distances[place]} windows: {_cell_text(cell)}"
        chart.point(place, 100 * cell.mean, class_=class_, shape=style.marker, title=title, shift=shift)


def _table(cells: Cells, chance: float | None) -> Table:
    distances = all_distances(cells)
    rows = [
        (arm_style(arm).name, *(_cell_text(line[d]) if d in line else NONE for d in distances))
        for arm, line in cells.items()
    ]
    if chance is not None:
        rows.append(("chance", *(percent(chance, 1) for _ in distances)))
    heads = ("Arm", *(f"{d} window" if d == 1 else f"{d} windows" for d in distances))
    counts = sorted({cell.n for line in cells.values() for cell in line.values() if cell.n is not None})
    asked = (
        f" Questions per cell: {counts[0]}" + (f" to {counts[-1]}." if len(counts) > 1 else ".")
        if counts
        else ""
    )
    return Table(
        heads,
        tuple(rows),
        f"Mean and half width of the 95 % interval.{asked}",
        frozenset(range(1, len(heads))),
    )


def _cell_text(cell: Cell) -> str:
    if not cell.has_interval:
        return percent(cell.mean, 1)
    return f"{100 * cell.mean:.1f} ± {50 * (cell.high - cell.low):.1f}\u00a0%"
