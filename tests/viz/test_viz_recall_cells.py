from __future__ import annotations

from typing import Any

import pytest

from t4dm.viz.recall_cells import all_distances, headline, night_sentence, recall_cells


def summary(chance: float | None = 0.03, **arms: dict[str, Any]) -> dict[str, Any]:
    return {"chance": chance, "recall": arms}


def at(mean: float, ci: Any = 0.02, n: int = 100) -> dict[str, Any]:
    return {"mean": mean, "ci": ci, "n": n}


def said(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_memory_above_both_controls_everywhere() -> None:
    text = headline(
        summary(
            memory={"1": at(0.95), "16": at(0.91)},
            no_memory={"1": at(0.03), "16": at(0.02)},
            shuffled={"1": at(0.04), "16": at(0.04)},
        )
    )
    assert said(text) == (
        "With memory the model answers 91 to 95 % of the questions whose fact lies 1 and 16 windows back, "
        "against 2 to 3 % without memory and 4 % with another episode's memories (chance 3.0 %): "
        "memory is better at every distance (the 95 % intervals do not touch)."
    )


def test_overlapping_intervals_are_not_called_better() -> None:
    text = headline(
        summary(memory={"1": at(0.9), "2": at(0.06, 0.05)}, no_memory={"1": at(0.03), "2": at(0.03, 0.05)})
    )
    assert "memory is better at 1 window (the 95 % intervals do not touch), not clearly at 2." in said(text)


def test_a_shuffled_memory_that_does_as_well_is_no_success() -> None:
    text = headline(summary(memory={"1": at(0.9)}, no_memory={"1": at(0.1)}, shuffled={"1": at(0.9)}))
    assert text.endswith("memory is not clearly better at any distance.")


def test_a_memory_that_harms_is_not_called_better() -> None:
    text = headline(summary(memory={"1": at(0.02)}, no_memory={"1": at(0.5)}))
    assert text.endswith("memory is not clearly better at any distance.")


def test_figures_without_intervals_are_said_to_be_so() -> None:
    text = headline(summary(memory={"1": at(0.9, None)}, no_memory={"1": at(0.1, None)}))
    assert "by single figures, without intervals" in text


@pytest.mark.parametrize(
    "empty", [{}, {"recall": None}, {"recall": {"memory": {}}}, {"recall": {"memory": {"1": {"mean": None}}}}]
)
def test_without_figures_there_is_no_result(empty: dict[str, Any]) -> None:
    assert "no result to state yet" in headline(empty)


def test_arms_at_different_distances_are_not_compared() -> None:
    assert "cannot be compared" in headline(summary(memory={"1": at(0.9)}, no_memory={"2": at(0.1)}))


def test_an_interval_is_a_half_width_or_a_pair() -> None:
    cells = recall_cells(
        summary(memory={"1": at(0.9, 0.02), "2": at(0.9, [0.85, 0.93]), "4": at(0.9, float("nan"))})
    )
    line = cells["memory"]
    assert (line[1].low, line[1].high) == (pytest.approx(0.88), pytest.approx(0.92))
    assert (line[2].low, line[2].high) == (0.85, 0.93)
    assert not line[4].has_interval


def test_arms_come_in_their_order_and_distances_as_numbers() -> None:
    cells = recall_cells(
        summary(
            zeta={"1": at(0.1)}, frozen={"16": at(0.1), "2": at(0.1), "x": at(0.5)}, memory={"1": at(0.9)}
        )
    )
    assert list(cells) == ["memory", "frozen", "zeta"]
    assert list(cells["frozen"]) == [2, 16]
    assert all_distances(cells) == [1, 2, 16]


def test_the_night_is_weighed_in_points() -> None:
    text = night_sentence(
        summary(
            memory={"1": at(0.95), "2": at(0.93)}, after_night={"1": at(0.94), "2": at(0.92), "4": at(0.1)}
        )
    )
    assert (
        said(text)
        == "After a night of sleep it answers 93 % on average over the distances: the night lost 1.0 points."
    )
    assert night_sentence(summary(memory={"1": at(0.9)})) == ""
    for after in (0.9, 0.8999):
        same = night_sentence(summary(memory={"1": at(0.9)}, after_night={"1": at(after)}))
        assert said(same).endswith("on average over the distances: the night cost nothing.")
