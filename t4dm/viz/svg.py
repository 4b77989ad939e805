"""SVG by hand: the few elements that the charts are made of, every text escaped.

Colours are CSS classes, never literals, so one drawing serves the light page, the dark page and print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from markupsafe import Markup, escape

Anchor = Literal["start", "middle", "end"]
MIDDLE: Anchor = "middle"
CHARACTER_PX = 6.5  # mean advance of a sans-serif character at 12 px, on the safe side


def coordinate(value: float) -> str:
    """A coordinate in pixels with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def text_width(text: str, px: float = 12.0) -> float:
    """An upper estimate of a label's width in pixels; the page decides the real font."""
    return len(text) * CHARACTER_PX * px / 12.0


def element(name: str, *, title: str = "", body: str = "", **attributes: object) -> str:
    """One element. `class_` is written class, other underscores become dashes; `title` is its tooltip."""
    parts = [
        f'{key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = (f"<title>{escape(title)}</title>" if title else "") + body
    opening = " ".join([name, *parts])
    return f"<{opening}>{inner}</{name}>" if inner else f"<{opening}/>"


def label(
    x: float, y: float, text: str, *, class_: str = "t", anchor: Anchor = "start", rotate: float | None = None
) -> str:
    """Text at a point; `rotate` is in degrees, clockwise, about that point."""
    turned = f"rotate({coordinate(rotate)} {coordinate(x)} {coordinate(y)})" if rotate is not None else None
    return element(
        "text", x=x, y=y, class_=class_, text_anchor=anchor, transform=turned, body=str(escape(text))
    )


def polyline(points: Sequence[tuple[float, float]], *, class_: str, title: str = "") -> str:
    """A line through the points; one point alone becomes a dot by its round cap."""
    steps = " ".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    path = f"M{steps}" if len(points) > 1 else f"M{steps}h0.01"
    return element("path", d=path, class_=class_, title=title)


def segment(x1: float, y1: float, x2: float, y2: float, *, class_: str, title: str = "") -> str:
    """A straight stroke."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, title=title)


def rectangle(x: float, y: float, width: float, height: float, *, class_: str, title: str = "") -> str:
    """A filled box."""
    return element(
        "rect", x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), class_=class_, title=title
    )


def strokes(cells: Iterable[tuple[float, float]], *, length: float, class_: str, width: float) -> str:
    """Many equal horizontal strokes as one path: a raster of thousands of spikes stays small."""
    path = "".join(f"M{coordinate(x)} {coordinate(y)}h{coordinate(length)}" for x, y in cells)
    return element("path", d=path, class_=class_, stroke_width=width) if path else ""


def marker(x: float, y: float, shape: str, *, class_: str, title: str = "") -> str:
    """A point: circle, square, diamond, down, up, cross or plus. Shapes tell arms apart without colour."""
    r = 4.0
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=r, class_=f"fill {class_}", title=title)
    outline = {
        "square": "M-3.5 -3.5h7v7h-7z",
        "diamond": "M0 -5L5 0L0 5L-5 0z",
        "down": "M-4.5 -3.5h9L0 4.5z",
        "up": "M-4.5 3.5h9L0 -4.5z",
    }.get(shape)
    strokes_only = {"cross": "M-3.5 -3.5L3.5 3.5M-3.5 3.5L3.5 -3.5", "plus": "M-4.5 0H4.5M0 -4.5V4.5"}
    at = f"translate({coordinate(x)} {coordinate(y)})"
    if outline:
        return element("path", d=outline, transform=at, class_=f"fill {class_}", title=title)
    return element(
        "path",
        d=strokes_only.get(shape, strokes_only["plus"]),
        transform=at,
        class_=f"stroke {class_}",
        title=title,
    )


def drawing(width: float, height: float, parts: Iterable[str], *, name: str) -> Markup:
    """The whole picture, scaling with the page; `name` is what a screen reader says."""
    box = f"0 0 {coordinate(width)} {coordinate(height)}"
    return Markup(
        element("svg", viewBox=box, role="img", aria_label=name, class_="chart", body="".join(parts))
    )


def _value(value: object) -> Markup:
    return escape(coordinate(value) if isinstance(value, float) else value)
