from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from t4dm.viz.palette import ARMS, SERIES, arm_style, block_class, dash_css, palette_css, style_class

# Viénot, Brettel and Mollon (1999): linear RGB as protanopes and deuteranopes see it.
PROTAN = np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]])
DEUTAN = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
PAGES = {"light": "#ffffff", "dark": "#15171a"}


def linear(colour: str) -> np.ndarray:
    raw = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(raw <= 0.04045, raw / 12.92, ((raw + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.1 contrast ratio, 1 to 21."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("page", ["light", "dark"])
def test_a_label_in_any_colour_can_be_read(page: str) -> None:
    for name, style in {**ARMS, **SERIES}.items():
        assert contrast(getattr(style, page), PAGES[page]) >= 4.5, name


@pytest.mark.parametrize("page", ["light", "dark"])
@pytest.mark.parametrize("eye", [np.eye(3), PROTAN, DEUTAN], ids=["usual", "protan", "deutan"])
def test_memory_and_its_controls_differ_to_every_eye(page: str, eye: np.ndarray) -> None:
    for one, other in combinations(("memory", "no_memory", "shuffled", "after_night", "in_prompt"), 2):
        a, b = (lab(eye @ linear(getattr(ARMS[arm], page))) for arm in (one, other))
        assert np.linalg.norm(a - b) > 10, (one, other)


def test_arms_differ_without_colour_too() -> None:
    assert len({style.marker for style in ARMS.values()}) == len(ARMS)


def test_an_unknown_arm_gets_its_own_name_in_grey() -> None:
    assert arm_style("ram_store").name == "ram store"
    assert style_class("ram_store") == "s-chance"
    assert style_class("memory") == "s-memory"


def test_the_css_names_every_arm_and_block_once() -> None:
    for css in (palette_css(dark=False), palette_css(dark=True)):
        assert all(css.count(f".s-{arm}{{") == 1 for arm in ARMS)
        assert all(css.count(f".{block_class(block)}{{") == 1 for block in range(6))
    assert ".line.s-in_prompt{stroke-dasharray:7 4}" in dash_css()
