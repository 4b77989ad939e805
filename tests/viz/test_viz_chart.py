from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from t4dm.viz import svg
from t4dm.viz.chart import BOTTOM, TOP, Chart
from t4dm.viz.raster import MOST_NEURONS, Strip, printable, raster, shown_neurons


def chart(**options: object) -> Chart:
    settings: dict = {
        "x": (0.0, 10.0),
        "y": (0.0, 1.0),
        "x_title": "Step",
        "y_title": "Loss",
        "name": "a chart",
    }
    return Chart(**{**settings, **options})


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def paths(picture: str, class_: str) -> list[str]:
    found = (element for element in parsed(picture).iter("path"))
    return [element.attrib["d"] for element in found if class_ in element.attrib["class"].split()]


def test_data_land_on_the_pixels_of_their_axes() -> None:
    drawn = chart(width=500.0, height=300.0)
    assert drawn.x(0.0) == drawn.x.start
    assert drawn.x(10.0) == 500.0 - 14.0
    assert drawn.y(0.0) == 300.0 - BOTTOM
    assert drawn.y(1.0) == TOP
    assert drawn.y(0.5) == pytest.approx((300.0 - BOTTOM + TOP) / 2)


def test_a_line_passes_through_its_points() -> None:
    drawn = chart()
    drawn.line([0.0, 10.0], [0.0, 1.0], class_="s-memory")
    start = f"M{svg.coordinate(drawn.x(0.0))} {svg.coordinate(drawn.y(0.0))}"
    end = f"{svg.coordinate(drawn.x(10.0))} {svg.coordinate(drawn.y(1.0))}"
    assert paths(drawn.svg(), "line") == [f"{start} {end}"]


def test_a_gap_in_the_data_is_a_gap_in_the_line() -> None:
    drawn = chart()
    drawn.line([0, 1, 2, 3, 4], [0.1, 0.2, float("nan"), 0.4, 0.5], class_="s-val")
    assert len(paths(drawn.svg(), "line")) == 2


def test_a_line_is_named_at_its_end_and_room_is_left_for_the_name() -> None:
    drawn = chart(labels=["memory"])
    drawn.line([0, 10], [0.2, 0.8], class_="s-memory", label="memory")
    words = [text for text in parsed(drawn.svg()).iter("text") if text.text == "memory"]
    assert len(words) == 1
    assert float(words[0].attrib["x"]) + svg.text_width("memory") <= 560.0


def test_axis_titles_and_ticks_are_written() -> None:
    texts = [text.text for text in parsed(chart().svg()).iter("text")]
    assert {"Step", "Loss", "0.0", "1.0", "10"} <= set(texts)


def test_bars_are_as_high_as_their_counts() -> None:
    drawn = chart(y=(0.0, 10.0))
    drawn.bars([0, 5, 10], [10, 0], class_="s-memory", titles=["ten", "none"])
    bars = [box for box in parsed(drawn.svg()).iter("rect") if "bar" in box.attrib["class"]]
    assert [box.findtext("title") for box in bars] == ["ten"]
    assert float(bars[0].attrib["height"]) == pytest.approx(drawn.y(0) - drawn.y(10), abs=0.1)


def test_an_interval_reaches_from_its_low_to_its_high_end() -> None:
    drawn = chart()
    drawn.interval(5.0, 0.25, 0.75, class_="s-memory")
    whisker = next(line for line in parsed(drawn.svg()).iter("line") if "whisker" in line.attrib["class"])
    ends = [float(whisker.attrib[name]) for name in ("y1", "y2")]
    assert ends == pytest.approx([drawn.y(0.25), drawn.y(0.75)], abs=0.1)


def test_every_text_and_attribute_is_escaped() -> None:
    hostile = '<script>alert("1")</script> & \''
    drawn = chart(name=hostile, x_title=hostile, labels=[hostile])
    drawn.line([0, 10], [0, 1], class_="s-val", label=hostile)
    drawn.point(5, 0.5, class_="s-val", title=hostile)
    picture = drawn.svg()
    assert "<script" not in picture
    assert parsed(picture).attrib["aria-label"] == hostile


@pytest.mark.parametrize("shape", ["circle", "square", "diamond", "down", "up", "cross", "plus"])
def test_each_marker_shape_differs_from_the_others(shape: str) -> None:
    others = {svg.marker(0, 0, other, class_="") for other in ("circle", "square", "diamond", "down", "up")}
    others |= {svg.marker(0, 0, other, class_="") for other in ("cross", "plus")}
    assert len(others) == 7
    assert svg.marker(0, 0, shape, class_="") in others


def test_a_single_point_still_shows() -> None:
    assert svg.polyline([(3.0, 4.0)], class_="line") == '<path d="M3 4h0.01" class="line"/>'


def test_the_raster_has_one_stroke_per_spike_that_is_shown() -> None:
    spikes = np.zeros((3, 4), dtype=np.uint8)
    spikes[0, 1] = spikes[2, 3] = 1
    picture = raster([Strip(0, spikes)], ["a", "b", "c"])
    assert paths(picture, "stroke")[0].count("M") == 2
    assert "16.7 % fire" in picture


def test_a_wide_block_shows_evenly_spaced_neurons() -> None:
    shown = shown_neurons(1024)
    assert len(shown) == MOST_NEURONS
    assert (shown[0], shown[-1]) == (0, 1023)
    assert shown_neurons(5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("\u0120boat", "boat"),
        ("\u2581boat", "boat"),
        ("\u0120", "\u2423"),
        ("\u010a", "\u23ce"),
        ("a" * 20, "a" * 11 + "\u2026"),
    ],
)
def test_tokens_are_shown_as_words(token: str, text: str) -> None:
    assert printable(token) == text


@pytest.mark.parametrize("value", [0.0, 7.0, -4503599627370498.0, 1e99])
def test_a_range_of_one_value_is_opened_around_it(value: float) -> None:
    drawn = chart(x=(value, value), y=(value, value))
    assert drawn.x(value) == pytest.approx((drawn.x.start + drawn.x.stop) / 2)
