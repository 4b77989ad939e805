"""The recall figures of a summary: one cell per arm and distance, and what they say in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from t4dm.viz.palette import ARMS
from t4dm.viz.run_folder import Json, figure, mapping
from t4dm.viz.text import listed, percent, percent_range


class Cell(NamedTuple):
    """Accuracy of one arm at one distance: mean, 95 % interval (the mean where unknown), questions."""

    mean: float
    low: float
    high: float
    n: int | None
    has_interval: bool


Cells = dict[str, dict[int, Cell]]


def recall_cells(summary: Json) -> Cells:
    """Arms in their usual order, then unknown ones; distances (windows) ascending; NaN cells left out."""
    recall = mapping(summary.get("recall"))
    order = [arm for arm in ARMS if arm in recall] + sorted(arm for arm in recall if arm not in ARMS)
    cells: Cells = {}
    for arm in order:
        read = {}
        for key, value in mapping(recall[arm]).items():
            cell = _cell(mapping(value))
            if cell is not None and re.fullmatch(r"[0-9]{1,9}", key):
                read[int(key)] = cell
        if read:
            cells[arm] = dict(sorted(read.items()))
    return cells


def all_distances(cells: Cells) -> list[int]:
    """Every distance that some arm was asked at, ascending."""
    return sorted({distance for arm in cells.values() for distance in arm})


def headline(summary: Json) -> str:
    """The result in one sentence: memory against no memory and another episode's memories.

    A distance counts as better where the whole interval with memory lies above both others.
    """
    cells = recall_cells(summary)
    memory = cells.get("memory")
    rivals: Cells = {arm: cells[arm] for arm in ("no_memory", "shuffled") if arm in cells}
    if not memory or not rivals:
        return "This run has no recall figures with and without memory, so there is no result to state yet."
    common = [d for d in memory if all(d in rival for rival in rivals.values())]
    if not common:
        return "Memory and its controls were asked at different distances, so they cannot be compared."
    with_memory = percent_range([memory[d].mean for d in common])
    names = {"no_memory": "without memory", "shuffled": "with another episode's memories"}
    against = " and ".join(
        f"{percent_range([rival[d].mean for d in common])} {names[arm]}" for arm, rival in rivals.items()
    )
    chance = figure(summary.get("chance"))
    guess = f" (chance {percent(chance, 1 if chance < 0.1 else 0)})" if chance is not None else ""
    return (
        f"With memory the model answers {with_memory} of the questions whose fact lies "
        f"{_windows(common)} back, against {against}{guess}: {_verdict(memory, rivals, common)}"
    )


def night_sentence(summary: Json) -> str:
    """What a night of sleep cost or gave, as points of accuracy over the distances; empty if not measured."""
    cells = recall_cells(summary)
    memory, after = cells.get("memory", {}), cells.get("after_night", {})
    common = [d for d in memory if d in after]
    if not common:
        return ""
    change = 100 * sum(after[d].mean - memory[d].mean for d in common) / len(common)
    mean = sum(after[d].mean for d in common) / len(common)
    points = f"{abs(change):.1f}"
    effect = "cost nothing" if points == "0.0" else f"{'gained' if change > 0 else 'lost'} {points} points"
    return (
        f"After a night of sleep it answers {percent(mean)} on average over the distances: "
        f"the night {effect}."
    )


def _verdict(memory: Mapping[int, Cell], rivals: Mapping[str, Mapping[int, Cell]], common: list[int]) -> str:
    better = [d for d in common if all(memory[d].low > rival[d].high for rival in rivals.values())]
    known = all(cell.has_interval for arm in (memory, *rivals.values()) for cell in (arm[d] for d in common))
    basis = "the 95 % intervals do not touch" if known else "by single figures, without intervals"
    others = [str(d) for d in common if d not in better]
    if not better:
        return "memory is not clearly better at any distance."
    if not others:
        return f"memory is better at every distance ({basis})."
    return f"memory is better at {_windows(better)} ({basis}), not clearly at {listed(others)}."


def _windows(distances: list[int]) -> str:
    if len(distances) > 2:
        return f"{listed([str(d) for d in distances])} windows"
    text = listed([str(d) for d in distances])
    return f"{text} window" if text == "1" else f"{text} windows"


def _cell(value: Json) -> Cell | None:
    """`ci` is a half width or a pair of bounds."""
    mean, ci = figure(value.get("mean")), value.get("ci")
    if mean is None:
        return None
    n = figure(value.get("n"))
    count = int(n) if n is not None else None
    if isinstance(ci, list) and len(ci) == 2 and None not in (figure(ci[0]), figure(ci[1])):
        return Cell(mean, float(ci[0]), float(ci[1]), count, True)
    half = figure(ci)
    if half is None:
        return Cell(mean, mean, mean, count, False)
    return Cell(mean, mean - abs(half), mean + abs(half), count, True)
