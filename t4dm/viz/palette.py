"""One colour, one marker and one name per arm, the same in every figure.

The hues are those of Okabe and Ito (2008), darkened on white and lightened on black until text in them
reads; lines also differ by marker and dash, so that a grey print tells them apart.
"""

from __future__ import annotations

from typing import NamedTuple


class Style(NamedTuple):
    """How a thing is drawn: its name, colours on a light and on a dark page, marker and dash pattern."""

    name: str
    light: str
    dark: str
    marker: str = "circle"
    dash: str = ""


ARMS: dict[str, Style] = {
    "memory": Style("memory", "#0068a8", "#58b4ea", "circle"),
    "after_night": Style("after a night", "#b84300", "#ff8f4a", "square"),
    "in_prompt": Style("facts in prompt", "#007a58", "#35c79c", "diamond", "7 4"),
    "no_memory": Style("no memory", "#33383d", "#d3d7db", "down"),
    "shuffled": Style("shuffled memory", "#a33f7d", "#e79cca", "cross", "3 3"),
    "lora": Style("LoRA only", "#7d6200", "#dcbc45", "up", "7 3 2 3"),
    "frozen": Style("frozen", "#6d7379", "#8f969d", "plus", "1 4"),
}
SERIES: dict[str, Style] = {
    "train": Style("train", "#6a7591", "#97a3c2"),
    "val": Style("validation", "#1d1f21", "#f0f1f2"),
    "text": Style("plain text", "#7d6200", "#dcbc45", "up", "7 3 2 3"),
    "qv": Style("qv", "#0068a8", "#58b4ea", "circle"),
    "attention": Style("attention", "#b84300", "#ff8f4a", "square"),
    "all": Style("all", "#007a58", "#35c79c", "diamond"),
    "before": Style("before", "#6d7379", "#8f969d"),
    "chance": Style("chance", "#6d7379", "#8f969d", "plus", "2 3"),
}
_RAMP_LIGHT = ("#3b2a6e", "#245f96", "#0b8289", "#4d8b35", "#a37b00", "#b44f1c")
_RAMP_DARK = ("#b9a5f0", "#7db8f0", "#4fcdd0", "#93d07a", "#e8c54f", "#f79a68")


def arm_style(arm: str) -> Style:
    """The style of an arm; one that this version does not know is drawn in grey under its own name."""
    return ARMS.get(arm, Style(arm.replace("_", " "), "#6d7379", "#8f969d", "plus", "2 2"))


def style_class(name: str) -> str:
    """The CSS class that carries an arm's or a series' colour."""
    return f"s-{name}" if name in ARMS or name in SERIES else "s-chance"


def block_class(block: int) -> str:
    """The CSS class of a cortical block: cool below, warm above, again from the start after six."""
    return f"b-{block % len(_RAMP_LIGHT)}"


def palette_css(*, dark: bool) -> str:
    """The colour classes for one of the two pages."""
    arms = {**ARMS, **SERIES}
    rules = [f".s-{name}{{--c:{style.dark if dark else style.light}}}" for name, style in arms.items()]
    ramp = _RAMP_DARK if dark else _RAMP_LIGHT
    rules += [f".b-{index}{{--c:{colour}}}" for index, colour in enumerate(ramp)]
    return "".join(rules)


def dash_css() -> str:
    """The dash patterns, which both pages share."""
    styles = {**ARMS, **SERIES}
    return "".join(
        f".line.s-{name}{{stroke-dasharray:{style.dash}}}" for name, style in styles.items() if style.dash
    )
