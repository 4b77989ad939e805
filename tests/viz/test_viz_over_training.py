from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t4dm.viz.metrics import Series
from t4dm.viz.over_training import Curve, chart_over_training, how_drawn, night_steps, traced
from t4dm.viz.run_folder import read_run_folder

RunMaker = Callable[..., Path]


def curve(count: int, *, noisy: bool = True) -> Curve:
    x = np.arange(count, dtype=float)
    return Curve(Series("loss", x, 3.0 + np.sin(x)), "train", "s-train", noisy)


def lines(picture: str, class_: str) -> list[ET.Element]:
    found = ET.fromstring(picture).iter("path")
    return [path for path in found if class_ in path.attrib["class"].split()]


def drawn(curves: list[Curve], nights: list[float] | None = None) -> str:
    return chart_over_training(curves, y_title="Loss", name="loss", nights=nights or [])


def test_a_long_noisy_curve_is_faint_with_its_mean_on_top() -> None:
    picture = drawn([curve(200)])
    assert len(lines(picture, "faint")) == 1
    assert len(lines(picture, "line")) == 2


def test_a_short_or_quiet_curve_is_drawn_as_it_is() -> None:
    assert not lines(drawn([curve(20)]), "faint")
    assert not lines(drawn([curve(200, noisy=False)]), "faint")
    assert len(list(ET.fromstring(drawn([curve(20)])).iter("circle"))) == 20


def test_one_spike_does_not_flatten_the_rest() -> None:
    y = np.ones(300)
    y[0] = 1000.0
    picture = drawn([Curve(Series("loss", np.arange(300.0), y), "train", "s-train", noisy=True)])
    ticks = [text.text for text in ET.fromstring(picture).iter("text") if text.attrib["class"] == "tick"]
    assert "1000" not in ticks


def test_each_night_is_a_rule_and_names_never_touch() -> None:
    nights = [float(step) for step in range(0, 200, 5)]
    picture = drawn([curve(200)], nights)
    rules = [line for line in ET.fromstring(picture).iter("line") if "moment" in line.attrib["class"]]
    names = [text for text in ET.fromstring(picture).iter("text") if (text.text or "").startswith("night")]
    places = [float(name.attrib["x"]) for name in names]
    assert len(rules) == 40
    assert names[0].text == "night 1"
    assert min(np.diff(places)) >= 50
    assert "Dashed" in how_drawn([curve(200)], nights)
    assert how_drawn([curve(20)], []) == ""


def test_nights_outside_the_curve_are_not_drawn() -> None:
    assert "night" not in drawn([curve(100)], [5000.0])


def test_the_steps_of_nights_come_from_the_metrics(make_run: RunMaker) -> None:
    assert night_steps(read_run_folder(make_run())) == [145.0, 295.0, 445.0, 595.0]


def test_traces_stand_on_their_steps_where_these_fit(make_run: RunMaker) -> None:
    run = read_run_folder(make_run())
    series = traced(run, "rate", np.ones(120))
    other = traced(run, "rate", np.array([1.0, np.nan, 3.0]))
    assert series is not None
    assert other is not None
    assert series.x[-1] == 595.0
    assert (other.x.tolist(), other.y.tolist()) == ([0.0, 2.0], [1.0, 3.0])
    assert traced(run, "rate", np.full(3, np.nan)) is None


@pytest.mark.parametrize("count", [1, 2])
def test_a_curve_of_one_or_two_points_is_drawn(count: int) -> None:
    assert "nan" not in drawn([curve(count)])
