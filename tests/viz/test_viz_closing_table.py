from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from t4dm.viz.closing_table import closing_table


def printed(summary: dict[str, Any], width: int = 110) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(closing_table(summary))
    return capture.get().replace("\u00a0", " ").replace("\u202f", " ")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def test_arms_and_distances_with_intervals_then_chance(summary: dict[str, Any]) -> None:
    summary["recall"]["memory"]["16"] = {"mean": 0.914, "ci": 0.021, "n": 512}
    lines = printed(summary).splitlines()
    head = next(cells(line) for line in lines if "windows ago" in line)
    memory = next(cells(line) for line in lines if line.startswith("│ memory"))
    chance = next(cells(line) for line in lines if line.startswith("│ chance"))
    assert head[1:] == ["1", "2", "4", "8", "16"]
    assert memory[-1] == "91.4±2.1"
    assert chance[1:] == ["3.1"] * 5
    arms = [cells(line)[0] for line in lines if "±" in line]
    assert arms == [
        "memory",
        "after a night",
        "facts in prompt",
        "no memory",
        "shuffled memory",
        "LoRA only",
        "frozen",
    ]


def test_five_distances_fit_a_terminal_of_80_columns(summary: dict[str, Any]) -> None:
    for distance in summary["recall"]["memory"]:
        summary["recall"]["memory"][distance] = {"mean": 1.0, "ci": [0.962, 1.0], "n": 98}
    text = printed(summary, width=80)
    assert text.count("100.0±1.9") == 5
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_lines_below_name_loss_items_kappa_time_and_memory(summary: dict[str, Any]) -> None:
    text = printed(summary)
    assert "first_night, seed 7" in text
    for line in (
        "loss      train 1.312, validation 1.405, plain text 3.214 nats per token",
        "written   1 210 of 2 048 offered spans (59 %)",
        "store     731 items, 402 pruned, 77 prototypes made",
        "kappa     mean 0.31 after 4 nights",
        "time      train 2 min 51 s, sleep 8.4 s, evaluate 52 s, total 3 min 57 s",
        "memory    peak 1.4 GiB",
    ):
        assert line in text


def test_missing_figures_are_dashes_and_missing_lines_are_left_out(summary: dict[str, Any]) -> None:
    summary["recall"]["memory"]["2"] = {"mean": float("nan"), "ci": None, "n": 0}
    summary["recall"]["frozen"]["1"]["ci"] = None
    del summary["peak_memory_mib"], summary["losses"]
    lines = printed(summary).splitlines()
    memory = next(cells(line) for line in lines if line.startswith("│ memory"))
    frozen = next(cells(line) for line in lines if line.startswith("│ frozen"))
    assert memory[2] == "\u2014"
    assert "±" not in frozen[1]
    assert not [line for line in lines if line.startswith(("memory ", "loss "))]


@pytest.mark.parametrize("summary", [{}, {"recall": None, "items": [], "seed": "x"}])
def test_an_empty_summary_is_still_a_table(summary: dict[str, Any]) -> None:
    assert "no recall figures" in printed(summary)


def test_names_with_brackets_are_printed_as_they_are() -> None:
    cell = {"1": {"mean": 0.5, "ci": 0.1, "n": 3}}
    assert "[red]odd" in printed({"experiment": "[b]x", "recall": {"[red]odd": cell}})


def test_a_table_of_one_distance_keeps_its_lines_whole(summary: dict[str, Any]) -> None:
    summary["recall"] = {"memory": {"1": {"mean": 0.9, "ci": 0.02, "n": 64}}}
    assert "total 3 min 57 s" in printed(summary)
    assert max(len(line) for line in printed(summary, width=60).splitlines()) <= 60


def test_names_and_figures_are_whole_on_eighty_columns(summary: dict[str, Any]) -> None:
    text = printed(summary, width=80)
    assert "…" not in text
    assert "shuffled memory" in text
