"""A chart: two axes in data units, and the marks drawn between them.

Lines carry their names at their ends, kept apart, so a reader needs no legend. Hovering shows figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from t4dm.viz import svg
from t4dm.viz.labels import spread
from t4dm.viz.ticks import Ticks, is_single, nice_ticks, tick_text

TOP, BOTTOM, LABEL_GAP = 22.0, 44.0, 14.5


class Scale(NamedTuple):
    """A linear map from data to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


class _EndLabel(NamedTuple):
    x: float
    y: float
    text: str
    class_: str


class Chart:
    """Axes with a frame of `width` x `height` pixels; add marks, then take `svg()`.

    Args:
        x, y: the data range of each axis, low below high.
        x_title, y_title: what is measured, with its unit.
        name: what a screen reader says of the picture.
        x_ticks, y_ticks: where ticks go; round numbers by default.
        x_texts: the words under the x ticks, one each, in place of numbers.
        labels: the names that will stand at line ends; they decide the right margin.
    """

    def __init__(
        self,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        x_title: str,
        y_title: str,
        name: str,
        width: float = 560.0,
        height: float = 310.0,
        x_ticks: Ticks | None = None,
        x_texts: Sequence[str] | None = None,
        y_ticks: Ticks | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self._name, self._width, self._height = name, width, height
        self._y_ticks = y_ticks or nice_ticks(*y)
        self._x_ticks = x_ticks or nice_ticks(*x, count=6)
        texts = [tick_text(value, self._x_ticks.step) for value in self._x_ticks.at]
        self._x_texts = list(x_texts) if x_texts is not None else texts
        widest = max((len(tick_text(value, self._y_ticks.step)) for value in self._y_ticks.at), default=1)
        left = 30.0 + svg.text_width("0" * widest)
        right = 14.0 + max((svg.text_width(text) + 10 for text in labels), default=0.0)
        self.x = Scale(*_opened(x), left, width - right)
        self.y = Scale(*_opened(y), height - BOTTOM, TOP)
        self._titles = (x_title, y_title)
        self._marks: list[str] = []
        self._over: list[str] = []
        self._ends: list[_EndLabel] = []

    def line(
        self, xs: Sequence[float], ys: Sequence[float], *, class_: str, label: str = "", title: str = ""
    ) -> None:
        """A line through the finite points; gaps in the data are gaps in the line."""
        run: list[tuple[float, float]] = []
        last: tuple[float, float] | None = None
        for x, y in [*zip(xs, ys, strict=True), (math.nan, math.nan)]:
            if math.isfinite(x) and math.isfinite(y):
                run.append((self.x(x), self.y(y)))
            elif run:
                self._marks.append(svg.polyline(run, class_=f"line {class_}", title=title or label))
                last, run = run[-1], []
        if label and last is not None:
            self._ends.append(_EndLabel(last[0], last[1], label, class_))

    def steps(
        self, edges: Sequence[float], heights: Sequence[float], *, class_: str, title: str = ""
    ) -> None:
        """The outline of a histogram."""
        points = [(self.x(edges[0]), self.y(0))]
        for left, right, height in zip(edges, edges[1:], heights, strict=False):
            points += [(self.x(left), self.y(height)), (self.x(right), self.y(height))]
        self._marks.append(
            svg.polyline([*points, (self.x(edges[-1]), self.y(0))], class_=f"line {class_}", title=title)
        )

    def bars(
        self, edges: Sequence[float], heights: Sequence[float], *, class_: str, titles: Sequence[str] = ()
    ) -> None:
        """The filled columns of a histogram; `edges` has one more entry than `heights`."""
        for index, height in enumerate(heights):
            left, right = self.x(edges[index]), self.x(edges[index + 1])
            top = self.y(height)
            title = titles[index] if titles else ""
            if height > 0:
                self._marks.append(
                    svg.rectangle(
                        left + 0.5,
                        top,
                        right - left - 1,
                        self.y(0) - top,
                        class_=f"bar {class_}",
                        title=title,
                    )
                )

    def interval(self, x: float, low: float, high: float, *, class_: str, shift: float = 0.0) -> None:
        """A vertical whisker with caps; `shift` in pixels keeps neighbours apart."""
        at, bottom, top = self.x(x) + shift, self.y(low), self.y(high)
        cross = "".join(svg.segment(at - 3, y, at + 3, y, class_=f"whisker {class_}") for y in (bottom, top))
        self._marks.append(svg.segment(at, bottom, at, top, class_=f"whisker {class_}") + cross)

    def point(
        self, x: float, y: float, *, class_: str, shape: str = "circle", title: str = "", shift: float = 0.0
    ) -> None:
        """A marker on top of the lines."""
        self._over.append(svg.marker(self.x(x) + shift, self.y(y), shape, class_=class_, title=title))

    def level(self, y: float, *, class_: str, label: str = "") -> None:
        """A horizontal rule across the chart, such as chance."""
        at = self.y(y)
        self._marks.append(
            svg.segment(self.x.start, at, self.x.stop, at, class_=f"line thin {class_}", title=label)
        )
        if label:
            self._ends.append(_EndLabel(self.x.stop, at, label, class_))

    def moment(self, x: float, *, class_: str, title: str = "", label: str = "") -> None:
        """A vertical rule at one time, such as a night; its label stands above the plot."""
        at = self.x(x)
        self._marks.append(svg.segment(at, TOP, at, self.y.start, class_=f"moment {class_}", title=title))
        if label:
            self._over.append(svg.label(at, TOP - 9, label, class_=f"small fill {class_}", anchor=svg.MIDDLE))

    def svg(self) -> Markup:
        """The finished picture."""
        plot = svg.element(
            "svg",
            x=self.x.start,
            y=TOP - 6,
            width=self.x.stop - self.x.start + 6,
            height=self.y.start - TOP + 7,
            viewBox=" ".join(
                svg.coordinate(value)
                for value in (self.x.start, TOP - 6, self.x.stop - self.x.start + 6, self.y.start - TOP + 7)
            ),
            body="".join(self._marks),
        )
        return svg.drawing(
            self._width,
            self._height,
            [*self._grid(), plot, *self._over, *self._end_labels(), *self._axis_titles()],
            name=self._name,
        )

    def _grid(self) -> list[str]:
        parts = []
        for value in self._y_ticks.at:
            at = self.y(value)
            parts.append(svg.segment(self.x.start, at, self.x.stop, at, class_="grid"))
            text = tick_text(value, self._y_ticks.step)
            parts.append(svg.label(self.x.start - 6, at + 4, text, class_="tick", anchor="end"))
        base = self.y.start
        parts.append(svg.segment(self.x.start, base, self.x.stop, base, class_="axis"))
        for value, text in zip(self._x_ticks.at, self._x_texts, strict=True):
            at = self.x(value)
            parts.append(svg.segment(at, base, at, base + 4, class_="axis"))
            parts.append(svg.label(at, base + 17, text, class_="tick", anchor="middle"))
        return parts

    def _axis_titles(self) -> list[str]:
        x_title, y_title = self._titles
        middle_x, middle_y = (self.x.start + self.x.stop) / 2, (self.y.start + self.y.stop) / 2
        return [
            svg.label(middle_x, self._height - 6, x_title, class_="title", anchor="middle"),
            svg.label(14.0, middle_y, y_title, class_="title", anchor="middle", rotate=-90.0),
        ]

    def _end_labels(self) -> list[str]:
        places = spread([end.y for end in self._ends], gap=LABEL_GAP, low=TOP, high=self.y.start - 2)
        parts, x = [], self.x.stop + 14
        for end, place in zip(self._ends, places, strict=True):
            if abs(place - end.y) > 3 or x - end.x > 30:
                parts.append(svg.segment(end.x + 5, end.y, x - 3, place, class_=f"leader {end.class_}"))
            parts.append(svg.label(x, place + 4, end.text, class_=f"t fill {end.class_}"))
        return parts


def _opened(span: tuple[float, float]) -> tuple[float, float]:
    """A range that has a length: one value alone gets room that is large beside its own rounding."""
    low, high = float(span[0]), float(span[1])
    if not is_single(low, high):
        return low, high
    room = max(0.5, 0.1 * abs(low))
    return low - room, low + room
